"""The front: uvicorn, bounded where uvicorn is not, and deaf where two parsers could disagree.

Built by app. uvicorn (0.54) takes a request's head without an end in size or time, waits for ever
for a client that doesn't read, and ends a request at its head where a client offers another
protocol in `Upgrade`, so that the body is taken for the next request. Here every connection has
one request at a time, which ends where its framing says, and nobody can hold one for nothing.
Refuses to know of paths and answers: those are the application's.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from .errors import GatewayError, HeadTooLarge, HeadTooSlow, InvalidRequest, render
from .headers import Headers, request_id

ON_LEAVE = "vllm_endpoints.on_leave"
"""The extension of ASGI's scope under which `ClientConnection.on_leave` is found, as `set`."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take.

    `head_bytes` bounds a request's head, and its trailers and what else is not body; `head_seconds`
    the time for a head, from its first bytes; `stall_seconds` the time in which a client that lags
    must read on.
    """

    head_bytes: int = 65536
    head_seconds: float = 30.0
    stall_seconds: float = 300.0


class ClientConnection(HttpToolsProtocol):
    """One client's connection, with at most one request at a time."""

    # ruff: noqa: D102 - the methods that only asyncio and httptools call are documented there

    # uvicorn declares it as always there; it is None until a request's head is complete
    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def __init__(self, *, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._extensions: dict[str, dict[object, object]] = {ON_LEAVE: {"set": self.on_leave}}
        self._leaver: Callable[[], None] | None = None
        self._deaf = False
        self._between_requests = True
        self._replaying = False
        self._unaccounted = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def on_leave(self, callback: Callable[[], None] | None) -> None:
        """Call this when the client leaves before it has its answer, or has left; None: no more.

        What is still to come of the request's body is thrown away meanwhile.
        """
        self._leaver = callback
        if callback is not None:
            # a client from whom nobody reads can't be seen leaving
            self.flow.resume_reading()
            if self.cycle is not None and self.cycle.disconnected:
                callback()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_stall_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self._leaver is not None:
            self._leaver()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._unaccounted += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(_reason(error))
            return
        if self._unaccounted > self._limits.head_bytes:
            self._refuse(HeadTooLarge())
        elif (cycle := self.cycle) is None or cycle.response_complete:
            self._await_more()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self._limits.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timer()

    # -- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            # nobody notices that a client leaves whose next request waits to be read
            raise InvalidRequest("A connection takes one request at a time.")
        self.cycle = None
        self._between_requests = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._replaying:
            return
        if self._unaccounted > self._limits.head_bytes < self._head_size():
            raise HeadTooLarge
        self._unaccounted = 0
        if self._head_timer is not None:
            self._stop_head_timer()
        self.scope["extensions"] = self._extensions
        super().on_headers_complete()
        # the request has its list; trailers, which would be appended, go into one that nobody reads
        self.headers = []

    # uvicorn's next two ask the parser whether this could be a WebSocket, which costs

    def on_body(self, body: bytes) -> None:
        self._unaccounted = 0
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self._leaver is not None:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # as far as httptools is concerned; the body is still to come
        self._unaccounted = 0
        self._between_requests = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    # -- reading ------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
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
        self.parser = httptools.HttpRequestParser(self)
        framing = [b"%s: %s\r\n" % each for each in self.scope["headers"] if each[0] in _FRAMING]
        self._replaying = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
        self._replaying = False

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # -- waiting and refusing -----------------------------------------------------------------

    def _await_more(self) -> None:
        """See that a connection without a request to answer doesn't stay so for ever."""
        if self._between_requests:
            self._stop_head_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self._limits.head_seconds, self._refuse, HeadTooSlow()
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def timeout_keep_alive_handler(self) -> None:
        # close() would wait for a client that hasn't read its last answer
        self.transport.abort()

    def _refuse(self, error: GatewayError) -> None:
        """Read nothing more, answer if what was read has no answer yet, and close after it."""
        self._deaf = True
        self._stop_head_timer()
        cycle = self.cycle
        if cycle is None or (cycle.more_body and not cycle.response_started):
            self.transport.write(_refusal(error, self.server_state.default_headers))
        elif not cycle.response_complete:
            cycle.keep_alive = False
            return
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _reason(error: httptools.HttpParserError) -> GatewayError:
    """Return the GatewayError that a callback raised, or say that it was no HTTP."""
    raised = error.__context__
    if isinstance(raised, GatewayError):
        return raised
    return InvalidRequest("What was sent is not an HTTP/1.1 request.")


def _refusal(error: GatewayError, headers: Headers) -> bytes:
    body = render(error)
    headers = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id([])),
        (b"connection", b"close"),
    ]
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"%s%s\r\n%s" % (STATUS_LINE[error.status], head, body)


def configure(application: Any, *, limits: Limits | None = None, **options: Any) -> Config:
    """Return uvicorn's configuration for this ASGI application; `options` are uvicorn's."""
    protocol = partial(ClientConnection, limits=limits or Limits())
    return Config(
        application,
        # uvicorn asks for a class, and calls it
        http=cast(type[asyncio.Protocol], protocol),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        **options,
    )


class Server(uvicorn.Server):
    """uvicorn, with the process's signals left to whoever runs it, and an end that is one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def shutdown(self, sockets: Any = None) -> None:
        """Let requests finish for as long as is configured; then end them, and see that they do."""
        await super().shutdown(sockets)
        if not self.force_exit:
            await self._settled()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self._settled()

    async def _settled(self) -> None:
        """Give cancelled requests the time to say so to their clients."""
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=1)
