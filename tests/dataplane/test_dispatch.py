"""Which replica is asked, and when another one is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from endpoint_gateway.catalog import Replica
from helpers.fake_vllm import (
    Connection,
    FakeVllm,
    Script,
    answering,
    captured,
    captured_body,
    response,
)
from helpers.live_server import endpoint, live_gateway

DRAINING = (
    b'{"error":{"message":"cannot schedule new futures after shutdown",'
    b'"type":"InternalServerError","param":null,"code":500}}'
)
GOOD = captured("chat")


async def gone() -> Replica:
    """Return a replica that refuses connections."""
    async with FakeVllm(answering(b"")) as engine:
        return engine.replica


REFUSALS = {
    "502": response(b"bad gateway", status=502),
    "503": captured("err-queue-full"),
    "draining": response(DRAINING, status=500),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_another_replica_is_asked_where_one_refuses(refusal: bytes) -> None:
    async with (
        FakeVllm(answering(refusal)) as bad,
        FakeVllm(answering(GOOD)) as good,
        live_gateway(endpoint(bad.replica, good.replica)) as live,
    ):
        for _ in range(4):
            assert (await live.chat()).content == captured_body("chat")
        assert len(good.requests) == 4
        assert bad.requests
        assert live.balancer.in_flight(bad.replica) == live.balancer.in_flight(good.replica) == 0


async def test_another_replica_is_asked_where_one_cannot_be_reached() -> None:
    async with (
        FakeVllm(answering(GOOD)) as good,
        live_gateway(endpoint(await gone(), good.replica)) as live,
    ):
        for _ in range(4):
            assert (await live.chat()).status_code == 200
        attempts = [line["attempts"] for line in live.lines()]
    assert sorted(attempts) == [1, 1, 1, 2]  # then it is paused


async def test_a_replica_that_leaves_the_catalog_gets_no_more_requests() -> None:
    async with (
        FakeVllm(answering(GOOD)) as old,
        FakeVllm(answering(GOOD)) as new,
        live_gateway(endpoint(old.replica)) as live,
    ):
        await live.chat()
        live.directory.catalog = type(live.directory.catalog).of([endpoint(new.replica)])
        await live.chat()
    assert (len(old.requests), len(new.requests)) == (1, 1)


async def test_a_refusal_of_the_last_replica_passes() -> None:
    async with (
        FakeVllm(answering(captured("err-queue-full"))) as one,
        FakeVllm(answering(captured("err-queue-full"))) as two,
        live_gateway(endpoint(one.replica, two.replica)) as live,
    ):
        answer = await live.chat()
    assert answer.status_code == 503
    assert answer.content == captured_body("err-queue-full")
    assert len(one.requests) + len(two.requests) == 2


async def test_the_only_replicas_draining_is_a_503_to_come_back_after() -> None:
    async with (
        FakeVllm(answering(response(DRAINING, status=500))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_ready_replica")
    assert answer.headers["retry-after"]


async def test_no_number_of_replicas_that_cannot_be_reached_hides_one_that_can() -> None:
    async with FakeVllm(answering(GOOD)) as good:
        replicas = [*[await gone() for _ in range(8)], good.replica]
        for _ in range(8):
            async with live_gateway(endpoint(*replicas)) as live:
                assert (await live.chat()).status_code == 200


async def test_a_request_is_refused_five_times_at_most() -> None:
    async with AsyncExitStack() as stack:
        refusing = [FakeVllm(answering(REFUSALS["503"])) for _ in range(7)]
        replicas = [(await stack.enter_async_context(each)).replica for each in refusing]
        live = await stack.enter_async_context(live_gateway(endpoint(*replicas)))
        assert (await live.chat()).status_code == 503
    assert sum(len(each.requests) for each in refusing) == 5


async def test_no_reachable_replica_is_a_502() -> None:
    async with live_gateway(endpoint(await gone(), await gone())) as live:
        answer = await live.chat()
        assert answer.status_code == 502
        assert live.lines()[0]["attempts"] == 2


@pytest.mark.parametrize("status", [502, 503])
@pytest.mark.parametrize("end", ["stalls", "breaks"])
async def test_a_refusal_needs_no_body(status: int, end: str) -> None:
    async def refusing(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"no room", status=status)[:-1])
        if end == "stalls":
            await connection.hung_up()

    async with (
        FakeVllm(refusing) as bad,
        FakeVllm(answering(GOOD)) as good,
        live_gateway(endpoint(bad.replica, good.replica)) as live,
    ):
        for _ in range(2):
            assert (await live.chat()).status_code == 200
        assert bad.requests


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_error_whose_body_breaks_off_is_told_by_its_status(status: int) -> None:
    async def breaking(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b'{"error":{"message":"x"}}', status=status)[:-9])

    async with FakeVllm(breaking) as engine, live_gateway(endpoint(engine.replica)) as live:
        answer = await live.chat()
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == f"The model's engine answered with {status}."


UNREPEATED = {
    "an error of the engine": response(b'{"error":{"message":"EngineCore"}}', status=500),
    "a bad request": captured("err-bad-json"),
    "no HTTP": b"what?\r\n\r\n",
    "a broken answer": GOOD[:-5],
}


@pytest.mark.parametrize("answer", UNREPEATED.values(), ids=UNREPEATED)
async def test_nothing_else_is_asked_twice(answer: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)

    async with (
        FakeVllm(script) as one,
        FakeVllm(script) as two,
        live_gateway(endpoint(one.replica, two.replica)) as live,
    ):
        assert (await live.chat()).status_code >= 400
    assert len(one.requests) + len(two.requests) == 1


async def test_a_prompt_that_kills_an_engine_is_not_handed_to_the_next() -> None:
    async def dying(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    async with (
        FakeVllm(dying) as one,
        FakeVllm(dying) as two,
        live_gateway(endpoint(one.replica, two.replica)) as live,
    ):
        assert (await live.chat()).status_code == 502
    assert len(one.requests) + len(two.requests) == 1


async def test_nor_is_one_that_kills_an_engine_on_a_kept_connection() -> None:
    """Each engine is warm; the one that gets the prompt dies with all that it listens on."""

    async def mortal(connection: Connection) -> None:
        await connection.request()
        await connection.send(GOOD)
        await connection.request()
        connection.die()

    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(FakeVllm(mortal)) for _ in range(3)]
        replicas = [engine.replica for engine in engines]
        live = await stack.enter_async_context(live_gateway(endpoint(*replicas)))
        for _ in replicas:
            assert (await live.chat()).status_code == 200
        assert (await live.chat()).status_code == 502
        assert sorted(len(engine.requests) for engine in engines) == [1, 1, 2]
        (dead,) = (engine for engine in engines if len(engine.requests) == 2)
        lease = live.balancer.lease([dead.replica], without=(), now=0.0)
        assert lease is not None
        assert lease.paused_until > 0.0


async def test_requests_go_where_the_fewest_are() -> None:
    release = asyncio.Event()

    async def held(connection: Connection) -> None:
        while True:
            await connection.request()
            await release.wait()
            await connection.send(GOOD)

    async with (
        FakeVllm(held) as one,
        FakeVllm(held) as two,
        live_gateway(endpoint(one.replica, two.replica)) as live,
    ):
        asked = [asyncio.create_task(live.chat()) for _ in range(6)]
        for engine in (one, two):
            for _ in range(3):
                await engine.asked.acquire()
        release.set()
        await asyncio.gather(*asked)
    assert (len(one.requests), len(two.requests)) == (3, 3)


def hanging_up_after_each_answer() -> Script:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(GOOD)
        connection.writer.close()

    return script


async def test_connections_that_die_while_idle_fail_no_request() -> None:
    async with (
        FakeVllm(hanging_up_after_each_answer()) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answers = [await live.chat() for _ in range(100)]
        many = await asyncio.gather(*(live.chat() for _ in range(100)))
    assert {answer.status_code for answer in [*answers, *many]} == {200}


async def test_a_kept_connection_that_dies_under_a_request_is_replaced_once() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(GOOD)
        await connection.request()
        connection.reset()

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        assert (await live.chat()).status_code == 200
        assert (await live.chat()).status_code == 200
    assert engine.connections == 2
    assert len(engine.requests) == 3
