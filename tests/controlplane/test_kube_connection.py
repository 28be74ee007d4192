"""Connections to the API server: what is kept, what is thrown away, what is waited for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kube_api import Config, KubeClient, Resource, Unavailable
from kube_api.connection import MOST_UNREAD_BYTES, Patience

PODS = Resource("", "v1", "pods", "Pod")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server that says what it is told to; ``heads`` are what it was asked, per connection."""

    def __init__(self, talk: Talk) -> None:
        self.heads: list[list[bytes]] = []
        self._talk = talk

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append([])
        try:
            while True:
                self.heads[-1].append(await reader.readuntil(b"\r\n\r\n"))
                await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(talk: Talk, *, prefix: str = "") -> AsyncIterator[tuple[Server, KubeClient]]:
    server = Server(talk)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    async with KubeClient(Config(f"http://{host}:{port}{prefix}", None), user_agent="t") as client:
        yield server, client
    listening.close()


def saying(answer: bytes) -> Talk:
    """Answer everything the same."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return talk


def test_it_can_be_imported_where_sockets_have_fewer_options() -> None:
    fewer = "import socket; del socket.TCP_KEEPIDLE, socket.TCP_USER_TIMEOUT; import kube_api"
    subprocess.run([sys.executable, "-c", fewer], check=True)


async def get(client: KubeClient) -> object:
    return await client.get(PODS, "ns", "a")


async def test_a_connection_is_used_again() -> None:
    async with serving(saying(OK)) as (server, client):
        for _ in range(3):
            await get(client)
        assert [len(heads) for heads in server.heads] == [3]


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with serving(saying(OK)) as (server, client):
        await asyncio.gather(*(get(client) for _ in range(3)))
        assert len(server.heads) == 3


async def test_a_request_names_its_host_its_user_agent_and_its_query_in_escapes() -> None:
    async with serving(saying(OK), prefix="/clusters/c-1/") as (server, client):
        path, params = "/api/v1/pods/a b", {"labelSelector": "a=b,c"}
        await client.request("GET", path, params=params)
        ((head,),) = server.heads
        first, *headers = head.decode().split("\r\n")
        assert first == "GET /clusters/c-1/api/v1/pods/a%20b?labelSelector=a%3Db%2Cc HTTP/1.1"
        assert any(line.startswith("Host: 127.0.0.1:") for line in headers)
        assert {"User-Agent: t", "Accept-Encoding: identity"} <= set(headers)


@pytest.mark.parametrize("cut", [1, 7, 4096])
async def test_an_answer_in_pieces_is_put_together(cut: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = head + b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(whole), cut):
            writer.write(whole[start : start + cut])
            await writer.drain()

    async with serving(talk) as (_, client):
        assert await get(client) == {"a": 1}
        assert await get(client) == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", id="close"
        ),
        pytest.param(OK + b"more", id="more than it should"),
        pytest.param(OK + OK, id="two answers"),
    ],
)
async def test_a_connection_that_is_unfit_is_not_used_again(answer: bytes) -> None:
    async with serving(saying(answer)) as (server, client):
        await get(client)
        await get(client)
        assert len(server.heads) == 2


async def test_what_was_not_read_is_in_nobody_elses_answer() -> None:
    async with serving(saying(OK)) as (server, client):
        async with client.open("GET", "/x"):
            pass
        assert await get(client) == {}
        assert len(server.heads) == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]], ids=repr)
async def test_a_server_that_hangs_up_is_unavailable(answer: bytes) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with serving(talk) as (_, client):
        with pytest.raises(Unavailable, match="the connection is lost"):
            await get(client)


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    async with serving(talk) as (server, client), asyncio.timeout(10):
        async with client.open("DELETE", "/x") as answer:
            await answer.read()
        while answer.is_idle:  # noqa: ASYNC110 - until the loop hears that it is closed
            await asyncio.sleep(0)
        async with client.open("DELETE", "/x") as answer:
            await answer.read()
        assert len(server.heads) == 2


def answering_once_each(*, then: bytes) -> Talk:
    """Answer the first request on each connection; say something else to the second and hang up."""
    seen: set[asyncio.StreamWriter] = set()

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(then if writer in seen else OK)
        if writer in seen:
            writer.close()
        seen.add(writer)

    return talk


async def test_a_read_that_meets_a_server_hanging_up_is_sent_once_more() -> None:
    async with serving(answering_once_each(then=b"")) as (server, client):
        for _ in range(3):
            assert await get(client) == {}
        assert [len(heads) for heads in server.heads] == [2, 2, 1]


async def test_a_read_that_was_partly_answered_is_not_repeated() -> None:
    async with serving(answering_once_each(then=OK[:9])) as (server, client):
        await get(client)
        with pytest.raises(Unavailable, match="the connection is lost"):
            await get(client)
        assert len(server.heads) == 1


async def test_a_write_is_never_sent_twice() -> None:
    async with serving(answering_once_each(then=b"")) as (server, client):
        await client.delete(PODS, "ns", "a")
        with pytest.raises(Unavailable, match="the connection is lost"):
            await client.delete(PODS, "ns", "a")
        assert len(server.heads) == 1


async def test_a_request_that_is_given_up_takes_its_connection_along() -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-1])
        asked.set()
        assert await reader.read() == b""
        hung_up.set()

    async with serving(talk) as (_, client), asyncio.timeout(30):
        request = asyncio.create_task(get(client))
        await asked.wait()
        request.cancel()
        await hung_up.wait()


async def test_what_is_only_preliminary_is_no_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 7\r\n\r\n"
    busy = b"HTTP/1.1 429 Busy\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(saying(early + busy)) as (server, client):
        for _ in range(2):
            with pytest.raises(Unavailable, match="Busy") as caught:
                await get(client)
            assert caught.value.retry_after == 0
        assert len(server.heads) == 1


async def test_an_answer_that_is_no_http_is_unavailable() -> None:
    async with serving(saying(b"SSH-2.0-OpenSSH\r\n")) as (_, client):
        with pytest.raises(Unavailable, match="no HTTP"):
            await get(client)


@pytest.mark.parametrize("patience", [Patience(total=0.05), Patience(silence=0.05)], ids=str)
async def test_patience_has_an_end(patience: Patience) -> None:
    async with serving(saying(b"")) as (_, client):
        with pytest.raises(Unavailable, match="TimeoutError"):
            async with client.open("GET", "/x", patience=patience):
                pass


async def test_a_reader_that_lags_stops_the_server() -> None:
    sent = 0
    piece = b"%x\r\n%s\r\n" % (1 << 16, b"x" * (1 << 16))

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _number in range(2000):
            writer.write(piece)
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")

    async with serving(talk) as (_, client), client.open("GET", "/x") as answer:
        pieces = answer.pieces()
        total = len(await anext(pieces))
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        # what the kernel's buffers take where they may be large, and half of all at most
        assert sent * len(piece) < 64 * MOST_UNREAD_BYTES
        async for each in pieces:
            total += len(each)
        assert total == 2000 << 16
