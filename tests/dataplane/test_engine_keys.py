"""The gateway's own key at the engines, while they are given another one after the other."""

from __future__ import annotations

import pytest

from helpers.fake_vllm import (
    Connection,
    FakeVllm,
    Script,
    answering,
    captured,
    captured_body,
    stream,
)
from helpers.live_server import Live, endpoint, live_gateway

NEW, OLD, OLDEST = b"Bearer sk-engine-3", b"Bearer sk-engine-2", b"Bearer sk-engine-1"
ROLLING = (NEW, OLD, OLDEST)
REFUSED = captured("err-wrong-key")


def wanting(credential: bytes, answer: bytes = captured("chat")) -> Script:
    """Return an engine that takes one key."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            fits = request.headers["authorization"] == credential.decode()
            await connection.send(answer if fits else REFUSED)

    return script


def asked_with(engine: FakeVllm) -> list[bytes]:
    return [request.headers["authorization"].encode() for request in engine.requests]


async def upstream_metrics(live: Live) -> list[str]:
    page = live.gateway.metrics.page().decode()
    return [
        line
        for line in page.splitlines()
        if line.startswith("vllm_endpoints_gateway_upstream") and not line.endswith(" 0.0")
    ]


async def test_the_key_that_fits_is_found_and_remembered() -> None:
    async with (
        FakeVllm(wanting(OLD)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=ROLLING)) as live,
    ):
        answers = [await live.chat() for _ in range(3)]
        attempts = [line["attempts"] for line in live.lines()]
    assert {answer.content for answer in answers} == {captured_body("chat")}
    assert asked_with(engine) == [NEW, OLD, OLD, OLD]
    assert attempts == [1, 1, 1]
    assert engine.connections == 1


async def test_each_replica_is_asked_with_its_own() -> None:
    async with (
        FakeVllm(wanting(OLD)) as old,
        FakeVllm(wanting(NEW)) as new,
        live_gateway(endpoint(old.replica, new.replica, authorizations=ROLLING)) as live,
    ):
        for _ in range(6):
            assert (await live.chat()).status_code == 200
    assert asked_with(new) == [NEW] * 3
    assert asked_with(old) == [NEW, OLD, OLD, OLD]


async def test_a_stream_begins_with_the_key_that_fits() -> None:
    events = stream([b"data: {}\n\n", b"data: [DONE]\n\n"])
    async with (
        FakeVllm(wanting(OLDEST, events)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=ROLLING)) as live,
    ):
        answer = await live.chat(stream=True)
    assert answer.content == b"data: {}\n\ndata: [DONE]\n\n"
    assert asked_with(engine) == list(ROLLING)


async def test_a_replica_that_comes_back_with_another_key_is_asked_anew() -> None:
    async with (
        FakeVllm(wanting(OLD)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=ROLLING)) as live,
    ):
        await live.chat()
        engine.script = wanting(NEW)
        connections = engine.connections
        live.gateway.pool.close()
        assert (await live.chat()).status_code == 200
        assert (await live.chat()).status_code == 200
    assert asked_with(engine)[2:] == [OLD, NEW, NEW]
    assert engine.connections == connections + 1


async def test_a_remembered_key_that_has_gone_is_not_used() -> None:
    async with (
        FakeVllm(wanting(OLD)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=ROLLING)) as live,
    ):
        await live.chat()
        changed = endpoint(engine.replica, authorizations=(NEW,))
        live.directory.catalog = type(live.directory.catalog).of([changed])
        assert (await live.chat()).status_code == 502
    assert asked_with(engine) == [NEW, OLD, NEW]


@pytest.mark.parametrize("candidates", [(NEW,), ROLLING])
async def test_an_engine_that_takes_none_is_our_fault_and_not_the_clients(
    candidates: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        FakeVllm(answering(REFUSED)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=candidates)) as live,
    ):
        for _ in range(2):
            answer = await live.chat()
            assert answer.status_code == 502
            assert "www-authenticate" not in answer.headers
    assert asked_with(engine) == [*candidates, *candidates]
    said = f"the engine of team-a/qwen at {engine.url.removeprefix('http://')} refuses"
    # once, and not for every request
    assert [record.message.startswith(said) for record in caplog.records] == [True]
    assert "sk-" not in caplog.text
    assert live.balancer.in_flight(engine.replica) == 0


async def test_an_engine_that_refuses_us_again_is_told_of_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeVllm(answering(REFUSED)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=(NEW,))) as live,
    ):
        for script, status in ((None, 502), (wanting(NEW), 200), (answering(REFUSED), 502)):
            engine.script = script or engine.script
            live.gateway.pool.close()
            assert (await live.chat()).status_code == status
    assert len(caplog.records) == 2


async def test_a_route_for_which_an_engine_wants_no_key_says_nothing_of_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            guarded = request.path.startswith("/v1/")
            await connection.send(REFUSED if guarded else captured("tokenize"))

    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica, authorizations=(NEW,))) as live,
    ):
        for _ in range(2):
            assert (await live.chat()).status_code == 502
            tokens = await live.post("/tokenize", {"model": "tiny", "prompt": "x"})
            assert tokens.status_code == 200
    assert len(caplog.records) == 1


async def test_an_engine_that_wants_no_key_is_asked_without_one_last() -> None:
    async with (
        FakeVllm(wanting(NEW)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=(NEW, None))) as live,
    ):
        assert (await live.chat()).status_code == 200
    assert asked_with(engine) == [NEW]


async def test_what_was_asked_again_is_counted() -> None:
    async with (
        FakeVllm(wanting(OLD)) as engine,
        live_gateway(endpoint(engine.replica, authorizations=ROLLING)) as live,
    ):
        await live.chat()
        lines = await upstream_metrics(live)
    assert [line.rpartition(" ")[2] for line in lines if "_total" in line] == ["1.0", "1.0"]
    assert any('reason="401"' in line for line in lines)


async def test_a_refusal_whose_body_stalls_does_not_hold_the_next_try_up() -> None:
    async def stalling(connection: Connection) -> None:
        request = await connection.request()
        if request.headers["authorization"] == NEW.decode():
            await connection.send(REFUSED[:-5])
            await connection.hung_up()
        else:
            await connection.send(captured("chat"))

    async with (
        FakeVllm(stalling) as engine,
        live_gateway(endpoint(engine.replica, authorizations=ROLLING)) as live,
    ):
        assert (await live.chat()).status_code == 200
    assert engine.connections == 2
