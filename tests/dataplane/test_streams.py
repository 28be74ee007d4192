"""What a client gets of an engine's stream, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

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
    stream,
)
from helpers.live_server import endpoint, live_gateway

UNFRAMED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


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


@pytest.mark.parametrize("rest", [LAST_CHUNK, b""], ids=["ended", "lost"])
async def test_a_stream_that_fails_before_its_first_event_has_a_status(rest: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + rest)
        connection.reset()

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        answer = await live.chat(stream=True)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] in ("answer_aborted", "backend_unreachable")


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
    "aborted and lost": ([delta("", finish_reason="abort"), DONE], "reset", "answer_aborted"),
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
        (UNFRAMED_HEAD + delta("one"), "idle_timeout_seconds"),
        (STREAM_HEAD + chunk(delta("one")), "total_timeout_seconds"),
    ],
    ids=["never began", "fell silent", "fell silent, unframed", "took too long"],
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


async def test_a_stream_ends_with_done_though_the_engine_says_no_more() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")) + chunk(DONE))
        await connection.hung_up()

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        received = await live.chat(stream=True)
        assert received.content == delta("one") + DONE
        assert live.lines()[0]["error"] is None
        await engine.left.acquire()


@pytest.mark.parametrize(
    "pieces",
    [
        (STREAM_HEAD + chunk(delta("one")), chunk(DONE), LAST_CHUNK),
        (STREAM_HEAD + chunk(delta("one")) + chunk(DONE), LAST_CHUNK),
    ],
    ids=["later", "at once"],
)
async def test_a_streams_connection_is_used_again_though_its_end_comes_after_done(
    pieces: tuple[bytes, ...],
) -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(*pieces)

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        for _ in range(3):
            assert (await live.chat(stream=True)).content == delta("one") + DONE
    assert engine.connections == 1


async def test_a_comment_reaches_the_client_before_anything_follows_it() -> None:
    seen = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(b": keep-alive\n"))
        await seen.wait()
        await connection.send(chunk(delta("one")) + chunk(DONE) + LAST_CHUNK)

    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica)) as live,
        live.client.stream(
            "POST", "/v1/chat/completions", content=b'{"model":"tiny","stream":true}'
        ) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b": keep-alive\n"
        seen.set()
        assert b"".join([piece async for piece in pieces]) == delta("one") + DONE
