"""HTTP/1.1 to the API server: connections, each with one request at a time, kept while idle.

``client`` makes requests with it. It is our own because a general client costs more CPU than
everything else that a write takes (ADR 0004). It speaks what an API server speaks: no proxies, no
redirects, no compression, no upgrade. Every failure is an OSError.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from kube_api.config import Config

CONNECT_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 15.0
"""Shorter than what API servers and balancers keep idle connections for: they seldom hang up."""
MOST_UNREAD_BYTES: Final = 1 << 20
KEEPALIVE: Final = {  # seconds of silence, seconds between probes, probes; ms without an answer
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 25_000,
}
"""A peer that is gone is noticed within 25 s, also where nothing is sent: a watch hears nothing for
a minute at times, and what it misses may be the end of a key. Linux has all of these options."""


@dataclass(frozen=True)
class Patience:
    """How long an exchange may take in all, and how long nothing may come, in seconds."""

    total: float | None = None
    silence: float | None = None


class Connection(asyncio.Protocol):
    """One connection and the request that is on it, with the head of its answer."""

    # ruff: noqa: D102 - the methods that only asyncio and httptools call are documented there

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._error: OSError | None = None
        self._reset()
        self._complete = True

    def _reset(self) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.was_heard = False  # whether anything came since the request was sent
        self._complete = False
        self._pieces: list[bytes] = []
        self._unread = 0
        self._streams = False
        self._silence: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the answer has been read and another request can be sent."""
        return self._complete and not self._pieces and self._error is None

    async def send(self, request: bytes, *, silence: float | None) -> None:
        """Send a request and wait until status and headers of the answer are there.

        From now on everything that waits raises TimeoutError after so many seconds of silence.
        """
        self._reset()
        self._silence = silence
        self.transport.write(request)
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """Return the body of the answer."""
        while not self._complete:
            await self._more()
        return self._take()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; while its reader lags, reading stops."""
        self._streams = True
        while self._pieces or not self._complete:
            if self._pieces:
                yield self._take()
            else:
                await self._more()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        used = transport.get_extra_info("socket")
        used.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                used.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def data_received(self, data: bytes) -> None:
        self.was_heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"an answer that is no HTTP: {error}")
            self.transport.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection is lost: {exc or 'closed by the server'}")
        self._wake()

    def on_message_begin(self) -> None:
        if self._complete:
            raise ConnectionError("an answer to no request")
        self.headers.clear()

    def on_status(self, reason: bytes) -> None:
        self.reason = reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0  # 1xx: the answer is still to come

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._unread += len(body)
        if self._streams and self._unread > MOST_UNREAD_BYTES:
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self.status:
            return
        self._complete = True
        if not self._parser.should_keep_alive():
            self._fail("the server closes it")

    def _take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        if self._streams and self._unread > MOST_UNREAD_BYTES:
            self.transport.resume_reading()
        self._unread = 0
        return taken

    async def _more(self) -> None:
        """Wait until something comes. Raises OSError where nothing will."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        if self._silence is None:
            await self._waiter
        else:
            async with asyncio.timeout(self._silence):
                await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, text: str) -> None:
        self._error = self._error or ConnectionError(text)


class Connections:
    """The connections to one API server; ``netloc`` and ``prefix`` are those of its address."""

    def __init__(self, config: Config) -> None:
        parts = urlsplit(config.server)
        self.netloc = parts.netloc
        self.prefix = parts.path.rstrip("/")
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (config.tls or True) if parts.scheme == "https" else None
        self._idle: list[Connection] = []
        self._now: Callable[[], float] = lambda: asyncio.get_running_loop().time()

    @asynccontextmanager
    async def exchange(
        self, request: bytes, *, repeatable: bool, silence: float | None
    ) -> AsyncIterator[Connection]:
        """Send a request and give the connection with its answer, which is kept once that is read.

        The server may hang up on an idle connection just when it is used again. Then, if nothing
        was heard, a request that is ``repeatable`` is sent once more, on a new connection.
        """
        kept = self._take()
        connection = kept or await self._connect()
        try:
            try:
                await connection.send(request, silence=silence)
            except ConnectionError:
                if kept is None or kept.was_heard or not repeatable:
                    raise
                connection = await self._connect()
                await connection.send(request, silence=silence)
            yield connection
        finally:
            if connection.is_idle:
                connection.idle_since = self._now()
                self._idle.append(connection)
            else:
                connection.transport.abort()

    def close(self) -> None:
        """Close those that are idle."""
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle and self._now() - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.transport.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                Connection, self._host, self._port, ssl=self._tls
            )
        return connection
