"""The load, which the Go program makes, and what it counted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.gateway.contestants import KEY
from hack.cluster.processes import ClusterError

CONNECTIONS: Final = 32


@dataclass(frozen=True)
class Answered:
    """Requests with whole answers."""

    requests: int
    errors: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Streamed:
    """Events of open streams since the last reading; a delay is from the engine to the client."""

    open: int
    errors: int
    events: int
    reads: int
    bytes: int
    delay_p50_ms: float
    delay_p99_ms: float


class Load:
    """The load towards one port."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        self._command = command
        self._target = ["--to", f"127.0.0.1:{port}", "--key", KEY]

    def unary(self, *, size: int, seconds: float, rate: float = 0) -> Answered:
        """Ask for a while: as fast as answers come, or so many requests per second."""
        flags = [f"--size={size}", f"--seconds={seconds}", f"--rate={rate}"]
        with self._started("unary", *flags, f"--connections={CONNECTIONS}") as child:
            return Answered(**_next_line(child))

    @contextmanager
    def streams(self, *, number: int, rate: float, seconds: float) -> Iterator[Iterator[Streamed]]:
        """Open streams; inside, a reading when all are open, and one so many seconds later."""
        flags = [f"--streams={number}", f"--rate={rate}", f"--seconds={seconds}"]
        with self._started("streams", *flags) as child:
            yield (Streamed(**_next_line(child)) for _ in range(2))

    @contextmanager
    def _started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [*self._command, *arguments, *self._target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            try:
                yield child
            finally:
                child.kill()


def _next_line(child: subprocess.Popen[str]) -> dict[str, Any]:
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise ClusterError("the load ended before it had counted; its errors are above")
    counted: dict[str, Any] = json.loads(line)
    return counted
