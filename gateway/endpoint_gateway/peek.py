"""The few fields of a request's body that decide where it goes, and where they lie in it.

Called by the pipeline with the whole body, and by rewriting. Never rebuilds a body.

Two readers must agree. The fast one is msgspec, which ignores what it is not asked for, but lets
the last of two equal keys win without a word. So it is believed only where the body cannot hold a
key twice; all other bodies go through a walk over the top level. A duplicate is refused, so that
the engine's parser can't see another model than the gateway did. Neither reader takes a step of
Python, or memory, for each thing in a body: one of 32 MiB would stop the gateway for seconds.

To see whether a key can be there twice the body's outline will do: what is left when its largest
value, mostly the prompt, is cut out, in which no key of the top level can be.
"""

import re
from collections.abc import Iterator

import msgspec

from .errors import InvalidRequest
from .shapes import Body, decode_body, decode_state

MAX_MODEL_LETTERS = 256
MAX_MEMBERS = 1000
"""How many the top level may have; OpenAI's and vLLM's fields together are less than a hundred."""

_SINGLE = frozenset({"model", "stream", "stream_options"})
_QUOTED = (b'"model"', b'"stream"', b'"stream_options"')
_OURS = re.compile(rb'"(model|stream|stream_options)"[ \t\r\n]*:')
# an escape that stands for a letter or for "_", with which a key can be spelt in a second way
_SPELT_OUT = re.compile(rb"\\u00[567]")
# to read so much once more costs less than to cut something out of it
_SMALL_BYTES = 4096
# "stream_options" with each of its letters as an escape
_LONGEST_SPELLING = 2 + 6 * 14

_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*")
_KEY = {
    name: re.compile(rb'"%s"[ \t\r\n]*:[ \t\r\n]*' % name)
    for name in (b"messages", b"prompt", b"input", b"documents")
}
# false asks for nothing, or is refused by the engine
_NOT_ASKED = (b"", b"null", b"false")

_skipper = msgspec.json.Decoder(msgspec.Raw)


class Peeked:
    """What a body says: the model (None where absent or null) and whether it asks for a stream.

    `model_span` is where the model's JSON string lies in the body, with its quotes.
    `has_stream_options` and `has_suffix` say that these are among the body's members.
    """

    __slots__ = ("has_stream_options", "has_suffix", "model", "model_span", "stream")

    def __init__(
        self,
        model: str | None,
        *,
        stream: bool,
        model_span: tuple[int, int] | None,
        has_stream_options: bool = False,
        has_suffix: bool = False,
    ) -> None:
        self.model = model
        self.stream = stream
        self.model_span = model_span
        self.has_stream_options = has_stream_options
        self.has_suffix = has_suffix


def peek(body: bytes) -> Peeked:
    """Read `model` and `stream` of a JSON object. Raises InvalidRequest."""
    decoded = _decode(body)
    if decoded.model is not None and len(decoded.model) > MAX_MODEL_LETTERS:
        raise InvalidRequest(f"`model` is over {MAX_MODEL_LETTERS} characters long.", param="model")
    text, start, length = _outline(body, decoded) if len(body) > _SMALL_BYTES else (body, 0, 0)
    if is_plain(text):
        span = _span_of_model(text, start, length) if decoded.model is not None else None
    else:
        span = scan(body)
    return Peeked(
        decoded.model,
        stream=bool(decoded.stream),
        model_span=span,
        has_stream_options=bool(decoded.stream_options),
        has_suffix=bool(decoded.suffix),
    )


def state_asked_for(body: bytes) -> str | None:
    """Return the member by which a request for a response asks for what an engine remembers."""
    state = decode_state(body)
    if bytes(state.previous_response_id) not in _NOT_ASKED:
        return "previous_response_id"
    if bytes(state.conversation) not in _NOT_ASKED:
        return "conversation"
    return "background" if bytes(state.background) not in _NOT_ASKED else None


