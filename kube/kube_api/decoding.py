"""JSON from the API server, whatever its depth.

The API server stores objects that are thousands of levels deep where a schema leaves a field
free; orjson refuses to read more than 1024 levels, and to write more than 254. One such object
must not keep a client from all others, so it is delivered with its depths cut off.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

DEEPEST: Final = 200
"""Levels that are kept where a document has too many; with these it can be written again."""

_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def decode(document: bytes) -> Any:
    """Return what a document says, without what is too deep. Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return orjson.loads(_cut(document))


def shallow(value: Any, levels: int = DEEPEST) -> Any:
    """Return a value without what is below so many levels: maps and lists there are empty."""
    if isinstance(value, dict):
        return {key: shallow(each, levels - 1) for key, each in value.items() if levels}
    if isinstance(value, list):
        return [shallow(each, levels - 1) for each in value if levels]
    return value


def _cut(document: bytes) -> bytes:
    """Do what ``shallow`` does to a text that can't be read."""
    kept: list[bytes] = []
    depth = start = 0
    for token in _TOKENS.finditer(document):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth == DEEPEST + 1:
                kept.append(document[start : token.end()])
        elif token[0] in (b"}", b"]"):
            if depth == DEEPEST + 1:
                start = token.start()
            depth -= 1
    return b"".join([*kept, document[start:]])
