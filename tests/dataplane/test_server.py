"""What a client may do to a connection, over real sockets: frame oddly, send without end, stall."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from endpoint_gateway.client import JSON
from endpoint_gateway.errors import ClientGone, GatewayError, render
from endpoint_gateway.exchange import Exchange
from endpoint_gateway.inbound import ClientConnection, Handler, Limits
from endpoint_gateway.server import Server
from helpers.fake_vllm import (
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    Connection,
    FakeVllm,
    answering,
    captured,
    captured_body,
    chunk,
    delta,
)
from helpers.live_server import SECRET, endpoint, live_gateway, raw_request, serving

HEAD = b"POST /first HTTP/1.1\r\nhost: g\r\n"
NEXT = b"GET /second HTTP/1.1\r\nhost: g\r\n\r\n"


@dataclass
class Echo:
    """An application that takes whole bodies, and says when a request's head has come."""

    requests: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, exchange: Exchange) -> None:
        self.begun.set()
        body = b""
        try:
            while piece := await exchange.read():
                body += piece
        except ClientGone:
            return
        except GatewayError as error:
            body = render(error)
            exchange.start(error.status, [JSON, (b"x-request-id", b"1")], length=len(body))
            exchange.end(body)
            return
        self.requests.append((exchange.path, body))
        self.headers = exchange.headers
        exchange.start(200, [(b"x-from", b"app")])
        exchange.end(exchange.path.encode())


class Client:
    """A connection whose bytes a test writes itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        """Read a whole answer, chunked as the echo's are."""
        return await self.reader.readuntil(LAST_CHUNK)

    async def rest(self) -> bytes:
        """Read until the gateway closes the connection."""
        return await self.reader.read()


@contextlib.asynccontextmanager
async def client_of(application: Handler, **options: Any) -> AsyncIterator[Client]:
    async with serving(application, **options) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        yield Client(reader, writer)
        writer.transport.abort()


