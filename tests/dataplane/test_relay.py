"""What a client gets of an engine's answer, over real sockets."""

from __future__ import annotations

import httpx
import pytest

from helpers.fake_vllm import (
    STREAM_HEAD,
    Connection,
    FakeVllm,
    answering,
    captured,
    captured_body,
    chunk,
    delta,
    response,
    until_it_stops,
)
from helpers.live_server import endpoint, live_gateway, raw_request


async def test_an_answer_passes_byte_for_byte() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert answer.status_code == 200
    assert answer.content == captured_body("chat")
    assert answer.headers["content-type"] == "application/json"


async def test_an_answer_is_whole_wherever_its_bytes_are_cut() -> None:
    answer = captured("completion")
    cut = 0

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(answer[:cut], answer[cut:])

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        for cut in range(1, len(answer)):
            received = await live.chat()
            assert received.content == captured_body("completion"), cut


async def test_an_aborted_answer_that_is_no_stream_is_a_502() -> None:
    body = captured_body("chat").replace(b'"finish_reason":"length"', b'"finish_reason":"abort"')
    async with (
        FakeVllm(answering(response(body))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "answer_aborted")


async def test_an_answer_without_content_has_no_length() -> None:
    async with (
        FakeVllm(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert (answer.status_code, answer.content) == (204, b"")
    assert not {"content-length", "transfer-encoding"} & set(answer.headers)


async def test_an_engine_sets_nothing_for_the_address_that_it_shares() -> None:
    set_for_all = [
        "set-cookie: a=b",
        "alt-svc: h3=x",
        "strict-transport-security: max-age=1",
        "clear-site-data: x",
        "x-accel-redirect: /secret",
        "x-accel-buffering: yes",
        "x-sendfile: /secret",
        "report-to: {}",
        "access-control-allow-origin: *",
    ]
    headers = "".join(f"{each}\r\n" for each in [*set_for_all, "x-mine: 1"])
    async with (
        FakeVllm(answering(response(b"{}", headers=headers))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    ours = {"content-type", "content-length", "date", "x-request-id"}
    assert set(answer.headers) == ours | {"x-mine"}


@pytest.mark.parametrize("cut", [20, 60, 120, 300])
async def test_an_answer_that_breaks_off_is_a_502(cut: int) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(captured("chat")[:cut])

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        answer = await live.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "backend_unreachable")


async def test_an_answer_too_large_to_be_held_is_passed_on_as_it_comes() -> None:
    body = b'{"x":"' + b"y" * (6 << 20) + b'"}'
    async with (
        FakeVllm(answering(response(body))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert answer.content == body


async def test_a_large_answer_that_breaks_off_is_not_ended_in_order() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"y" * (6 << 20))[:-1])

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        with pytest.raises(httpx.RemoteProtocolError):
            await live.chat()


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])
async def test_a_client_that_leaves_frees_its_engine(streaming: bool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        if streaming:
            await connection.send(STREAM_HEAD + chunk(delta("one")))
        await connection.hung_up()

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny", "stream": streaming}))
        await engine.asked.acquire()
        if streaming:
            await reader.readuntil(b"one")
        writer.transport.abort()
        await engine.left.acquire()
        assert (live.lines()[0]["status"], live.lines()[0]["error"]) == (
            200 if streaming else 499,
            "client_gone",
        )


async def test_a_client_that_leaves_gives_its_place_back() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.hung_up()

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        _, writer = await live.connect()
        writer.write(raw_request({"model": "tiny"}))
        await engine.asked.acquire()
        writer.transport.abort()
        await engine.left.acquire()
        assert live.balancer.in_flight(engine.replica) == 0


async def test_a_slow_client_slows_its_engine_and_grows_no_buffer() -> None:
    sent = 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(STREAM_HEAD)
        for _ in range(8000):
            await connection.send(chunk(delta("x" * 16000)))
            sent += 16000

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny", "stream": True}))
        await reader.readuntil(b"\r\n\r\n")
        await until_it_stops(lambda: sent)
        # what the kernel's buffers of two connections take where they may be large, of 122 MiB
        assert sent < 64 << 20
        writer.transport.abort()
        await engine.left.acquire()
