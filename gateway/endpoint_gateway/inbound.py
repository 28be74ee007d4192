"""A client's connection: HTTP/1.1 as far as it is a request, and bounds on all that isn't.

Made by server, one for each connection. Every connection has one request at a time, which ends
where its framing says, and nobody can hold one for nothing. It is our own, since relaying is what
the gateway is for (docs/adr/0003-gateway-http-stack.md). Refuses to know of paths and answers:
those are the application's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from .deadline import Deadline
from .errors import GatewayError, Headers, HeadTooLarge, InvalidRequest, TooSlow, render
from .exchange import Exchange, date_line, status_line
from .headers import request_id
from .target import NO_HTTP, read_target

Handler = Callable[[Exchange], Awaitable[None]]
"""An application: it answers one request. It raises nothing."""

_FAREWELL_SECONDS = 2.0
_LINE_BYTES = 128  # what a header takes besides its text
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take.

    `head_bytes` bounds a request's head, and its trailers and what else is not body; `head_lines`
    how many headers there are; `all_heads_bytes` what heads that are not whole may take together,
    of all clients; `head_seconds` the time for a head, from its first bytes, and for
    what is left of a body when its answer is complete; `stall_seconds` the time in which a client
    that lags must read on, and one that sends a body must send some more of it; `body_seconds` the
    time for a whole body; `idle_seconds` how long a connection is kept on which nothing is asked.
    """

    head_bytes: int = 65536
    head_lines: int = 256
    all_heads_bytes: int = 1 << 25
    head_seconds: float = 30.0
    stall_seconds: float = 300.0
    body_seconds: float = 600.0
    idle_seconds: float = 620.0


class Keeper(Protocol):
    """Who knows all connections."""

    @property
    def handler(self) -> Handler:
        """Return the application."""

    @property
    def ending(self) -> bool:
        """Say whether no connection may take another request."""

    def opened(self, connection: "ClientConnection") -> None:
        """Take note of a connection."""

    def closed(self, connection: "ClientConnection") -> None:
        """Take note that a connection is no more."""

    def hold(self, more: int) -> None:
        """Take note of so many more bytes of heads that are not whole."""

    def refused(self, status: int) -> None:
        """Take note that what came was no request, and was answered with this."""

    def run(self, answer: Coroutine[object, object, None]) -> None:
        """Have a request answered."""


