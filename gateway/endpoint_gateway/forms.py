"""What a form (`multipart/form-data`) says of where it goes, and where it says so.

Called by the pipeline with the whole body. Pure. Forms carry files, so that nothing is copied or
decoded but the two small fields that are read. Refuses what the engine's parser could read in
another way.
"""

import re
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from .errors import InvalidRequest
from .peek import MAX_MODEL_LETTERS, Peeked

Buffer = bytes | mmap

_MAX_PARTS = 100
_MAX_HEAD_BYTES = 4096
_MAX_STREAM_BYTES = 8
# what pydantic, which reads it for vLLM, takes for true
_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_KIND = re.compile(rb"[ \t]*([a-z/-]+)[ \t]*", re.IGNORECASE)
# a parameter's name and value, the latter perhaps in quotes, and perhaps by RFC 2231
_PARAMETER = re.compile(
    rb';[ \t]*([\w!#$%&+.^`|~-]+(?:\*[0-9]*\*?)?)=("(?:[^"\\]|\\.)*"|[^ \t";]+)[ \t]*'
)
_NO_FORM = "The request's body is not the form (multipart/form-data) that this route takes."


class _Part(NamedTuple):
    name: str
    start: int
    end: int


def boundary_of(content_type: bytes | None) -> bytes:
    """Return the boundary that this `Content-Type` tells. Raises InvalidRequest."""
    found = _parameters(content_type or b"", b"multipart/form-data")
    boundary = _plain(found, b"boundary")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest(_NO_FORM)
    if _plain(found, b"charset").lower() not in (b"", b"utf-8"):
        raise InvalidRequest("The form's texts must be in UTF-8.")
    return boundary


def peek_form(body: Buffer, boundary: bytes) -> Peeked:
    """Read `model` and `stream` of a form. Raises InvalidRequest."""
    found: dict[str, _Part] = {}
    for part in _parts(body, boundary):
        if part.name in ("model", "stream"):
            if part.name in found:
                raise InvalidRequest(f"`{part.name}` is in the form twice.", param=part.name)
            found[part.name] = part
    model = _text(body, found.get("model"), most=MAX_MODEL_LETTERS)
    stream = _text(body, found.get("stream"), most=_MAX_STREAM_BYTES)
    span = found["model"][1:] if "model" in found else None
    return Peeked(model, stream=(stream or "").lower() in _TRUE, model_span=span)


def with_model(body: Buffer, peeked: Peeked, model: str | None) -> list[bytes | memoryview]:
    """Return the pieces of the form with another model in it (None: as it is)."""
    if model is None or peeked.model_span is None:
        return [memoryview(body)]
    start, end = peeked.model_span
    whole = memoryview(body)
    return [whole[:start], model.encode(), whole[end:]]


def _parts(body: Buffer, boundary: bytes) -> Iterator[_Part]:
    first, delimiter = b"--" + boundary, b"\r\n--" + boundary
    if body[: len(first)] != first:
        raise InvalidRequest(_NO_FORM)
    at = len(first)
    for _ in range(_MAX_PARTS):
        if body[at : at + 2] == b"--":
            return
        head_end = body.find(b"\r\n\r\n", at, at + _MAX_HEAD_BYTES)
        end = body.find(delimiter, head_end + 2)
        # some take a boundary at once after a head for one, and others for what the part holds
        if body[at : at + 2] != b"\r\n" or head_end < 0 or end < head_end + 4:
            raise InvalidRequest(_NO_FORM)
        yield _Part(_name(body[at + 2 : head_end]), head_end + 4, end)
        at = end + len(delimiter)
    raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.")


def _name(head: bytes) -> str:
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    found = [value for name, _, value in lines if name.lower() == b"content-disposition"]
    if len(found) != 1 or _CONTROL.search(head.replace(b"\r\n", b"")):
        raise InvalidRequest(_NO_FORM)
    return _plain(_parameters(found[0], b"form-data"), b"name").decode("latin-1")


def _parameters(header: bytes, kind: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a header of this kind by name, as they are written.

    Raises InvalidRequest for one that is there twice, in which parsers differ.
    """
    begin = _KIND.match(header)
    if begin is None or begin[1].lower() != kind:
        raise InvalidRequest(_NO_FORM)
    found: dict[bytes, bytes] = {}
    at = begin.end()
    while parameter := _PARAMETER.match(header, at):
        name = parameter[1].lower()
        if name in found:
            raise InvalidRequest(_NO_FORM)
        found[name] = parameter[2]
        at = parameter.end()
    if header[at:].strip(b" \t;"):
        raise InvalidRequest(_NO_FORM)
    return found


def _plain(parameters: dict[bytes, bytes], name: bytes) -> bytes:
    """Return a parameter that has one spelling; empty if absent. Raises InvalidRequest."""
    value = parameters.get(name, b"")
    if b"\\" in value or any(each.startswith(name + b"*") for each in parameters):
        raise InvalidRequest(_NO_FORM)
    return value.removeprefix(b'"').removesuffix(b'"')


def _text(body: Buffer, part: _Part | None, *, most: int) -> str | None:
    if part is None:
        return None
    if part.end - part.start > most:
        raise InvalidRequest(f"`{part.name}` is over {most} characters long.", param=part.name)
    try:
        return body[part.start : part.end].decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"`{part.name}` is not UTF-8.", param=part.name) from error
