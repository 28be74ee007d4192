"""Server-sent events as vLLM sends them: where they end and which of them end an answer.

Used by the relay. Does no I/O and keeps no text longer than the event that it belongs to.

vLLM ends a stream with `data: [DONE]` also after an error event and after a choice whose
`finish_reason` is "abort" (its engine was told to stop). A client takes `[DONE]` for success, so
the stream is followed event by event and that `[DONE]` is withheld.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .errors import envelope

MAX_EVENT_BYTES = 1 << 20
"""An event larger than this is passed on as it comes, without a look at what it says."""

_BOUNDARY = re.compile(rb"\n\r?\n")
_COMMENTS = re.compile(rb"(?::[^\n]*\n|\r?\n)*")
_DATA = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)


@dataclass(slots=True)
class Stream:
    """One answer, followed to its end.

    `over` means that `[DONE]` came. `failed` is an error event that was passed on. `aborted` is a
    choice that the engine gave up on.
    """

    over: bool = False
    failed: bool = False
    aborted: bool = False
    _partial: bytearray = field(default_factory=bytearray)
    _oversized: bool = False

    @property
    def finished(self) -> bool:
        """Say whether the answer was a success: nothing before its `[DONE]` said otherwise."""
        return self.over and not (self.failed or self.aborted)

    def feed(self, data: bytes) -> bytes:
        """Take what came and return what the client may have of it now, as it was sent.

        That is whole events, and the comments before an event as soon as their lines are whole:
        they are there to keep connections alive.
        """
        if not self._partial and data.endswith(b"\n\n") and not _remarkable(data):
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
        if self.over or not _remarkable(event):
            return b"" if self.over else event
        data = b"\n".join(match[1] for match in _DATA.finditer(event))
        if data.strip() == b"[DONE]":
            self.over = True
            return event if self.finished else b""
        return self._judge_json(event, data)

    def _judge_json(self, event: bytes, data: bytes) -> bytes:
        try:
            content = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event
        if isinstance(content, dict):
            self.aborted = self.aborted or was_aborted(content)
            if error := content.get("error"):
                self.failed = True
                return event if is_error_object(error) else error_event(_described(error))
        return event


def _remarkable(data: bytes) -> bool:
    return b"[DONE]" in data or b'"error"' in data or b'"abort"' in data


def was_aborted(answer: dict[str, Any]) -> bool:
    """Say whether the engine gave up on a choice of this answer (or piece of an answer)."""
    choices = answer.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") == "abort" for choice in choices
    )


def is_error_object(error: object) -> bool:
    """Say whether this value of `error` is what OpenAI's clients expect there."""
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def error_event(body: bytes) -> bytes:
    """Return the event that carries an error body."""
    return b"data: " + body + b"\n\n"


def _described(error: object) -> bytes:
    message = error if isinstance(error, str) else "The engine failed during this answer."
    return envelope(message, kind="internal")
