"""How long an engine is waited for, by a virtual clock and without sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from endpoint_gateway.catalog import Replica
from endpoint_gateway.errors import BackendTimeout
from endpoint_gateway.patience import Patience
from endpoint_gateway.pool import Pool
from endpoint_gateway.upstream import Connection, Limits
from helpers.engine_client import CHUNKED, REQUEST
from helpers.fake_vllm import LAST_CHUNK, chunk
from helpers.virtual_clock import run_virtually


class Wire(asyncio.Transport):
    """A transport whose other end is the test."""

    def write(self, _: object) -> None:
        """Swallow the request."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Leave it to the test to stop."""

    def resume_reading(self) -> None:
        """Leave it to the test to go on."""

    def abort(self) -> None:
        """Leave it to the test to look for the error."""


def asked(
    first_byte: float | None = 10.0, idle: float | None = 5.0, *, since: float = 0.0
) -> Connection:
    """Return a connection with a request on it that may take 100 s, begun so many seconds ago."""
    connection = Connection(Pool(Limits()), Replica("engine", 1), limits=Limits())
    connection.connection_made(Wire())
    now = asyncio.get_running_loop().time()
    connection.send(REQUEST, Patience(now + 100.0, first_byte, idle, began=now - since))
    return connection


async def timed_out(connection: Connection) -> float:
    """Read until patience ends; return how long that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with contextlib.suppress(BackendTimeout):
        while await connection.read():
            pass
    return loop.time() - began


def test_a_stream_that_does_not_begin_is_waited_for_until_its_first_byte_is_due() -> None:
    async def story() -> None:
        connection = asked()
        connection.data_received(CHUNKED)
        assert await timed_out(connection) == pytest.approx(10.0)

    run_virtually(story())


def test_the_first_byte_is_due_from_the_first_attempt_on() -> None:
    async def story() -> None:
        assert await timed_out(asked(since=4.0)) == pytest.approx(6.0)

    run_virtually(story())


def test_a_stream_that_falls_silent_is_waited_for_from_its_last_byte_on() -> None:
    async def story() -> None:
        connection = asked()
        connection.data_received(CHUNKED + chunk(b"one"))
        await asyncio.sleep(4.0)
        connection.data_received(chunk(b"two"))
        assert await timed_out(connection) == pytest.approx(5.0)

    run_virtually(story())


def test_while_the_client_lags_its_engine_is_not_silent() -> None:
    async def story() -> None:
        connection = asked()
        connection.data_received(CHUNKED + chunk(b"one"))
        await asyncio.sleep(50.0)
        assert await connection.read() == b"one"
        connection.data_received(chunk(b"two"))
        assert await connection.read() == b"two"

    run_virtually(story())


def test_the_deadline_counts_whatever_comes() -> None:
    async def story() -> None:
        connection = asked()
        connection.data_received(CHUNKED + chunk(b"one"))
        await asyncio.sleep(98.0)
        assert await timed_out(connection) == pytest.approx(2.0)

    run_virtually(story())


def test_an_answer_that_is_no_stream_has_its_deadline_alone() -> None:
    async def story() -> None:
        connection = asked(first_byte=None, idle=None)
        connection.data_received(CHUNKED + chunk(b"one"))
        assert await timed_out(connection) == pytest.approx(100.0)

    run_virtually(story())


class Keeping:
    """Writes down what comes back."""

    def __init__(self) -> None:
        self.kept: list[Connection] = []

    def put_back(self, connection: Connection) -> None:
        self.kept.append(connection)

    def forget(self, connection: Connection) -> None:
        """Have it no more."""


class Abortable(Wire):
    """A transport that says whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Finished:
    """A connection that was released before the end of a body of which all had been said."""

    def __init__(self) -> None:
        self._keeper, self._wire = Keeping(), Abortable()
        self.connection = Connection(self._keeper, Replica("engine", 1), limits=Limits())
        self.connection.connection_made(self._wire)
        now = asyncio.get_running_loop().time()
        self.connection.send(REQUEST, Patience(now + 100.0, 10.0, 5.0, began=now))
        self.connection.data_received(CHUNKED + chunk(b"all"))
        self.connection.finish()
        self.connection.release()

    def became(self) -> tuple[int, bool]:
        """Return how often it was put back, and whether it was closed."""
        return len(self._keeper.kept), self._wire.aborted


def test_the_end_of_what_has_no_more_to_say_is_waited_for_by_nobody_but_its_connection() -> None:
    async def story() -> None:
        finished = Finished()
        await asyncio.sleep(0.2)
        assert finished.became() == (0, False)
        finished.connection.data_received(LAST_CHUNK)
        await asyncio.sleep(1)
        assert finished.became() == (1, False)
        finished.connection.data_received(LAST_CHUNK)
        assert finished.became() == (1, True)

    run_virtually(story())


def test_an_end_that_does_not_come_closes_its_connection() -> None:
    async def story() -> None:
        finished = Finished()
        await asyncio.sleep(0.2)
        assert finished.became() == (0, False)
        await asyncio.sleep(0.1)
        assert finished.became() == (0, True)
        finished.connection.connection_lost(None)
        assert finished.became() == (0, True)

    run_virtually(story())
