"""Server-sent events as vLLM sends them: where they end and which of them end an answer.

Used by the relay. Does no I/O and keeps no text longer than the event that it belongs to.

vLLM ends a stream in order also after an error event, and after its engine was told to stop. A
client takes that for success, so the stream is followed event by event and such an end is withheld.
"""

import re
from dataclasses import dataclass, field

import msgspec

from .dialects import OPENAI, Content, Dialect, is_error_object

MAX_EVENT_BYTES = 1 << 20
"""An event larger than this is passed on as it comes, without a look at what it says."""

_BOUNDARY = re.compile(rb"\n\r?\n")
_COMMENTS = re.compile(rb"(?::[^\n]*\n|\r?\n)*")
_DATA = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)


@dataclass(slots=True)
class Stream:
    """One answer, followed to its end.

    `over` means that the protocol's own end came. `failed` is an error event that was passed on.
    `aborted` means that the engine gave up on the answer. `told` is the last event that had `usage`
    in it; one that has nothing else is withheld where `withholds_usage`. `begun` is the first event
    of a message, which tells what it takes in.
    """

    dialect: Dialect = OPENAI
    withholds_usage: bool = False
    over: bool = False
    failed: bool = False
    aborted: bool = False
    told: Content | None = None
    begun: Content | None = None
    _partial: bytearray = field(default_factory=bytearray)
    _oversized: bool = False

    @property
    def finished(self) -> bool:
        """Say whether the answer was a success: nothing before its end said otherwise."""
        return self.over and not (self.failed or self.aborted)

    def feed(self, data: bytes) -> bytes:
        """Take what came and return what the client may have of it now, as it was sent.

        That is whole events, and the comments before an event as soon as their lines are whole:
        they are there to keep connections alive.
        """
        if not self._partial and data.endswith(b"\n\n") and not self.dialect.may_tell(data):
            self._oversized = False
            return b"" if self.over else data
        return self._feed_slowly(data)

    def end(self) -> bytes:
        """Return what the client gets of an event that the (orderly) end of the stream cut off."""
        partial, self._partial = bytes(self._partial), bytearray()
        return partial if self._oversized or not partial else self._judge(partial + b"\n\n")

    @property
    def inside_event(self) -> bool:
        """Say whether the client has the beginning of an event whose end it has not."""
        return self._oversized

    def _feed_slowly(self, data: bytes) -> bytes:
        partial = self._partial
        # a boundary that the cut runs through begins at most two bytes before the new data
        known = max(0, len(partial) - 2)
        partial += data
        passed: list[bytes] = []
        start = 0
        for end in [match.end() for match in _BOUNDARY.finditer(partial, known)]:
            event, start = bytes(partial[start:end]), end
            passed.append(event if self._oversized else self._judge(event))
            self._oversized = False
        del partial[:start]
        if b"\n" in data and not self._oversized:
            passed.append(self._take_comments())
        if len(partial) > MAX_EVENT_BYTES or self._oversized:
            # two bytes stay, so that the end of the event is seen wherever it is cut
            passed.append(bytes(partial[:-2]))
            del partial[:-2]
            self._oversized = True
        return b"".join(passed)

    def _take_comments(self) -> bytes:
        """Take the whole lines before the next event's first, which say nothing, from the text."""
        found = _COMMENTS.match(self._partial)
        comments = found[0] if found else b""
        del self._partial[: len(comments)]
        return b"" if self.over else bytes(comments)

    def _judge(self, event: bytes) -> bytes:
        """Return what the client gets of one whole event."""
        if self.over or not self.dialect.may_tell(event):
            return b"" if self.over else event
        data = b"\n".join(match[1] for match in _DATA.finditer(event))
        if data.strip() == b"[DONE]":
            self.over = True
            return event if self.finished else b""
        try:
            content = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event
        return self._judge_content(event, content) if isinstance(content, dict) else event

    def _judge_content(self, event: bytes, content: Content) -> bytes:
        dialect = self.dialect
        self.aborted = self.aborted or dialect.was_aborted(content)
        if dialect.is_error(content):
            self.failed = True
            return event if is_error_object(content.get("error")) else _error_of(dialect, content)
        if dialect.is_end(content):
            self.over, self.told = True, self.told or content
            return event if self.finished else b""
        if "message" in content:
            self.begun = content
        if content.get("usage"):
            self.told = content
            if self.withholds_usage and content.get("choices") == []:
                return b""
        return event


def _error_of(dialect: Dialect, content: Content) -> bytes:
    """Return the event for an error that is not told as the dialect tells one."""
    said = content.get("error") or content.get("message")
    message = said if isinstance(said, str) else "The engine failed during this answer."
    return dialect.event(dialect.wrap(message, 500, "internal"))
