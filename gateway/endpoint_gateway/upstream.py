"""HTTP/1.1 towards the engines: one connection, and the one request that is on it at a time.

Made by pool, read by dispatch and relay. It is our own, since relaying is what the gateway is for
and every general client costs several times as much (docs/adr/0003-gateway-http-stack.md). It
speaks what an engine speaks: no TLS, no proxies, no redirects, no compression, no upgrade.

An answer is read as it comes. When its reader lags, reading from the socket stops, so that a slow
client slows its engine instead of filling our memory. One timer per request watches all its
limits: it looks at what has happened when it fires, so that an event costs no timer of its own.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from .catalog import Replica
from .errors import BadAnswer, ConnectionLost, GatewayError, Headers
from .headers import is_coded, is_framed
from .patience import Patience

_ENDING_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken from an engine, and how connections to it are kept.

    `head_bytes` bounds a status line with its headers, and everything else that is not body
    between two pieces of body (chunk extensions, trailers). `buffer_bytes` is what is read ahead of
    a slow reader. `idle_seconds` must be shorter than the engine's own keep-alive (vLLM: 5 s), so
    that it is seldom the engine who hangs up; `resend_seconds` is how soon after a request it must
    be lost for that to be the likely reason.
    """

    connect_seconds: float = 5.0
    head_bytes: int = 65536
    buffer_bytes: int = 65536
    idle_seconds: float = 4.0
    resend_seconds: float = 1.0
    idle_connections: int = 256


class Keeper(Protocol):
    """Who keeps connections while they are idle."""

    def put_back(self, connection: "Connection") -> None:
        """Keep a connection whose request is over."""

    def forget(self, connection: "Connection") -> None:
        """Drop a connection that was closed while it was idle."""


class Sink(Protocol):
    """Who takes a body as it comes."""

    def take(self, data: bytes) -> bool:
        """Take a piece; say whether more is wanted."""

    @property
    def lagging(self) -> bool:
        """Say whether nothing more should come for now."""

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """Call this when more may come again; None: no more."""