class ClientConnection(asyncio.Protocol):
    """One client's connection, with at most one request at a time.

    `held` is the memory that a head takes that is not whole.
    """

    # ruff: noqa: D102 - the methods that only asyncio and httptools call are documented there

    __slots__ = (
        "_begun",
        "_body_due",
        "_deadline",
        "_deaf",
        "_exchange",
        "_headers",
        "_keeper",
        "_lagging",
        "_limits",
        "_loop",
        "_parser",
        "_replaying",
        "_running",
        "_transport",
        "_unaccounted",
        "_url",
        "_waits",
        "held",
    )

    def __init__(self, keeper: Keeper, limits: Limits) -> None:
        self._keeper = keeper
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._running = False
        self._begun = False
        self._url = b""
        self._headers: Headers = []
        self._deaf = False
        self._lagging = False
        self._waits = False
        self._replaying = False
        self._unaccounted = 0
        self.held = 0
        self._body_due = 0.0
        self._deadline = Deadline(self._loop)

    def retire(self) -> None:
        """Let the request that is here be the last one, or the next one if it comes soon.

        A client that sends one just now must not find that nobody is there any more.
        """
        if self._exchange is not None and not self._exchange.ended:
            self._exchange.keep_alive = False
        elif self._exchange is not None or self._deaf or not self._begun:
            self._deadline.set(_FAREWELL_SECONDS, self._close)

    @property
    def unused(self) -> bool:
        """Say whether no request is here that is not answered yet."""
        return self._exchange is None or self._exchange.ended

    @property
    def incomplete(self) -> bool:
        """Say whether a request is here of which some is still to come."""
        return self._exchange is not None and not self._exchange.is_complete

    @property
    def since(self) -> float:
        """Return since when it is waited for what is awaited, in the loop's time."""
        return self._deadline.since

    def abort(self) -> None:
        """Close at once."""
        self._hold(0)
        self._transport.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._deadline.set(self._limits.idle_seconds, self.abort)
        self._keeper.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._keeper.closed(self)
        self._hold(0)
        self._deadline.end()
        exchange = self._exchange
        if exchange is not None and not exchange.ended:
            exchange.leave()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unaccounted += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(_reason(error))
        else:
            if self._unaccounted > self._limits.head_bytes:
                self._refuse(HeadTooLarge())
        exchange = self._exchange
        if exchange is None or exchange.ended:
            self._await_the_rest()
            return
        if not (self._running or exchange.gone):
            self._running = True
            self._deadline.lift()
            self._keeper.run(self._answer(exchange))
            self._body_due = self._loop.time() + self._limits.body_seconds
        self._await_body(exchange)

    def pause_writing(self) -> None:
        self._lagging = True
        self._deadline.set(self._limits.stall_seconds, self.abort)
        if self._exchange is not None:
            self._exchange.lag()

    def resume_writing(self) -> None:
        self._lagging = False
        exchange = self._exchange
        if exchange is None:
            self._await_next()
        elif not exchange.ended:
            self._deadline.lift()
            exchange.keep_up()

    # -- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        if self._exchange is not None:
            # nobody notices that a client leaves whose next request waits to be read
            raise InvalidRequest("A connection takes one request at a time.")
        self._begun = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._replaying:
            return
        if self._unaccounted > self._limits.head_bytes < self._head_size():
            raise HeadTooLarge
        if len(self._headers) > self._limits.head_lines:
            raise HeadTooLarge
        self._unaccounted = 0
        self._hold(0)
        parser = self._parser
        version = parser.get_http_version()
        path, self._headers = read_target(self._url, self._headers, version=version)
        self._url = b""
        self._exchange = Exchange(
            self,
            method=parser.get_method().decode("ascii"),
            path=path,
            headers=self._headers,
            version=version,
            keep_alive=parser.should_keep_alive() and not self._keeper.ending,
        )

    def on_body(self, body: bytes) -> None:
        self._unaccounted = 0
        if self._exchange is not None:
            self._exchange.take_body(body)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # as far as httptools is concerned; the body is still to come
        self._unaccounted = 0
        self._begun = False
        exchange = self._exchange
        if exchange is not None:
            if not self._lagging:
                self._deadline.lift()
            exchange.complete()
            if exchange.ended:
                self._await_next()

    # -- reading ------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._decline_upgrade()
                data = data[upgrade.args[0] :]
            else:
                return

    def _decline_upgrade(self) -> None:
        """Go on with HTTP/1.1, as RFC 9110 (7.8) lets a server do that ignores an `Upgrade`.

        httptools can't be told to: another parser gets a head with the same framing, and of what
        it finds only the body is passed on.
        """
        self._parser = httptools.HttpRequestParser(self)
        framing = [b"%s: %s\r\n" % each for each in self._headers if each[0] in _FRAMING]
        self._replaying = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
        self._replaying = False

    def _hold(self, size: int) -> None:
        """Take note of what is held of a head that is not whole."""
        if size != self.held:
            more, self.held = size - self.held, size
            self._keeper.hold(more)

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    # -- for the exchange ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def hold_reading(self) -> None:
        if not self._waits:
            self._waits = True
            self._transport.pause_reading()

    def go_on_reading(self) -> None:
        if self._waits and not self._transport.is_closing():
            self._waits = False
            self._transport.resume_reading()

    def hurry(self, seconds: float) -> None:
        self._body_due = min(self._body_due, self._loop.time() + seconds)
        if self._exchange is not None:
            self._await_body(self._exchange)

    def answered(self, exchange: Exchange) -> None:
        if exchange.gone:
            return
        last = self._deaf or not exchange.keep_alive
        # a client that still sends may stay for a while
        self._headers = exchange.headers = []
        exchange.path = ""
        if last and exchange.is_complete:
            self._deaf = True
            self._close()
        elif last:
            self._part()
        elif exchange.is_complete:
            self._await_next()
        else:
            self.go_on_reading()
            self._await_the_rest()

    async def _answer(self, exchange: Exchange) -> None:
        await self._keeper.handler(exchange)
        if not (exchange.ended or exchange.gone):
            # an answer that was left unfinished: the end of the connection says so
            self._close()

    # -- waiting and refusing -----------------------------------------------------------------

    def _await_next(self) -> None:
        """Wait for another request, once the client has taken the answer to this one."""
        self._exchange = None
        self._running = False
        self._deadline.lift()
        if self._keeper.ending:
            self._close()
        elif self._lagging:
            self.hold_reading()
            self._deadline.set(self._limits.stall_seconds, self.abort)
        else:
            self.go_on_reading()
            self._deadline.set(self._limits.idle_seconds, self.abort)

    def _await_body(self, exchange: Exchange) -> None:
        if not (exchange.is_complete or self._lagging or self._deaf):
            left = self._body_due - self._loop.time()
            self._deadline.set(min(self._limits.stall_seconds, left), self._stalls)

    def _await_the_rest(self) -> None:
        """See that what was begun and is not answered doesn't stay half sent for ever."""
        if not self._begun or self._deaf:
            return
        if not self._deadline.is_for(self._too_slow):
            self._deadline.set(self._limits.head_seconds, self._too_slow)
        if self._exchange is None:
            self._hold(self._unaccounted + _LINE_BYTES * len(self._headers))

    def _too_slow(self) -> None:
        self._refuse(TooSlow("The request's headers did not arrive in time."))

    def _stalls(self) -> None:
        self._refuse(TooSlow("The request's body did not arrive in time."))

    def _refuse(self, error: GatewayError) -> None:
        """Read nothing more, see that what was read is answered, and close after it."""
        self._deaf = True
        exchange = self._exchange
        if exchange is not None and not exchange.ended:
            exchange.refuse(error)
            return
        if exchange is None:
            self._url, self._headers = b"", []
            self._hold(0)
            self._keeper.refused(error.status)
            self._transport.write(_refusal(error))
            self._part()
        else:
            self._close()

    def _part(self) -> None:
        """Close, but not yet to a client that still sends: it would lose its answer by that."""
        self._deaf = True
        self._transport.write_eof()
        self.go_on_reading()
        self._deadline.set(self._limits.head_seconds, self._close)

    def _close(self) -> None:
        """Close when all is sent, for which a client that doesn't read has a while."""
        self._transport.close()
        self._deadline.set(self._limits.stall_seconds, self.abort)


def _reason(error: httptools.HttpParserError) -> GatewayError:
    """Return the GatewayError that a callback raised, or say that it was no HTTP."""
    raised = error.__context__
    if isinstance(raised, GatewayError):
        return raised
    return InvalidRequest(NO_HTTP)


def _refusal(error: GatewayError) -> bytes:
    body = render(error)
    return b"".join(
        (
            status_line(error.status),
            date_line(),
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            b"x-request-id: %s\r\nconnection: close\r\n\r\n" % request_id([]),
            body,
        )
    )
