"""From an answer that has begun to the client, with the errors of engines put into one shape.

Called by the pipeline. A stream of events is passed on event by event and followed to its end: it
was a success only if its protocol's own end came, without an error or an abort before it. Any other
answer is held until it is whole, so that one that breaks off can still become a 502; only one too
large to be held is passed on as it comes.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from .client import JSON, Reply
from .dialects import Content, is_error_object
from .errors import (
    AnswerAborted,
    BackendRefusedUs,
    BadAnswer,
    GatewayError,
    Headers,
    Unsupported,
)
from .headers import media_type, pacing, towards_client
from .room import FREE_BYTES, Place
from .sse import Stream
from .upstream import Sink
from .usage import Usage, of_answer, of_stream, unheard

MAX_HELD_BYTES = 4 << 20
# in which an answer tells its usage, after all else
_TAIL_BYTES = 4096

# nginx, and ingresses made of it, collect an answer unless told not to
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_ABORTED = "The model's engine gave up on this answer before it was complete."
_TYPES = {404: "not_found", 429: "rate_limit_exceeded", 503: "backend_unreachable"}


class Answer(Protocol):
    """What is relayed: an engine's answer whose head is there."""

    @property
    def status(self) -> int:
        """The engine's status."""

    @property
    def headers(self) -> Headers:
        """The engine's headers."""

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end."""

    async def pump(self, sink: Sink) -> None:
        """Hand the rest of the body to this sink, piece by piece."""

    def finish(self) -> None:
        """Take note that the body has nothing more to say, whether or not its end is here."""


async def relay(answer: Answer, reply: Reply, place: Place) -> None:
    """Send this answer, of which as much is held as there is room for.

    Raises GatewayError; the reply knows how much of it has gone out.
    """
    if 300 <= answer.status < 400:
        raise BadAnswer("The model's engine sent a redirect.")
    if answer.status >= 400:
        await _relay_error(answer, reply, place)
    elif media_type(answer.headers) == b"text/event-stream":
        await _relay_stream(answer, reply)
    else:
        await _relay_whole(answer, reply, place)


async def read_whole(answer: Answer, place: Place) -> bytes:
    """Return the body of a good answer. Raises BackendFailed where it is an error or too large."""
    body, is_all = await _hold(answer, place)
    if answer.status != 200 or not is_all:
        raise BadAnswer(f"The model's engine answered with {answer.status}.")
    return body


async def _relay_stream(answer: Answer, reply: Reply) -> None:
    # The head waits for the first piece: until then an engine that fails can still have a status
    # of its own. And Go's reverse proxies (Traefik 3.6 was seen to) now and then cut off an answer
    # whose head comes before they are done with the request, as vLLM's does.
    first = await answer.read()
    if not first:
        raise AnswerAborted(_ABORTED)
    headers = [header for header in towards_client(answer.headers) if header[0] != b"cache-control"]
    reply.start(answer.status, headers + _STREAM_HEADERS, streaming=True)
    events, failure = _Events(Stream(reply.dialect, reply.withholds_usage), reply), None
    try:
        if events.take(first):
            await answer.pump(events)
    except GatewayError as error:
        failure = error
    finally:
        # whoever leaves has used what there was
        reply.record.usage = events.usage
    if events.stream.over:
        answer.finish()
    events.end(failure)


class _Events:
    """Where a stream's events go: past the look at what they say, and to the client."""

    __slots__ = ("_count", "_reply", "stream")

    def __init__(self, stream: Stream, reply: Reply) -> None:
        self.stream = stream
        self._count = 0
        self._reply = reply

    def take(self, data: bytes) -> bool:
        """Pass on what the client may have of this; say whether the stream goes on."""
        self._count += data.count(b"\ndata:") + data.startswith(b"data:")
        if passed := self.stream.feed(data):
            self._reply.write(passed)
        return not self.stream.over

    @property
    def usage(self) -> Usage:
        """The tokens of what has come so far."""
        size = self._reply.record.input_bytes
        stream = self.stream
        return of_stream(stream.begun, stream.told, events=self._count, body_bytes=size)

    @property
    def lagging(self) -> bool:
        """Say whether the client takes less than it is sent."""
        return self._reply.lagging

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """Call this when the client keeps up again; None: no more."""
        self._reply.on_drained(callback)

    def end(self, failure: GatewayError | None) -> None:
        """End the client's stream in the way that tells how it went."""
        stream, reply = self.stream, self._reply
        if failure is None and (last := stream.end()):
            reply.write(last)
        if stream.finished:
            reply.end()
        elif stream.failed:
            reply.note("engine_error")
            reply.end()
        else:
            reply.fail(failure or AnswerAborted(_ABORTED), inside_event=stream.inside_event)


