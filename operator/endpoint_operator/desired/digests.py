"""Digests of values: of what was rendered, and of what objects are named by.

A digest depends on the values alone: the order of keys never changes it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from endpoint_operator.errors import RenderError


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that stand for a value. Raises RenderError if it is no JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]


def canonical_json(value: Any) -> bytes:
    """Return a value as JSON with sorted keys. Raises RenderError if it is none."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise RenderError(f"a value is no JSON: {error}") from error
