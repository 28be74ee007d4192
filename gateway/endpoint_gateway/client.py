"""The client's side of one request: its body, its answer, and whether it is still there.

Used by the pipeline and by relay. An answer that has begun can't become another one: from then on
an error is an event of the stream, or a connection that ends early.
"""

import asyncio
from collections.abc import Callable
from io import BytesIO
from types import TracebackType

from .dialects import OPENAI
from .errors import BodyTooLarge, ClientGone, GatewayError, Headers, Overloaded
from .exchange import Exchange
from .headers import find
from .record import Record
from .room import FREE_BYTES, Place

_GRACE_SECONDS = 30.0
_BYTES_PER_SECOND = 65536

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


class Reply:
    """The answer to one request, on its record, with errors in the dialect of its route.

    `streaming` says that it is a stream of events, so that an error can still be told in it.
    `pacing` are headers that tell of limits, and go with every answer from when they are known.
    `withholds_usage` says that the client did not ask for the event that tells a stream's usage.
    """

    __slots__ = (
        "_exchange",
        "dialect",
        "pacing",
        "record",
        "streaming",
        "withholds_usage",
    )

    def __init__(self, exchange: Exchange, record: Record) -> None:
        self._exchange = exchange
        self.record = record
        self.dialect = OPENAI
        self.pacing: Headers = []
        self.streaming = False
        self.withholds_usage = False

    def start(
        self, status: int, headers: Headers, *, streaming: bool = False, length: int | None = None
    ) -> None:
        """Begin with status and headers; our request id is among them."""
        self.streaming = streaming
        self.record.status = status
        if self.pacing:
            # the engine's own limits would be a second value of ours
            headers = [each for each in headers if not each[0].startswith(b"x-ratelimit-")]
            headers += self.pacing
        headers.append((b"x-request-id", self.record.request_id))
        self._exchange.start(status, headers, length=length)

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        self.record.saw_byte()
        self._exchange.write(data)

    async def drain(self) -> None:
        """Wait until the client keeps up."""
        await self._exchange.drain()

    @property
    def lagging(self) -> bool:
        """Say whether the client takes less than it is sent."""
        return self._exchange.lagging

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """Call this whenever the client keeps up again, or has left; None: no more."""
        self._exchange.on_drained(callback)

    def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        self.record.saw_byte()
        self._exchange.end(data)

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        self.start(status, headers, length=len(body))
        self.end(body)

    def json(self, status: int, body: bytes) -> None:
        """Send a whole answer that is JSON."""
        self.whole(status, [JSON], body)

    def note(self, error: str) -> None:
        """Write down that the answer is an error."""
        self.record.error = error

    def fail(self, error: GatewayError, *, inside_event: bool = False) -> None:
        """Tell the client of an error in the way that is still open.

        An answer that has begun and is no stream is left unfinished: the server then closes the
        connection, which is how HTTP says that a body is not complete.
        """
        self.note(error.code or error.type)
        body = self.dialect.render(error)
        if not self._exchange.started:
            self.whole(error.status, [JSON, *error.headers], body)
        elif self.streaming and not self._exchange.ended:
            self.end((b"\n\n" if inside_event else b"") + self.dialect.event(body))


async def make_room(exchange: Exchange, place: Place, *, limit: int) -> None:
    """Take room for a large body, and see that who has it sends. Raises BodyTooLarge, Overloaded.

    One that is announced as too large is not waited for. What the client sends on regardless is
    thrown away by the server, so that it lives to read its answer. One of which no size is
    announced takes more room as it comes.
    """
    announced = find(exchange.headers, b"content-length")
    # the parser took it for a number
    size = exchange.size if announced is None else int(announced)
    if size > limit:
        raise too_large(limit)
    if size > FREE_BYTES:
        await place.take(size)
    if size > FREE_BYTES or announced is None:
        most = limit if announced is None else size
        exchange.hurry(_GRACE_SECONDS + most / _BYTES_PER_SECOND)


async def next_piece(exchange: Exchange, place: Place, *, so_far: int, limit: int) -> bytes:
    """Return more of a body of which so much has come, b"" at its end; there is room for it.

    Raises as `Exchange.read` does, and as `make_room`.
    """
    piece = await exchange.read()
    if so_far + len(piece) > limit:
        raise too_large(limit)
    if not place.grow(so_far + len(piece), yields=False):
        raise Overloaded
    return piece


async def read_body(exchange: Exchange, place: Place, *, limit: int) -> bytes:
    """Return the request's whole body. Raises as `next_piece` does."""
    body = await next_piece(exchange, place, so_far=0, limit=limit)
    if exchange.is_complete:
        return body
    # pieces that are joined in the end would take twice the memory, and leave it in pieces
    whole = BytesIO()
    while whole.write(body):
        body = await next_piece(exchange, place, so_far=whole.tell(), limit=limit)
    return whole.getvalue()


def too_large(limit: int) -> BodyTooLarge:
    """Return what is to be raised for a body over this many bytes."""
    return BodyTooLarge(f"The request's body is larger than {limit} bytes.")


class Watch:
    """Ends the block under it when the client goes away, by raising ClientGone there.

    An engine is silent for as long as it reads a prompt, so nothing but a look at the client's
    connection tells that nobody waits any more. What the request's body still has is thrown away.
    """

    __slots__ = ("_exchange", "_gone", "_task")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of ours always runs in a task
        self._task = task
        self._exchange.on_leave(self._leave)

    def _leave(self) -> None:
        if not self._gone:
            self._gone = True
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exchange.on_leave(None)
        if self._gone and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise ClientGone from error
