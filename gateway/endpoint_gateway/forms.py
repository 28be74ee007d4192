"""What a form (`multipart/form-data`) says of where it goes, and where it says so.

Called by the pipeline with the whole body. Pure. Forms carry files, so that nothing is copied or
decoded but the two small fields that are read. Refuses what the engine's parser could read in
another way.
"""

import re
from collections.abc import Iterator
from email.message import Message
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
_NO_FORM = "The request's body is not the form (multipart/form-data) that this route takes."


class _Part(NamedTuple):
    name: str
    start: int
    end: int


def boundary_of(content_type: bytes | None) -> bytes:
    """Return the boundary that this `Content-Type` tells. Raises InvalidRequest."""
    header = _header("content-type", content_type or b"")
    boundary = str(header.get_param("boundary", "")).encode("latin-1", "replace")
    if header.get_content_type() != "multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest(_NO_FORM)
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
    return Peeked(model, (stream or "").lower() in _TRUE, span)


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
        if body[at : at + 2] != b"\r\n" or head_end < 0 or end < 0:
            raise InvalidRequest(_NO_FORM)
        yield _Part(_name(body[at + 2 : head_end]), head_end + 4, end)
        at = end + len(delimiter)
    raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.")


def _name(head: bytes) -> str:
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            disposition = _header("content-disposition", value.strip())
            return str(disposition.get_param("name", "", header="content-disposition"))
    return ""


def _header(name: str, value: bytes) -> Message:
    message = Message()
    message[name] = value.decode("latin-1")
    return message


def _text(body: Buffer, part: _Part | None, *, most: int) -> str | None:
    if part is None:
        return None
    if part.end - part.start > most:
        raise InvalidRequest(f"`{part.name}` is over {most} characters long.", param=part.name)
    try:
        return body[part.start : part.end].decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"`{part.name}` is not UTF-8.", param=part.name) from error
