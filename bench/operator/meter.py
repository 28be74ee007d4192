"""Readings of everything that counts up while a contestant works, and when it has settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bench.operator.audit import Requests, lease_writes, reads, signs_of_work, writes
from bench.operator.plane import Plane
from bench.process import Process
from hack.cluster.processes import ClusterError

POLL_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 3.0
QUIET_CPU_SECONDS: Final = 0.06
"""What a process may use of the CPU in QUIET_SECONDS and count as idle: 2 percent of a core."""

PATIENCE_SECONDS: Final = 60.0
"""How long one endpoint may take, and a start: longer than any leadership lasts."""


@dataclass(frozen=True)
class Reading:
    """Where clock, CPU seconds of contestant and API server, and requests have got to."""

    at: float
    cpu: float
    server_cpu: float
    requests: Requests

    def since(self, before: Reading) -> Spent:
        """Return what was used since another reading."""
        return Spent(
            seconds=self.at - before.at,
            cpu=self.cpu - before.cpu,
            server_cpu=self.server_cpu - before.server_cpu,
            requests=self.requests - before.requests,
        )


@dataclass(frozen=True)
class Spent:
    """What something took: seconds, CPU seconds, requests."""

    seconds: float
    cpu: float
    server_cpu: float
    requests: Requests

    @property
    def writes(self) -> int:
        """Writes, those of a Lease apart."""
        return writes(self.requests)

    @property
    def lease_writes(self) -> int:
        """Writes of a Lease."""
        return lease_writes(self.requests)

    @property
    def reads(self) -> int:
        """Gets, lists and watches."""
        return reads(self.requests)


class Meter:
    """One contestant's readings, through all its lives; the CPU time is that of the present one."""

    def __init__(self, plane: Plane, process: Process) -> None:
        self._plane = plane
        self._process = process

    def read(self) -> Reading:
        """Return where everything stands. Raises ClusterError if the contestant has ended."""
        self._process.check()
        return Reading(
            at=time.monotonic(),
            cpu=self._process.cpu_seconds(),
            server_cpu=self._plane.cpu_seconds(),
            requests=self._plane.audit.total(),
        )

    async def settled(self) -> Reading:
        """Wait until it has written nothing and used hardly any CPU for a while."""
        mark = self.read()
        while (now := self.read()).at - mark.at < QUIET_SECONDS:
            spent = now.since(mark)
            if spent.writes or spent.cpu > QUIET_CPU_SECONDS:
                mark = now
            await asyncio.sleep(POLL_SECONDS)
        return now

    async def working_again(self, stopped: Reading) -> Reading:
        """Wait until a new life does all that the ones before did when they worked, and settles."""
        wanted = signs_of_work(stopped.requests)

        async def works() -> bool:
            return wanted <= signs_of_work(self.read().requests - stopped.requests)

        await self.until(works, what=f"watches of {', '.join(sorted(wanted))}")
        return await self.settled()

    async def until(
        self, holds: Callable[[], Awaitable[bool]], *, what: str, within: float = PATIENCE_SECONDS
    ) -> None:
        """Ask again until something holds. Raises ClusterError if that takes too long."""
        deadline = time.monotonic() + within
        while not await holds():
            if self.read().at > deadline:
                raise ClusterError(f"waited {within:.0f} s for {what}:\n{self._process.tail()}")
            await asyncio.sleep(POLL_SECONDS)
