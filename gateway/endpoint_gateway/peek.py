"""The few fields of a request's body that decide where it goes, and where `model` lies in it.

Called by the pipeline with the whole body. Never rebuilds the body: the one change that is made
to it, another model's name, is spliced into the bytes.

Two readers must agree. The fast one is msgspec, which ignores what it is not asked for, but lets
the last of two equal keys win without a word. So it is believed only where the body cannot hold a
key twice; all other bodies go through a scanner of the top level. A duplicate is refused, so that
the engine's parser can't see another model than the gateway did.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from .errors import InvalidRequest

_OURS = re.compile(rb'"(model|stream|stream_options)"[ \t\r\n]*:')
# an escape that stands for a letter or for "_", with which a key can be spelt in a second way
_SPELT_OUT = re.compile(rb"\\u00[567]")

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*(' + _STRING + rb")", re.DOTALL)
_TOKEN = re.compile(_STRING + rb"|[{}\[\],:]", re.DOTALL)
_OPENING, _CLOSING = frozenset(b"{["), frozenset(b"}]")


class _Body(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None


_decoder = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Peeked:
    """What a body says: the model (None where absent or null) and whether it asks for a stream.

    `model_span` is where the model's JSON string lies in the body, with its quotes.
    """

    model: str | None
    stream: bool
    model_span: tuple[int, int] | None


def peek(body: bytes) -> Peeked:
    """Read `model` and `stream` of a JSON object. Raises InvalidRequest."""
    decoded = _decode(body)
    if is_plain(body):
        span = _plain_span(body) if decoded.model is not None else None
    else:
        span = scan(body)
    return Peeked(decoded.model, bool(decoded.stream), span)


def with_model(body: bytes, peeked: Peeked, model: str) -> bytes:
    """Return the body with another model in it; every other byte stays."""
    if peeked.model_span is None:
        return body
    start, end = peeked.model_span
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def is_plain(body: bytes) -> bool:
    """Say whether the body can't hold one of our keys twice, so that the fast reader will do."""
    found = _OURS.findall(body)
    return len(found) == len(set(found)) and not _SPELT_OUT.search(body)


def _decode(body: bytes) -> _Body:
    if not body:
        raise InvalidRequest("The request has no body; it takes a JSON object.")
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest("The request's body is not valid JSON.") from error


def _wrong_type(error: msgspec.ValidationError) -> InvalidRequest:
    field = str(error).rpartition("$.")[2].rstrip("`")
    if field == "model":
        return InvalidRequest("`model` must be a string.", param="model")
    if field == "stream":
        return InvalidRequest("`stream` must be true or false.", param="stream")
    return InvalidRequest("The request's body must be a JSON object.")


def _plain_span(body: bytes) -> tuple[int, int] | None:
    match = _MODEL.search(body)
    return match.span(1) if match else None


def scan(body: bytes) -> tuple[int, int] | None:
    """Return where the top level's `model` string lies in a body that is valid JSON.

    Raises InvalidRequest where one of the keys that we read is there twice.
    """
    seen: set[str] = set()
    span = None
    for key, value in _members(body):
        if key in ("model", "stream", "stream_options"):
            if key in seen:
                raise InvalidRequest(f"`{key}` is in the body twice.", param=key)
            seen.add(key)
        if key == "model" and value is not None:
            span = value
    return span


def _members(body: bytes) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """Yield each key of the top level, with the span of its value where that is a string."""
    depth = 0
    key: str | None = None
    value: tuple[int, int] | None = None
    after_colon = False
    for match in _TOKEN.finditer(body):
        first = body[match.start()]
        if first in _CLOSING:
            depth -= 1
        if depth == 1 and first == ord('"'):
            if after_colon:
                value = match.span()
            else:
                key = json.loads(match[0])
        elif depth == 1 and first == ord(":"):
            after_colon = True
        elif key is not None and (depth == 0 or (depth == 1 and first == ord(","))):
            yield key, value
            key, value, after_colon = None, None, False
        if first in _OPENING:
            depth += 1
