"""The client's side of one request: its body, its answer, and whether it is still there.

Used by the pipeline and by relay; the only module that speaks ASGI's message dictionaries. An
answer that has begun can't become another one: from then on an error is an event of the stream,
or a connection that ends early.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

from .errors import BodyTooLarge, ClientGone, GatewayError, Headers, InvalidRequest, render
from .headers import find
from .metrics import Record
from .sse import error_event

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
OnLeave = Callable[[Callable[[], None] | None], None]
"""`ClientConnection.on_leave` of the server."""

NO_CONTENT = 204
"""A status whose answer must not have a content-length (RFC 9110, 8.6)."""

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


class Reply:
    """The answer to one request, as far as it was sent.

    `streaming` says that it is a stream of events, so that an error can still be told in it.
    """

    __slots__ = ("_record", "_send", "ended", "request_id", "started", "streaming")

    def __init__(self, send: Send, *, request_id: bytes, record: Record) -> None:
        self._send = send
        self._record = record
        self.request_id = request_id
        self.started = False
        self.streaming = False
        self.ended = False

    async def start(self, status: int, headers: Headers, *, streaming: bool = False) -> None:
        """Send status and headers; our request id is among them."""
        self.started, self.streaming = True, streaming
        self._record.status = status
        headers.append((b"x-request-id", self.request_id))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; returns when the client keeps up."""
        self._record.saw_byte()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        self.ended = True
        self._record.saw_byte()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        if status != NO_CONTENT:
            headers.append((b"content-length", b"%d" % len(body)))
        await self.start(status, headers)
        await self.end(body)

    async def json(self, status: int, body: bytes) -> None:
        """Send a whole answer that is JSON."""
        await self.whole(status, [JSON], body)

    def note(self, error: str) -> None:
        """Write down that the answer is an error."""
        self._record.error = error

    async def fail(self, error: GatewayError, *, inside_event: bool = False) -> None:
        """Tell the client of an error in the way that is still open.

        An answer that has begun and is no stream is left unfinished: the server then closes the
        connection, which is how HTTP says that a body is not complete.
        """
        self.note(error.code or error.type)
        body = render(error)
        if not self.started:
            await self.whole(error.status, [JSON, *error.headers], body)
        elif self.streaming and not self.ended:
            await self.end((b"\n\n" if inside_event else b"") + error_event(body))


async def read_body(receive: Receive, headers: Headers, *, limit: int) -> bytes:
    """Return the request's whole body. Raises BodyTooLarge and ClientGone.

    A body that is announced as too large is not waited for. What the client sends on regardless
    is thrown away by the server, so that it lives to read its answer.
    """
    announced = find(headers, b"content-length")
    if announced is not None and _number(announced) > limit:
        raise BodyTooLarge(f"The request's body is larger than {limit} bytes.")
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"The request's body is larger than {limit} bytes.")
        if not message.get("more_body", False):
            return piece if not pieces else b"".join((*pieces, piece))
        pieces.append(piece)


def _number(value: bytes) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise InvalidRequest("`Content-Length` is not a number.") from error


class Watch:
    """Ends the block under it when the client goes away, by raising ClientGone there.

    An engine is silent for as long as it reads a prompt, so nothing but a look at the client's
    connection tells that nobody waits any more. The server has that look for us: a task that waits
    for ASGI's `http.disconnect` would be a tenth of what a small request costs. What the
    request's body still has is thrown away.
    """

    __slots__ = ("_gone", "_on_leave", "_task")

    def __init__(self, on_leave: OnLeave) -> None:
        self._on_leave = on_leave
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of ours always runs in a task
        self._task = task
        self._on_leave(self._leave)

    def _leave(self) -> None:
        if not self._gone:
            self._gone = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._on_leave(None)
        if self._gone and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise ClientGone from error