def _outline(body: bytes, decoded: Body) -> tuple[bytes, int, int]:
    """Return the body without its largest value, where that is found at once.

    With it come where that begins, and its length. A quote in a string of JSON has a backslash
    before it, so that what looks like this key is it.
    """
    name, value = _largest(decoded)
    found = _KEY[name].search(body) if value else None
    if found is None or not body.startswith(value, found.end()):
        return body, 0, 0
    start = found.end()
    return body[:start] + body[start + len(value) :], start, len(value)


def _largest(decoded: Body) -> tuple[bytes, msgspec.Raw]:
    """Return the name and the text of the largest value."""
    name, value = b"messages", decoded.messages
    for other, text in (
        (b"prompt", decoded.prompt),
        (b"input", decoded.input),
        (b"documents", decoded.documents),
    ):
        if len(text) > len(value):
            name, value = other, text
    return name, value


def _span_of_model(outline: bytes, start: int, length: int) -> tuple[int, int] | None:
    """Return where the model's string lies in a body that has this plain outline."""
    match = _MODEL.search(outline)
    if match is None:
        return None
    begin, end = match.span(1)
    moved = length if begin >= start else 0
    return begin + moved, end + moved


def is_plain(text: bytes) -> bool:
    """Say whether there can't be one of our keys twice, so that the fast reader will do."""
    # these are found many times faster than what a pattern looks for
    if b"\\u00" in text and _SPELT_OUT.search(text):
        return False
    if all(text.count(name) < 2 for name in _QUOTED):
        return True
    seen: set[bytes] = set()
    for found in _OURS.finditer(text):
        if found[1] in seen:
            return False
        seen.add(found[1])
    return True


def _decode(body: bytes) -> Body:
    if not body:
        raise InvalidRequest("The request has no body; it takes a JSON object.")
    try:
        return decode_body(body)
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


def scan(body: bytes) -> tuple[int, int] | None:
    """Return where the top level's `model` string lies in a body that is valid JSON.

    Raises InvalidRequest where one of the keys that there may be only one of is there twice.
    """
    seen: set[str] = set()
    span = None
    for key, start, end in members(body):
        if key in seen:
            raise InvalidRequest(f"`{key}` is in the body twice.", param=key)
        if key in _SINGLE:
            seen.add(key)
        if key == "model" and body[start] == ord('"'):
            span = start, end
    return span


def members(body: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield the members of the top level of valid JSON: key, and where its value begins and ends.

    A key that is too long to be one of ours is empty. Raises InvalidRequest where there are too
    many.
    """
    follows = body.index(b"{")
    if body[after_space(body, follows + 1)] == ord("}"):
        return
    for _ in range(MAX_MEMBERS):
        key, colon = value_at(body, follows + 1)
        value, follows = value_at(body, colon + 1)
        yield _text(body[key : _end(body, key, colon)]), value, _end(body, value, follows)
        if body[follows] == ord("}"):
            return
    raise InvalidRequest(f"The request's body has more than {MAX_MEMBERS} members.")


def value_at(body: bytes, at: int) -> tuple[int, int]:
    """Return where the value (or key) that comes next begins, and where the sign after it is.

    msgspec decodes whole documents only, but where one goes on after its end it says where.
    """
    start = after_space(body, at)
    try:
        _skipper.decode(memoryview(body)[start:])
    except msgspec.DecodeError as error:
        return start, start + int(str(error).rpartition("(byte ")[2][:-1]) - 1
    raise AssertionError("nothing follows, not even the object's end")


def after_space(body: bytes, at: int) -> int:
    """Return where white space that begins here ends."""
    match = _SPACE.match(body, at)
    return match.end() if match else at


def _end(body: bytes, start: int, follows: int) -> int:
    """Return where a value ends before this sign; what is no string has the space after it too."""
    return body.rindex(b'"', start, follows) + 1 if body[start] == ord('"') else follows


def _text(key: bytes) -> str:
    """Return this key; an empty one for those that are too long to be ours."""
    if len(key) > _LONGEST_SPELLING:
        return ""
    try:
        return msgspec.json.decode(key, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest("The request's body is not valid JSON.") from error
