"""A client's connection whatever comes on it, in whatever pieces, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from typing import cast

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway.errors import ClientGone, GatewayError
from endpoint_gateway.exchange import Exchange
from endpoint_gateway.inbound import ClientConnection, Limits
from helpers.smuggling import CORPUS, LAST

PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"0\r\n\r\n", b": ", b" ", b"\t", b"\0", b"\xff"),
    *(b"chunked", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"host: x\r\n"),
    *(b"connection: upgrade\r\nupgrade: h2c\r\n", b"expect: 100-continue\r\n", b"HEAD", b"CONNECT"),
    *(b"%2f", b"%", b"http://[", b"5\r\nhello\r\n", b"f" * 16, b"x" * 5000, b"x:\r\n" * 300),
)


class Wire:
    """What a connection writes to."""

    def __init__(self) -> None:
        self.sent = b""
        self.closing = False
        self.ended = False
        self.paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = self.ended = True

    def abort(self) -> None:
        self.closing = self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Keeper:
    """Answers requests, whose bodies it reads or not; sees that there is one at a time."""

    ending = False

    def __init__(self, *, reads: bool) -> None:
        self.asked = 0
        self.held = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._reads = reads

    def opened(self, connection: ClientConnection) -> None:
        pass

    def closed(self, connection: ClientConnection) -> None:
        pass

    def hold(self, more: int) -> None:
        self.held += more

    def refused(self, status: int) -> None:
        assert 400 <= status < 500

    def run(self, answer: Coroutine[object, object, None]) -> None:
        assert all(each.done() for each in self.tasks)
        self.tasks.add(asyncio.get_running_loop().create_task(answer))

    async def handler(self, exchange: Exchange) -> None:
        self.asked += 1
        try:
            while self._reads and await exchange.read():
                pass
        except ClientGone:
            return
        except GatewayError as error:
            exchange.start(error.status, [], length=0)
            exchange.end()
            return
        exchange.start(200, [], length=0)
        exchange.end()


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Write requests in which something was put in, left out or cut off, in pieces."""
    sent = draw(st.sampled_from([*CORPUS.values()])) + draw(st.sampled_from([b"", LAST]))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(sent))), draw(st.integers(0, 12))
        sent = sent[:at] + draw(st.sampled_from([b"", *PIECES])) + sent[at + length :]
    cuts = sorted({0, len(sent), *draw(st.lists(st.integers(0, len(sent)), max_size=8))})
    return [sent[begin:end] for begin, end in pairwise(cuts)]


async def hold(pieces: list[bytes], keeper: Keeper) -> Wire:
    """Hold a conversation to its end."""
    wire = Wire()
    connection = ClientConnection(keeper, Limits(head_bytes=4096))
    connection.connection_made(cast(asyncio.Transport, wire))
    for piece in pieces:
        if not wire.closing:
            connection.data_received(piece)
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.gather(*keeper.tasks)
    return wire


@given(conversations(), st.booleans())
def test_each_request_is_answered_once_and_what_is_none_is_refused_once(
    pieces: list[bytes], reads: bool
) -> None:
    keeper = Keeper(reads=reads)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        wire = runner.run(hold(pieces, keeper))
    answers = wire.sent.count(b"HTTP/1.1 2") + wire.sent.count(b"HTTP/1.1 4")
    assert answers <= keeper.asked + wire.ended
    assert wire.sent.startswith(b"HTTP/1.1 ") or not wire.sent
    assert keeper.held == 0