FRAMINGS = {
    "content-length": (b"content-length: %d\r\n\r\n" % len(NEXT), NEXT),
    "chunked": (b"transfer-encoding: chunked\r\n\r\n", chunk(NEXT) + LAST_CHUNK),
}


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"x"])
@pytest.mark.parametrize(("framing", "body"), FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("segments", [1, 2])
async def test_a_body_after_an_upgrade_is_a_body(
    protocol: bytes, framing: bytes, body: bytes, segments: int
) -> None:
    echo = Echo()
    head = HEAD + b"connection: upgrade\r\nupgrade: %s\r\n%s" % (protocol, framing)
    async with client_of(echo) as client:
        if segments == 1:
            client.writer.write(head + body)
        else:
            client.writer.write(head)
            await echo.begun.wait()
            client.writer.write(body)
        assert b"/first" in await client.answer()
        client.writer.write(NEXT)
        assert b"/second" in await client.answer()
    assert echo.requests == [("/first", NEXT), ("/second", b"")]


async def test_an_upgrade_without_a_body_is_a_request_like_others() -> None:
    echo = Echo()
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    async with client_of(echo) as client:
        for _ in range(2):
            client.writer.write(NEXT[:-2] + upgrade)
            assert b"/second" in await client.answer()


async def test_an_upgrade_with_two_framings_is_refused() -> None:
    echo = Echo()
    both = b"connection: upgrade\r\nupgrade: x\r\ncontent-length: 5\r\n" + FRAMINGS["chunked"][0]
    async with client_of(echo) as client:
        client.writer.write(HEAD + both + chunk(NEXT) + LAST_CHUNK)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert echo.requests == []


async def test_a_post_of_the_jdks_client_reaches_its_engine() -> None:
    # java.net.http offers h2c with each first request on a cleartext connection
    offered = b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAEAAEAA\r\nupgrade: h2c\r\n"
    request = raw_request({"model": "tiny"})
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        reader, writer = await live.connect()
        writer.write(request.replace(b"content-type:", offered + b"content-type:"))
        assert b" 200 " in await reader.readline()
        await reader.readuntil(captured_body("chat"))
        writer.close()
    assert engine.requests[0].json == {"model": "tiny"}
    assert engine.requests[0].headers.keys().isdisjoint({"upgrade", "http2-settings"})


async def test_a_trailer_is_no_header() -> None:
    echo = Echo()
    trailer = b"0\r\nauthorization: Bearer sk-other\r\n\r\n"
    async with client_of(echo) as client:
        client.writer.write(HEAD + FRAMINGS["chunked"][0] + chunk(b"x") + trailer)
        await client.answer()
    assert [name for name, _ in echo.headers] == [b"host", b"transfer-encoding"]


async def test_a_second_request_is_not_read_while_the_first_is_answered() -> None:
    finish = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")))
        await finish.wait()
        await connection.send(chunk(DONE) + LAST_CHUNK)

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny", "stream": True}) * 2)
        await reader.readuntil(delta("one"))
        finish.set()
        assert (await reader.read()).endswith(DONE + b"\r\n" + LAST_CHUNK)
        writer.close()
    assert len(engine.requests) == 1


@pytest.mark.parametrize("after", [raw_request({"model": "tiny"}), b"\0?"], ids=["more", "noise"])
async def test_a_client_that_sent_more_than_a_request_is_still_missed(after: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")))
        await connection.hung_up()

    async with FakeVllm(script) as engine, live_gateway(endpoint(engine.replica)) as live:
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny", "stream": True}) + after)
        await reader.readuntil(delta("one"))
        writer.transport.abort()
        await asyncio.wait_for(engine.left.acquire(), 5)
        assert live.balancer.in_flight(engine.replica) == 0


async def test_noise_after_a_request_does_not_get_into_its_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny"}) + b"\0noise\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(captured_body("chat"))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not caplog.records


def told(answer: bytes) -> tuple[int, Any]:
    """Return status and error of an answer, and see that it is one of ours."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"x-request-id: " in head
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return int(head.split(b" ")[1]), error["code"]


NO_REQUESTS = {
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header without colon": b"GET / HTTP/1.1\r\nhost\r\n\r\n",
    "a length that is none": HEAD + b"content-length: 1x\r\n\r\n",
    "a path that is not ASCII": b"GET /\xff HTTP/1.1\r\nhost: g\r\n\r\n",
    "CONNECT": b"CONNECT g:1 HTTP/1.1\r\nhost: g\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: g\r\nhost: g\r\n\r\n",
    "a target that is no URL": b"GET ftp://g/ HTTP/1.1\r\nhost: g\r\n\r\n",
    "a target without a host's end": b"GET http://[/ HTTP/1.1\r\nhost: g\r\n\r\n",
    "a chunk that is none": HEAD + FRAMINGS["chunked"][0] + b"zz\r\n",
}


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS)
async def test_what_is_no_request_is_a_400_in_our_form(sent: bytes) -> None:
    async with client_of(Echo()) as client:
        client.writer.write(sent)
        assert told(await client.rest()) == (400, None)


SMALL = Limits(head_bytes=1000)
LINE = b"x-a: " + b"a" * 93 + b"\r\n"
ENDLESS_HEADS = {
    "in a header": (HEAD, LINE),
    "in one value": (HEAD + b"x-a: ", b"a" * 100),
    "in a path": (b"GET /", b"a" * 100),
    "before a request": (b"", b"\r\n" * 50),
}


@pytest.mark.parametrize(("begin", "again"), ENDLESS_HEADS.values(), ids=ENDLESS_HEADS)
async def test_a_head_without_end_is_a_431(begin: bytes, again: bytes) -> None:
    async with client_of(Echo(), limits=SMALL) as client:
        client.writer.write(begin + again * 11)
        assert told(await client.rest()) == (431, "headers_too_large")


ENDLESS_BODIES = {
    "in trailers": (chunk(b"x") + b"0\r\n", LINE),
    "in a chunk's extension": (b"1;", b"a" * 100),
}


@pytest.mark.parametrize(("begin", "again"), ENDLESS_BODIES.values(), ids=ENDLESS_BODIES)
async def test_what_is_neither_head_nor_body_has_an_end_too(begin: bytes, again: bytes) -> None:
    echo = Echo()
    async with client_of(echo, limits=SMALL) as client:
        client.writer.write(HEAD + FRAMINGS["chunked"][0] + begin)
        await echo.begun.wait()
        client.writer.write(again * 11)
        assert told(await client.rest()) == (431, "headers_too_large")


async def test_a_head_has_so_many_lines() -> None:
    async with client_of(Echo(), limits=Limits(head_lines=10)) as client:
        client.writer.write(HEAD + b"x:\r\n" * 9 + b"\r\n")
        await client.answer()
        client.writer.write(HEAD + b"x:\r\n" * 10 + b"\r\n")
        assert told(await client.rest()) == (431, "headers_too_large")


@pytest.mark.parametrize("scheme", [b"http", b"HTTPS"])
async def test_the_host_of_a_whole_url_counts(scheme: bytes) -> None:
    echo = Echo()
    async with client_of(echo) as client:
        client.writer.write(b"GET %s://a:1/%%70?q HTTP/1.1\r\nhost: b\r\n\r\n" % scheme)
        assert b"/p" in await client.answer()
    assert echo.headers == [(b"host", b"a:1")]


@pytest.mark.parametrize("segments", [1, 2])
async def test_a_large_head_is_refused_however_it_comes(segments: int) -> None:
    head = HEAD + LINE * 10
    async with client_of(Echo(), limits=SMALL) as client:
        if segments == 2:
            client.writer.write(head[:-1])
            assert told(await client.rest())[0] == 431
        else:
            client.writer.write(head + b"\r\n")
            assert told(await client.rest())[0] == 431


async def test_a_large_body_in_one_piece_with_its_head_is_no_large_head() -> None:
    async with client_of(Echo(), limits=SMALL) as client:
        client.writer.write(HEAD + b"content-length: 5000\r\n\r\n" + b"x" * 5000)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")


async def test_a_head_that_takes_too_long_is_a_408() -> None:
    async with client_of(Echo(), limits=Limits(head_seconds=0.05)) as client:
        client.writer.write(HEAD)
        assert told(await client.rest()) == (408, "request_timeout")


async def test_a_body_that_stalls_is_a_408() -> None:
    async with client_of(Echo(), limits=Limits(stall_seconds=0.05)) as client:
        client.writer.write(HEAD + b"content-length: 9\r\n\r\nx")
        assert told(await client.rest()) == (408, "request_timeout")


async def rest_of_drops(client: Client) -> bytes:
    """Send a large body byte by byte until there is an answer; return that."""
    client.writer.write(HEAD + b"content-length: 1000000\r\n\r\n")
    rest = asyncio.create_task(client.rest())
    while not rest.done():
        client.writer.write(b"x")
        await asyncio.sleep(0.01)
    return await rest


async def test_a_body_that_comes_in_drops_has_an_end_too() -> None:
    async with client_of(Echo(), limits=Limits(body_seconds=0.1)) as client:
        assert told(await rest_of_drops(client)) == (408, "request_timeout")


async def test_a_body_that_stalls_is_told_of_as_the_route_has_it() -> None:
    head = (
        HEAD.replace(b"/first", b"/v1/messages") + b"x-request-id: mine\r\norigin: https://a.b\r\n"
    )
    head += b"x-api-key: %s\r\ncontent-length: 9\r\n\r\nx" % SECRET.encode()
    slow, browsers = Limits(stall_seconds=0.05), ("https://a.b",)
    async with live_gateway(endpoint(), limits=slow, cors_origins=browsers) as live:
        reader, writer = await live.connect()
        writer.write(head)
        answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        (line,) = live.lines()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nx-request-id: mine" in answer
    assert b"\r\naccess-control-allow-origin: https://a.b" in answer
    assert json.loads(body)["type"] == "error"
    assert (line["status"], line["error"], line["request_id"]) == (408, "request_timeout", "mine")


async def test_an_application_may_want_a_body_sooner() -> None:
    async def hurrying(exchange: Exchange) -> None:
        exchange.hurry(0.1)
        await echo(exchange)

    echo = Echo()
    async with client_of(hurrying) as client:
        assert told(await rest_of_drops(client)) == (408, "request_timeout")


async def test_a_connection_on_which_nothing_is_asked_is_closed() -> None:
    async with client_of(Echo(), limits=Limits(idle_seconds=0.05)) as client:
        assert await client.rest() == b""


async def test_a_body_that_nobody_wants_any_more_has_an_end() -> None:
    # answered by its head: the key is missing
    head = HEAD.replace(b"/first", b"/v1/completions") + b"content-length: 9\r\n\r\n"
    async with live_gateway(endpoint(), limits=Limits(head_seconds=0.05)) as live:
        reader, writer = await live.connect()
        writer.write(head)
        assert b" 401 " in await reader.readline()
        writer.write(b"x")
        assert b"HTTP/1.1" not in await reader.read()
        writer.close()


async def test_a_client_that_still_sends_lives_to_read_its_answer() -> None:
    head = HEAD.replace(b"/first", b"/v1/completions") + b"connection: close\r\n"
    async with live_gateway(endpoint(), limits=Limits(head_seconds=0.5)) as live:
        reader, writer = await live.connect()
        writer.write(head + b"content-length: 90000\r\n\r\n")
        for _ in range(9):
            writer.write(b"x" * 10_000)
            await asyncio.sleep(0.01)
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_a_client_that_sends_on_is_not_listened_to_for_ever() -> None:
    async with client_of(Echo(), limits=Limits(head_seconds=0.05)) as client:
        client.writer.write(b"hello\r\n\r\n")
        assert told(await client.rest()) == (400, None)
        while not client.writer.transport.is_closing():
            client.writer.write(b"x")
            await asyncio.sleep(0.01)


async def test_a_connection_outlives_the_rest_of_a_body_that_nobody_wanted() -> None:
    head = HEAD.replace(b"/first", b"/v1/completions") + b"content-length: 9\r\n\r\n"
    models = b"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n\r\n"
    models %= SECRET.encode()
    async with live_gateway(endpoint()) as live:
        reader, writer = await live.connect()
        writer.write(head)
        assert b" 401 " in await reader.readline()
        await reader.readuntil(b"}}")
        writer.write(b"x" * 9 + models)
        assert b" 200 " in await reader.readline()
        writer.close()


async def test_a_client_that_does_not_read_a_whole_answer_is_not_kept_without_end() -> None:
    gone = asyncio.Event()

    class Watched(Server):
        def closed(self, connection: ClientConnection) -> None:
            super().closed(connection)
            gone.set()

    async def large(exchange: Exchange) -> None:
        size = 8 << 20
        exchange.start(200, [], length=size)
        exchange.end(b"x" * size)

    server = Watched(large, port=0, host="127.0.0.1", limits=Limits(stall_seconds=0.05))
    with socket.socket() as lagging:
        lagging.connect(await server.listen())
        lagging.sendall(HEAD + b"\r\n")
        try:
            await asyncio.wait_for(gone.wait(), 5)
        finally:
            await server.close()


async def test_a_client_that_does_not_read_is_not_waited_for_without_end() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.writer.write(STREAM_HEAD)
        while True:
            await connection.send(chunk(delta("x" * 20_000)))

    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica), limits=Limits(stall_seconds=0.05)) as live,
    ):
        with socket.socket() as lagging:
            lagging.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lagging.connect((live.host, live.port))
            lagging.sendall(raw_request({"model": "tiny", "stream": True}))
            await asyncio.wait_for(engine.left.acquire(), 10)
        assert live.balancer.in_flight(engine.replica) == 0
        assert live.lines()[0]["error"] == "client_gone"
