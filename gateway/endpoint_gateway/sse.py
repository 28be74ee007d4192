"""Server-sent events as vLLM sends them: where they end and which of them end an answer.

Used by the relay. Does no I/O and keeps no text longer than the event that it belongs to.

vLLM ends a stream with `data: [DONE]` also after an error event and after a choice whose
`finish_reason` is "abort" (its engine was told to stop). A client takes `[DONE]` for success, so
the stream is followed event by event and that `[DONE]` is withheld.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import envelope

MAX_EVENT_BYTES = 1 << 20
"""An event larger than this is passed on as it comes, without a look at what it says."""

_BOUNDARY = re.compile(rb"\n\r?\n")
_DATA = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)


@dataclass(slots=True)
class Stream:
    """One answer, followed to its end.

    `finished` is success: `[DONE]` came and nothing before it said otherwise. `failed` is an error
    event that was passed on. `aborted` is a choice that the engine gave up on.
    """

    finished: bool = False
    failed: bool = False
    aborted: bool = False
    _partial: bytes = b""
    _oversized: bool = False

    def feed(self, data: bytes) -> bytes:
        """Take what came and return what the client may have of it now: whole events, as sent."""
        if not self._partial and data.endswith(b"\n\n") and not _remarkable(data):
            self._oversized = False
            return b"" if self.finished else data
        return self._feed_slowly(data)

    def end(self) -> bytes:
        """Return what the client gets of an event that the (orderly) end of the stream cut off."""
        partial, self._partial = self._partial, b""
        return partial if self._oversized or not partial else self._judge(partial + b"\n\n")

    @property
    def inside_event(self) -> bool:
        """Say whether the client has the beginning of an event whose end it has not."""
        return self._oversized

    def _feed_slowly(self, data: bytes) -> bytes:
        text = self._partial + data
        passed: list[bytes] = []
        start = 0
        # a boundary that the cut runs through begins at most two bytes before the new data
        for match in _BOUNDARY.finditer(text, max(0, len(self._partial) - 2)):
            event, start = text[start : match.end()], match.end()
            passed.append(event if self._oversized else self._judge(event))
            self._oversized = False
        self._partial = text[start:]
        if len(self._partial) > MAX_EVENT_BYTES or self._oversized:
            # two bytes stay, so that the end of the event is seen wherever it is cut
            passed.append(self._partial[:-2])
            self._partial, self._oversized = self._partial[-2:], True
        return b"".join(passed)

    def _judge(self, event: bytes) -> bytes:
        """Return what the client gets of one whole event."""
        if self.finished or not _remarkable(event):
            return b"" if self.finished else event
        data = b"\n".join(match[1] for match in _DATA.finditer(event))
        if data.strip() == b"[DONE]":
            self.finished = not (self.failed or self.aborted)
            return event if self.finished else b""
        return self._judge_json(event, data)

    def _judge_json(self, event: bytes, data: bytes) -> bytes:
        try:
            content = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError):
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
