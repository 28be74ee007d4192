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
from helpers.fake_vllm import chunk
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
