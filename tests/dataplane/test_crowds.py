"""Clients that come in crowds, and what they leave for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from endpoint_gateway.exchange import Exchange
from endpoint_gateway.inbound import ClientConnection, Limits
from endpoint_gateway.server import Server
from helpers.live_server import serving

ASK = b"GET / HTTP/1.1\r\nhost: g\r\n\r\n"
BEGUN = b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\nx"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Slow:
    """An application that answers when it may."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.release()
        await self.may_answer.wait()
        exchange.start(204, [])
        exchange.end()


class AtWork:
    """A connection whose request is here and not answered, and how often it was looked at."""

    incomplete = False

    def __init__(self) -> None:
        self.looks = 0

    @property
    def unused(self) -> bool:
        self.looks += 1
        return False

    def abort(self) -> None:
        """Be ended."""


class Crowd:
    """Connections to one server, in the order in which they were opened."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.clients: list[Client] = []

    async def come(self, *, saying: bytes = b"") -> Client:
        client = await asyncio.open_connection(*self._address)
        client[1].write(saying)
        # the loop's clock counts milliseconds
        await asyncio.sleep(0.002)
        self.clients.append(client)
        return client

    def leave(self) -> None:
        for _, writer in self.clients:
            writer.transport.abort()


@asynccontextmanager
async def crowd_at(
    application: Slow, *, limits: Limits | None = None, max_connections: int = 1000
) -> AsyncIterator[Crowd]:
    async with serving(application, limits=limits, max_connections=max_connections) as address:
        crowd = Crowd(address)
        try:
            yield crowd
        finally:
            crowd.leave()


async def is_served(client: Client) -> bool:
    """Say whether this client is answered; one whose connection was ended is not."""
    reader, writer = client
    try:
        writer.write(ASK)
        return b" 204 " in await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


async def turns() -> None:
    """Let the server read what was sent."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_connection_more_ends_the_one_that_was_unused_for_longest() -> None:
    slow = Slow()
    slow.may_answer.set()
    async with crowd_at(slow, max_connections=3) as crowd:
        first, second, third = [await crowd.come() for _ in range(3)]
        assert await is_served(first)
        fourth = await crowd.come()
        assert await is_served(fourth)
        assert [await is_served(each) for each in (second, first, third)] == [False, True, True]


async def test_a_head_that_does_not_come_counts_as_unused() -> None:
    slow = Slow()
    slow.may_answer.set()
    async with crowd_at(slow, max_connections=3) as crowd:
        heads = [(await crowd.come(saying=ASK[:-2]))[0] for _ in range(3)]
        assert await is_served(await crowd.come())
        reading = [asyncio.create_task(reader.read()) for reader in heads]
        ended, others = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        assert [each.result() for each in ended] == [b""]
        for each in others:
            each.cancel()


async def test_a_request_that_is_here_is_not_ended_for_one_that_comes() -> None:
    slow = Slow()
    async with crowd_at(slow, max_connections=2) as crowd:
        for _ in range(2):
            await crowd.come(saying=ASK)
            await slow.asked.acquire()
        assert not await is_served(await crowd.come())
        slow.may_answer.set()
        for reader, _ in crowd.clients[:2]:
            assert b" 204 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_request_that_comes_for_longest_is_ended_where_all_are_in_use() -> None:
    slow = Slow()
    async with crowd_at(slow, max_connections=3) as crowd:
        whole = await crowd.come(saying=ASK)
        first, second = [await crowd.come(saying=BEGUN) for _ in range(2)]
        for _ in range(3):
            await slow.asked.acquire()
        # the last to send, and the first to begin
        first[1].write(b"x")
        await turns()
        fourth = await crowd.come(saying=ASK)
        await asyncio.wait_for(slow.asked.acquire(), 5)
        slow.may_answer.set()
        assert await first[0].read() == b""
        second[1].write(b"xx")
        for reader, _ in (whole, second, fourth):
            assert b" 204 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_crowd_before_full_rooms_is_turned_away_without_a_look_into_each() -> None:
    server = Server(Slow(), port=0, max_connections=100)
    inside = [AtWork() for _ in range(100)]
    for each in (*inside, *(AtWork() for _ in range(1000))):
        server.opened(cast(ClientConnection, each))
    assert sum(each.looks for each in inside) <= 10 * len(inside)


async def test_heads_that_are_not_whole_take_only_so_much_together() -> None:
    slow = Slow()
    slow.may_answer.set()
    async with crowd_at(slow, limits=Limits(all_heads_bytes=10_000)) as crowd:
        small = await crowd.come(saying=ASK[:-2])
        large = [await crowd.come(saying=ASK[:-2] + b"x: " + b"y" * 3000) for _ in range(5)]
        ended = [asyncio.create_task(reader.read()) for reader, _ in large]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        small[1].write(b"\r\n")
        assert b" 204 " in await small[0].readuntil(b"\r\n\r\n")
        for each in ended:
            each.cancel()


async def test_what_was_held_of_a_head_is_forgotten_when_it_is_whole_or_gone() -> None:
    slow = Slow()
    slow.may_answer.set()
    async with crowd_at(slow, limits=Limits(all_heads_bytes=10_000)) as crowd:
        for _ in range(10):
            reader, writer = await crowd.come(saying=ASK[:-2] + b"x: " + b"y" * 3000)
            await turns()
            writer.write(b"\r\n\r\n")
            assert b" 204 " in await reader.readuntil(b"\r\n\r\n")
        for _ in range(10):
            _, writer = await crowd.come(saying=ASK[:-2] + b"x: " + b"y" * 3000)
            await turns()
            writer.transport.abort()
        assert await is_served(await crowd.come())
