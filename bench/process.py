"""A contestant as a process of its own, and what it takes of this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from hack.cluster.processes import ClusterError, wait_until

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
STOP_SECONDS: Final = 30
LONGEST_LINE: Final = 500


class Process:
    """One contestant; starts and stops, and keeps the log of all its lives."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with self._log.open("ab") as output:
            # a session of its own: Ctrl-C is for us, who then end it
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> float:
        """End it as Kubernetes does; return how many seconds that took."""
        if self._child is None:
            return 0.0
        begun = time.monotonic()
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
        return time.monotonic() - begun

    def check(self) -> None:
        """Raise ClusterError with the end of its log if it has ended by itself."""
        if self._child is not None and self._child.poll() is not None:
            raise ClusterError(f"{self._command[0]} ended:\n{self.tail()}")

    def wait_until_answered(self, url: str, *, timeout_seconds: float) -> None:
        """Wait until it answers there with a success. Raises ClusterError if it ends or doesn't."""

        def answers() -> bool:
            self.check()
            try:
                return httpx.get(url, trust_env=False).is_success
            except httpx.TransportError:
                return False

        wait_until(self._command[0], answers, timeout_seconds=timeout_seconds)

    def tail(self) -> str:
        """Return the end of its log, of long lines the beginning."""
        lines = self._log.read_text(errors="replace").splitlines()[-5:]
        return "\n".join(line[:LONGEST_LINE] for line in lines)

    def cpu_seconds(self) -> float:
        """Return the CPU time of this life, user and system, children included."""
        return sum(map(cpu_seconds, self._tree()))

    def rss_mib(self) -> float:
        """Return the resident memory, children included."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._tree())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _tree(self) -> list[int]:
        return list(_descendants(self._child.pid)) if self._child is not None else []


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text().split():
            yield from _descendants(int(child))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, user and system, with children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND
