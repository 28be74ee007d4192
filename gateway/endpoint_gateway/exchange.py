"""One request of a client, as far as it has come, and its answer, as far as it has gone out.

Made by inbound for each request, and handed to the application. Frames answers, and nothing else:
what is in them is up to client and relay.
"""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from .errors import ClientGone, GatewayError, Headers

NO_CONTENT = 204
"""A status whose answer has no body, and must not have a content-length (RFC 9110, 8.6)."""

READ_AHEAD_BYTES = 65536

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Wire(Protocol):
    """The connection under an exchange."""

    def write(self, data: bytes) -> None:
        """Send these bytes, or keep them until the client takes them."""

    def hold_reading(self) -> None:
        """Take nothing more from the client for now."""

    def go_on_reading(self) -> None:
        """Take again what the client sends."""

    def hurry(self, seconds: float) -> None:
        """Give the rest of the request's body so much time at most."""

    def answered(self, exchange: "Exchange") -> None:
        """Take note that an answer is complete."""


class Exchange:
    """A request and its answer.

    `path` is the URL's, decoded, without its query. `headers` have names in lower case. `lagging`
    says that the client takes less than it is sent. `keep_alive` says whether the connection may
    have another request after this one. `always` are headers of the answer, whatever it is.
    """

    __slots__ = (
        "_chunked",
        "_complete",
        "_drained",
        "_failure",
        "_head",
        "_invited",
        "_leaver",
        "_pieces",
        "_size",
        "_waiter",
        "_wire",
        "always",
        "ended",
        "gone",
        "headers",
        "keep_alive",
        "lagging",
        "method",
        "path",
        "started",
        "version",
    )

    def __init__(
        self,
        wire: Wire,
        *,
        method: str,
        path: str,
        headers: Headers,
        version: str,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.version = version
        self.keep_alive = keep_alive and version == "1.1"
        self.started = False
        self.ended = False
        self.gone = False
        self.lagging = False
        self.always: Headers = []
        self._wire = wire
        self._pieces: list[bytes] = []
        self._size = 0
        self._complete = False
        self._invited = False
        self._chunked = False
        self._head = b""
        self._failure: GatewayError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: Callable[[], None] | None = None
        self._leaver: Callable[[], None] | None = None

    # -- the request's body -------------------------------------------------------------------

    async def read(self) -> bytes:
        """Return what has come of the body since the last call, waiting for some; b"" at its end.

        Raises ClientGone, and GatewayError where what came is no body, or came too slowly.
        """
        while not self._pieces and not self._complete:
            if self._failure is not None:
                raise self._failure
            if self.gone:
                raise ClientGone
            await self._wait_for_body()
        pieces, self._pieces, self._size = self._pieces, [], 0
        if not self._complete:
            self._wire.go_on_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _wait_for_body(self) -> None:
        if not (self._invited or self.started):
            self._invited = True
            if self.version == "1.1" and any(name == b"expect" for name, _ in self.headers):
                self._wire.write(_CONTINUE)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def take_body(self, piece: bytes) -> None:
        """Take a piece of the body, which nobody reads on once there is an answer."""
        if self.ended or self._leaver is not None:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > READ_AHEAD_BYTES:
            self._wire.hold_reading()
        self._wake()

    def complete(self) -> None:
        """Take note that the whole request is there."""
        self._complete = True
        self._wake()

    def refuse(self, failure: GatewayError) -> None:
        """Take note that the rest of the request can't come."""
        self._failure = failure
        self.keep_alive = False
        self._wake()

    def hurry(self, seconds: float) -> None:
        """Give the rest of the body so much time at most."""
        if not (self._complete or self.gone):
            self._wire.hurry(seconds)

    @property
    def is_complete(self) -> bool:
        """Say whether the whole request is there."""
        return self._complete

    @property
    def size(self) -> int:
        """Return how much of the body has come and was not read."""
        return self._size

    # -- the answer ---------------------------------------------------------------------------

    def start(self, status: int, headers: Headers, *, length: int | None = None) -> None:
        """Begin an answer, whose head goes out with its first piece; `length` None: not known."""
        self.started = True
        framing = b""
        if status != NO_CONTENT:
            if length is not None:
                framing = b"content-length: %d\r\n" % length
            elif self.version == "1.1":
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        head = [status_line(status), date_line()]
        for name, value in (*headers, *self.always):
            head += (name, b": ", value, b"\r\n")
        head += (framing, b"\r\n")
        self._head = b"".join(head)

    def write(self, data: bytes) -> None:
        """Send a piece of the body; see `drain` for a client that doesn't keep up."""
        if data:
            self._send(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        self.ended = True
        self._pieces = []
        if self._chunked:
            data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if data else _LAST_CHUNK
        self._send(data)
        self._wire.answered(self)

    def _send(self, framed: bytes) -> None:
        if self.gone:
            return
        if self.method == "HEAD":
            framed = b""
        if self._head:
            framed, self._head = self._head + framed, b""
        self._wire.write(framed)

    async def drain(self) -> None:
        """Wait until the client keeps up, or has left."""
        if not self.lagging or self.gone:
            return
        kept_up = asyncio.Event()
        self._drained = kept_up.set
        try:
            await kept_up.wait()
        finally:
            self._drained = None

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """Call this whenever the client keeps up again, or has left; None: no more."""
        self._drained = callback

    # -- the client ---------------------------------------------------------------------------

    def on_leave(self, callback: Callable[[], None] | None) -> None:
        """Call this when the client leaves before it has its answer, or has left; None: no more.

        What is still to come of the request's body is thrown away meanwhile.
        """
        self._leaver = callback
        if callback is not None:
            # a client from whom nobody reads can't be seen leaving
            self._wire.go_on_reading()
            if self.gone:
                callback()

    def leave(self) -> None:
        """Take note that the client has left."""
        self.gone = True
        self._wake()
        self.keep_up()
        if self._leaver is not None:
            self._leaver()

    def lag(self) -> None:
        """Take note that the client takes less than it is sent."""
        self.lagging = True

    def keep_up(self) -> None:
        """Take note that the client has taken what it was sent."""
        self.lagging = False
        if self._drained is not None:
            self._drained()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@lru_cache
def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    return f"HTTP/1.1 {status} {_REASONS.get(status, 'Other')}\r\n".encode()


def date_line() -> bytes:
    """Return the header that RFC 9110 (6.6.1) wants of every answer; made once per second."""
    return _date_line(int(time.time()))


@lru_cache(maxsize=1)
def _date_line(now: int) -> bytes:
    return f"date: {formatdate(now, usegmt=True)}\r\n".encode()