async def _relay_whole(answer: Answer, reply: Reply, place: Place) -> None:
    body, is_all = await _hold(answer, place)
    if not is_all:
        await _relay_large(answer, reply, begin=body)
        return
    if reply.dialect.may_abort(body) and reply.dialect.was_aborted(_object(body)):
        raise AnswerAborted(_ABORTED)
    reply.record.usage = of_answer(body)
    if len(body) <= FREE_BYTES:
        reply.whole(answer.status, towards_client(answer.headers), body)
        return
    reply.start(answer.status, towards_client(answer.headers), length=len(body))
    reply.write(body)
    # its room is taken for as long as the client takes
    await reply.drain()
    reply.end()


async def _relay_large(answer: Answer, reply: Reply, *, begin: bytes) -> None:
    reply.start(answer.status, towards_client(answer.headers))
    piece, tail = begin, b""
    try:
        while piece:
            reply.write(piece)
            tail = (tail + piece[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            await reply.drain()
            piece = await answer.read()
    finally:
        reply.record.usage = of_answer(tail) or unheard(reply.record.input_bytes)
    reply.end()


async def _hold(answer: Answer, place: Place) -> tuple[bytes, bool]:
    """Return the body, or its beginning if it is too large to be held, and which of the two."""
    first = await answer.read()
    held, size = [first], len(first)
    while piece := await answer.read():
        held.append(piece)
        size += len(piece)
        if size > MAX_HELD_BYTES or not place.grow(size):
            return b"".join(held), False
    return b"".join(held), True


async def _relay_error(answer: Answer, reply: Reply, place: Place) -> None:
    """Pass on an error in OpenAI's shape as it is, and put any other into that shape."""
    body, _ = await _hold(answer, place)
    if answer.status == 401:
        raise BackendRefusedUs("The model's engine did not accept this gateway.")
    content = _object(body)
    reply.note("engine_error")
    if is_error_object(content.get("error")):
        reply.whole(answer.status, towards_client(answer.headers), body)
        return
    if answer.status == 404 and content.get("detail") == "Not Found":
        raise Unsupported("The engine of this model does not serve this route.")
    message = _said(content) or f"The model's engine answered with {answer.status}."
    kind = _TYPES.get(answer.status, "invalid_request" if answer.status < 500 else "internal")
    wrapped = reply.dialect.wrap(message, answer.status, kind)
    reply.whole(answer.status, [*pacing(answer.headers), JSON], wrapped)


def _said(content: Content) -> str | None:
    """Return the text of an error that is not in OpenAI's shape, if it has one."""
    said = content.get("error") or content.get("detail")
    first = said[0] if isinstance(said, list) and said else None
    if isinstance(first, dict) and isinstance(first.get("msg"), str):
        # FastAPI's for a body that it does not take
        place = first.get("loc")
        where = ".".join(str(each) for each in place) if isinstance(place, list) else ""
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return said if isinstance(said, str) else None


def _object(body: bytes) -> Content:
    """Return the JSON object that the body is, or an empty one."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
