"""Which core is whose, ports, and how many files a process may open.

A gateway has one core for itself; its engine, its load and this program share another one.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from hack.cluster.processes import ClusterError

OPEN_FILES = 12_000
"""Two for each of 5,000 streams, and some more."""


@dataclass(frozen=True)
class Cores:
    """Two cores by their numbers."""

    gateway: int
    others: int

    def pin(self, core: int, *command: str) -> list[str]:
        """Return a command that runs on one core."""
        return ["taskset", "--cpu-list", str(core), *command]


def prepare() -> Cores:
    """Keep this program off the gateway's core, and let processes open many files.

    Raises ClusterError where there are too few cores or files.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise ClusterError("the benchmark needs two cores: one for a gateway, one for the others")
    cores = Cores(gateway=allowed[-1], others=allowed[0])
    os.sched_setaffinity(0, {cores.others})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < OPEN_FILES:
        raise ClusterError(f"processes may open {most} files, {OPEN_FILES} are needed: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, most))
    return cores