class Connection(asyncio.Protocol):
    """One connection, with the one request that is on it at a time."""

    # ruff: noqa: D102 - the methods that only asyncio and httptools call are documented there

    def __init__(self, keeper: Keeper, replica: Replica, *, limits: Limits) -> None:
        self.replica = replica
        self.idle_since = 0.0
        self._keeper = keeper
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._closed = False
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._ending: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self._error: GatewayError | None = None
        self._got_bytes = False
        self._head_done = False
        self._complete = False
        self._until_close = False
        self._reusable = False
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._body_seen = False
        self._unaccounted = 0
        self._sink: Sink | None = None
        self._sated = False
        self._wants_whole = False

    # -- for dispatch and relay ---------------------------------------------------------------

    def send(self, request: Sequence[bytes | memoryview], patience: Patience) -> None:
        """Send a whole request. The connection must be idle."""
        self._reset()
        self._busy = True
        self._patience = patience
        self._wants_whole = patience.first_byte_seconds is None
        self._touched = self._loop.time()
        if len(request) == 1:
            self._transport.write(request[0])
        else:
            self._transport.writelines(request)
        self._watch_clock()

    async def ask(self, request: Sequence[bytes | memoryview], patience: Patience) -> None:
        """Send a request, and wait until `status` and `headers` of its answer are there.

        A good answer that is no stream is waited for until it is whole, or as much as is read
        ahead: nobody needs its head before. The connection is released where this fails. Raises
        BackendFailed and BackendTimeout.
        """
        self.send(request, patience)
        try:
            while not self._head_done:
                if self._error is not None:
                    raise self._error
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:
            self.release()
            raise
        self._wants_whole = False

    async def read(self) -> bytes:
        """Return what has come of the body since the last call, waiting for some; b"" at its end.

        Raises BackendFailed and BackendTimeout, after the bytes that came before.
        """
        while not self._pieces and not self._complete and self._error is None:
            await self._wait()
        if self._pieces:
            return self._take()
        if self._error is not None:
            raise self._error
        return b""

    async def pump(self, sink: Sink) -> None:
        """Hand the body to this sink as it comes, until it ends or the sink wants no more.

        It is handed over by what reads it from the socket: an event of a stream wakes no task.
        Raises BackendFailed and BackendTimeout, after the bytes that came before.
        """
        self._sink = sink
        sink.on_drained(self._wake)
        try:
            while self._flow(sink):
                await self._wait()
        finally:
            self._sink = None
            sink.on_drained(None)
        if self._error is not None and not (self._sated or self._complete):
            raise self._error

    def _flow(self, sink: Sink) -> bool:
        """Hand over what is here; say whether there is more to come or to hand over."""
        if self._pieces and not sink.lagging:
            self._sated = not sink.take(self._take())
        over = self._complete or self._error is not None
        return not self._sated and (bool(self._pieces) or not over)

    def finish(self) -> None:
        """Take note that the body has nothing more to say, whether or not its end is here."""
        self._sated = True

    def release(self) -> None:
        """End the request: the connection goes back to the pool if it is fit to, else it closes.

        The end of a body that has nothing more to say is waited for a moment, by nobody else: it
        mostly comes with the last event, and without it the connection can't be used again.
        """
        self._busy = False
        self._waiter = None
        self._pieces = []
        if self._sated and not (self._complete or self._closed):
            self._resume()
            self._ending = self._loop.call_later(_ENDING_SECONDS, self.abort)
        else:
            self._retire()

    def _retire(self) -> None:
        if self._complete and self._reusable and not self._closed:
            self._resume()
            self._keeper.put_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once; the engine then gives up on its request."""
        if not self._closed:
            self._transport.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not (self._busy or self._ending):
            # an engine that talks out of turn would answer the next request with this
            self.abort()
            return
        self._touched = self._loop.time()
        self._got_bytes = True
        self._unaccounted += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._spoiled(error)
        if self._unaccounted > self._limits.head_bytes and not self._complete:
            self._fail(BadAnswer("The model's engine sent more headers than we take."))
        if self._sink is not None and not self._flow(self._sink):
            self._wake()
        if self._ending is not None and self._complete:
            self._see_out()

    def _see_out(self) -> None:
        """Take note that the end of a request that is over has come."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
            self._pieces = []
            self._retire()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._see_out()
        if self._timer is not None:
            self._timer.cancel()
        if not self._busy:
            self._keeper.forget(self)
        elif self._until_close and self._head_done and exc is None and self._error is None:
            self._complete = True
        elif not self._complete:
            self._fail(_lost(untouched=not self._got_bytes))
        self._wake()

    # -- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False
        else:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete or self._error is not None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return
        if not 200 <= status < 600 or is_coded(self.headers):
            self._fail(BadAnswer("The model's engine sent an answer that we can't pass on."))
            return
        self.status = status
        self._until_close = not is_framed(status, self.headers)
        self._head_done = True
        self._unaccounted = 0
        if status >= 400 or not self._wants_whole:
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self._complete or not self._head_done:
            return
        if not self._body_seen:
            self._body_seen = True
            if self._patience.idle_seconds is not None:
                self._watch_clock()
        self._unaccounted = 0
        self._pieces.append(body)
        self._buffered += len(body)
        if self._buffered > self._limits.buffer_bytes and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._sink is None and (self._paused or not self._wants_whole):
            self._wake()

    def on_message_complete(self) -> None:
        if not self._head_done:
            return  # an interim answer: the real one follows
        self._complete = True
        # what is left of a request that was answered early would be read as the next one's head
        unsent = self._transport.get_write_buffer_size()
        self._reusable = self._parser.should_keep_alive() and not unsent
        self._wake()

    # -- waiting and failing ------------------------------------------------------------------

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        pieces, self._pieces, self._buffered = self._pieces, [], 0
        self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _resume(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            self._touched = self._loop.time()
            self._transport.resume_reading()

    def _spoiled(self, error: Exception) -> None:
        """What follows is not HTTP: bad for this answer, or, if it is complete, for the next."""
        self._reusable = False
        if not self._complete:
            failure = BadAnswer("The model's engine sent an answer that is not HTTP/1.1.")
            failure.__cause__ = error
            self._fail(failure)

    def _fail(self, error: GatewayError) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    # -- time ---------------------------------------------------------------------------------

    def _watch_clock(self) -> None:
        """See that patience ends when it is due.

        The timer stays for the next request. It looks at how things stand when it rings, and is
        set anew only where that would be too late.
        """
        due = self._patience.due(self._silent_since())
        if self._timer is None or due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if not self._busy or self._complete:
            return
        silent_since = self._silent_since()
        if self._patience.due(silent_since) > self._loop.time():
            self._watch_clock()
        else:
            self._fail(self._patience.verdict(silent_since))

    def _silent_since(self) -> float | None:
        if not self._body_seen:
            return None
        # while the client lags it is the client that is slow
        return self._loop.time() if self._pieces else self._touched


def _lost(*, untouched: bool) -> ConnectionLost:
    return ConnectionLost(
        "The connection to the model's engine was lost before its answer was complete.",
        untouched=untouched,
    )
