"""Structured logs: one JSON object per line, bound to the object that is worked on.

``__main__`` calls ``configure_logging``; every other module logs through ``logging`` as usual and
the worker binds the object's key with ``bound``. Keys and prompts are never logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

_BOUND: ContextVar[dict[str, str]] = ContextVar("bound", default={})  # noqa: B039 - never changed


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON with time, level, logger, message and the object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_BOUND.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Add fields to every line that is logged within the context."""
    token = _BOUND.set(_BOUND.get() | fields)
    try:
        yield
    finally:
        _BOUND.reset(token)


def configure_logging(level: str) -> None:
    """Send all logs of the process to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # kopf tells every signal and handler call; ours say the same with more meaning
        logging.getLogger("kopf").setLevel(logging.WARNING)
