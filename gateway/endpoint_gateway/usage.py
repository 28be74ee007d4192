"""How many tokens an answer took: as the engine tells, or estimated where it no longer could.

Used by relay for each good answer, and by metrics, which writes it down. Pure. Knows the names
that OpenAI's routes have for these numbers, and those that its responses and Anthropic's messages
have.
"""

from typing import Any, NamedTuple

import msgspec

from .shapes import Told, decode_told

Content = dict[str, Any]

_MOST_TOKENS = 10_000_000
"""Of one answer: an engine that tells of more must not take limits out of service."""

_BYTES_PER_TOKEN = 4
"""Of English text, roughly; of most other languages a token has fewer letters and as many bytes."""


class Usage(NamedTuple):
    """The tokens of one answer; `estimated` says that not both numbers are the engine's."""

    input: int
    output: int
    estimated: bool = False

    @property
    def total(self) -> int:
        """Return what counts against limits."""
        return self.input + self.output


def of_answer(body: bytes) -> Usage | None:
    """Return the usage that a whole answer tells, if it tells any."""
    at = body.rfind(b'"usage"')
    # mostly it is near the end of the answer, and what comes before it need not be read: with a
    # brace before it the rest is an object only where it is a member of the answer itself
    told = None if at < 0 else _decode(b"{" + body[at:]) or _decode(body)
    return None if told is None else _usage(told)


def _decode(text: bytes) -> Told | None:
    try:
        return decode_told(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def of_stream(
    first: Content | None, last: Content | None, *, events: int, body_bytes: int
) -> Usage:
    """Return the usage of a stream, which may have been cut off.

    `first` and `last` are the events that told of it, if there were such: a message's input is in
    the first of its events. `events` is how many there were in all, each about a token, and
    `body_bytes` the size of the request's text.
    """
    begun, ended = _read(first), _read(last)
    known_input = begun.input if begun else body_bytes // _BYTES_PER_TOKEN
    if ended is None:
        return Usage(known_input, events, estimated=True)
    return ended if ended.input or not begun else Usage(begun.input, ended.output)


def unheard(body_bytes: int) -> Usage:
    """Return the usage of a request whose client left before its answer: what its engine read."""
    return Usage(body_bytes // _BYTES_PER_TOKEN, 0, estimated=True)


def _read(event: Content | None) -> Usage | None:
    try:
        return _usage(msgspec.convert(event or {}, Told))
    except msgspec.ValidationError:
        return None


def _usage(told: Told) -> Usage | None:
    part = told if told.usage else told.response or told.message
    if part is None or part.usage is None:
        return None
    numbers = part.usage
    output, known_input = numbers.completion_tokens, numbers.prompt_tokens
    if output is None:
        output = numbers.output_tokens
    if known_input is None:
        known_input = numbers.input_tokens
    if known_input is None and output is None and numbers.total_tokens is None:
        return None
    if known_input is None:
        known_input = (numbers.total_tokens or 0) - (output or 0)
    return Usage(_sane(known_input), _sane(output or 0))


def _sane(number: int) -> int:
    return min(max(0, number), _MOST_TOKENS)
