"""What a client gets of an engine's answer, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from helpers.fake_vllm import (
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    Connection,
    FakeVllm,
    Script,
    answering,
    captured,
    captured_body,
    chunk,
    delta,
    event,
    response,
    stream,
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


async def test_a_stream_passes_byte_for_byte_with_headers_against_buffering() -> None:
    async with (
        FakeVllm(answering(captured("chat-stream"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat(stream=True)
    assert answer.content == captured_body("chat-stream") + b"\n\n"
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["chat-stream", "stream-queued-keepalive"])
async def test_a_stream_is_whole_wherever_its_bytes_are_cut(name: str) -> None:
    answer = captured(name)
    cut = 0

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(answer[:cut], answer[cut:])

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        for cut in range(1, len(answer), 3):
            received = await live.chat(stream=True)
            assert received.content == captured_body(name) + b"\n\n", cut


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


async def test_an_event_reaches_the_client_before_the_next_one_is_sent() -> None:
    seen = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")))
        await seen.wait()
        await connection.send(chunk(delta("two")) + chunk(DONE) + LAST_CHUNK)

    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica)) as live,
        live.client.stream(
            "POST", "/v1/chat/completions", content=b'{"model":"tiny","stream":true}'
        ) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == delta("one")
        seen.set()
        assert b"".join([piece async for piece in pieces]) == delta("two") + DONE


def error_of(content: bytes) -> dict[str, object]:
    """Return the error of a stream's last event, and see that it ends with it."""
    assert b"[DONE]" not in content
    last = content.rstrip(b"\n").rpartition(b"\n\n")[2]
    error: dict[str, object] = json.loads(last.removeprefix(b"data: "))["error"]
    return error


VLLM_ERROR = event({"error": {"message": "EngineCore", "type": "InternalServerError", "code": 500}})

BROKEN_STREAMS = {
    "lost": ([delta("one")], "close", "backend_unreachable"),
    "reset": ([delta("one")], "reset", "backend_unreachable"),
    "lost inside an event": ([delta("one"), b'data: {"half'], "close", "backend_unreachable"),
    "ended without [DONE]": ([delta("one")], "end", "answer_aborted"),
    "aborted": ([delta("", finish_reason="abort"), DONE], "end", "answer_aborted"),
    "aborted and lost": ([delta("", finish_reason="abort"), DONE], "reset", "backend_unreachable"),
    "not HTTP any more": ([delta("one")], "garbage", "backend_unreachable"),
}


def breaking(events: list[bytes], end: str) -> Script:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + b"".join(map(chunk, events)))
        if end == "end":
            await connection.send(LAST_CHUNK)
            await connection.hung_up()
        elif end == "garbage":
            await connection.send(b"zzz\r\n")
            await connection.hung_up()
        elif end == "reset":
            connection.reset()
        else:
            connection.writer.close()

    return script


@pytest.mark.parametrize(("events", "end", "code"), BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
async def test_a_stream_that_breaks_ends_with_an_error_and_without_done(
    events: list[bytes], end: str, code: str
) -> None:
    async with (
        FakeVllm(breaking(events, end)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat(stream=True)
        assert answer.status_code == 200
        assert error_of(answer.content)["code"] == code
        assert live.lines()[0]["error"] == code


@pytest.mark.parametrize(
    ("begin", "limit"),
    [
        (STREAM_HEAD, "first_byte_timeout_seconds"),
        (STREAM_HEAD + chunk(delta("one")), "idle_timeout_seconds"),
        (STREAM_HEAD + chunk(delta("one")), "total_timeout_seconds"),
    ],
    ids=["never began", "fell silent", "took too long"],
)
async def test_a_stream_that_hangs_ends_with_an_error(begin: bytes, limit: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(begin)
        await connection.hung_up()

    limits: dict[str, Any] = {limit: 0.05}
    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica), **limits) as live:
        answer = await live.chat(stream=True)
        assert error_of(answer.content)["code"] == "backend_timeout"
        await engine.left.acquire()


async def test_an_engines_own_error_event_passes_and_the_done_after_it_does_not() -> None:
    answer = stream([delta("one"), VLLM_ERROR, DONE])
    async with (
        FakeVllm(answering(answer)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        received = await live.chat(stream=True)
    assert received.content == delta("one") + VLLM_ERROR


async def test_a_stream_lost_after_done_was_a_success() -> None:
    async with (
        FakeVllm(breaking([delta("one"), DONE], "reset")) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        received = await live.chat(stream=True)
        assert received.content == delta("one") + DONE
        assert live.lines()[0]["error"] is None


async def test_an_aborted_answer_that_is_no_stream_is_a_502() -> None:
    body = captured_body("chat").replace(b'"finish_reason":"length"', b'"finish_reason":"abort"')
    async with (
        FakeVllm(answering(response(body))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "answer_aborted")


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
async def test_a_client_that_leaves_frees_its_engine_at_once(streaming: bool) -> None:
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
        loop = asyncio.get_running_loop()
        left_at = loop.time()
        writer.transport.abort()
        await engine.left.acquire()
        assert loop.time() - left_at < 0.1
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
        for _ in range(4000):
            await connection.send(chunk(delta("x" * 16000)))
            sent += 16000

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny", "stream": True}))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 16 << 20  # what the kernel's buffers of two connections take
        writer.transport.abort()
        await engine.left.acquire()
