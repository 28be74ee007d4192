"""Runs at the start of each Python process of an engine, in its container: notes why vLLM ends.

Kubernetes takes the last 2 KiB of a container's log as its termination message. When an engine
can't start, vLLM's API server has the last word, with a long traceback that says "see root cause
above". So the errors that end vLLM are noted, one per line and what caused them too, in the file
that Kubernetes prefers to the log. Nothing noted, it takes the log as ever.

And it lets vLLM be ended before it handles signals itself, which it does once it has been imported,
ten seconds or a minute later: the kernel passes over a container's first process with any signal
that it has no handler for, so the pod would keep its GPU for the whole grace period.

Nothing else changes: vLLM logs what it is told to, and errors are raised as they were. Errors of
requests are not noted: they don't end an engine.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

TERMINATION_MESSAGE = Path("/dev/termination-log")
LONGEST_MESSAGE = 4096  # of which Kubernetes takes the end
LONGEST_TEXT = 800
MOST_CAUSES = 4
FIRST_PROCESS = 1  # of a container

ENGINE_LOGGERS = ("vllm.v1.engine.core", "vllm.v1.executor.", "vllm.v1.worker.")
"""Of the processes that vLLM starts: they log the exception that ends them."""

MakeRecord = Callable[..., logging.LogRecord]
Hook = Callable[[type[BaseException], BaseException, "TracebackType | None"], object]


def note(error: BaseException) -> None:
    """Add an error and what caused it to the termination message, as long as that has room."""
    with suppress(OSError), TERMINATION_MESSAGE.open("a", encoding="utf-8") as file:
        for line in described(error):
            if file.tell() + len(line) < LONGEST_MESSAGE:
                file.write(line + "\n")
                file.flush()


def described(error: BaseException | None) -> Iterator[str]:
    """Yield a line for an error and for each that it was raised from."""
    for _ in range(MOST_CAUSES):
        if error is None:
            return
        text = " ".join(f"{type(error).__qualname__}: {error}".split())
        yield f"{text[:LONGEST_TEXT]} (in {origin(error)})"
        context = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or context


def origin(error: BaseException) -> str:
    """Return which function raised an error: some errors say nothing without."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_name if trace else "?"


def noting_records(make: MakeRecord) -> MakeRecord:
    """Return a factory of log records that notes with which exception an engine's process ends."""

    def make_record(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        error = record.exc_info[1] if record.exc_info else None
        if error and record.levelno >= logging.ERROR and record.name.startswith(ENGINE_LOGGERS):
            note(error)
        return record

    return make_record


def noting_end(show: Hook) -> Hook:
    """Return a hook for exceptions that nobody catches: one ends vLLM's first process."""

    def hook(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> object:
        # other programs of Python, which vLLM only asks for something, may end with one too
        if isinstance(error, Exception) and Path(sys.argv[0]).name == "vllm":
            note(error)
        return show(kind, error, trace)

    return hook


if os.getpid() == FIRST_PROCESS:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
logging.setLogRecordFactory(noting_records(logging.getLogRecordFactory()))
sys.excepthook = noting_end(sys.excepthook)
