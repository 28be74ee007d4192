"""Disk and memory, in proportion to what is missing.

Called by ``prerequisites`` and nobody else. Go's own caches may be on another file system than
ours, and take most of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hack.cluster import host
from hack.cluster.processes import run
from hack.cluster.programs import PROGRAMS, Group, Program
from hack.cluster.toolchain import Cache

GIB = 1 << 30
# what a build of every program takes (measured), and what the smallest one takes
PROGRAMS_GIB = 1.0
GO_BUILD_GIB, GO_MODULES_GIB, GO_LEAST_GIB = 7.2, 4.3, 0.7
NODE_GIB = 4.6  # archives of images, and what containerd unpacks of them
NODE_MEMORY_GIB = 5.0  # cluster 1, a CPU engine 2.5, and the parts of the product
LINKER_MEMORY_GIB, SMALL_LINKER_MEMORY_GIB = 3.0, 1.5
LARGE_SECONDS = 180  # a program that takes that long to compile is large: the API server, Traefik

MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Need:
    """Room for something in a directory, and the setting that moves it elsewhere."""

    directory: Path
    gib: float
    setting: str


def faults(cache: Cache, groups: Collection[Group], *, node: bool) -> Iterator[str]:
    """What there is too little of for compiling what is missing, and for running a node."""
    missing = cache.missing(groups)
    share = compiled_share(missing)
    needs = [Need(cache.root, PROGRAMS_GIB * share + NODE_GIB * node, "XDG_CACHE_HOME")]
    if missing and shutil.which("go"):
        build, modules = run(["go", "env", "GOCACHE", "GOMODCACHE"]).stdout.split()[:2]
        needs += [Need(Path(build), GO_LEAST_GIB + GO_BUILD_GIB * share, "GOCACHE")]
        needs += [Need(Path(modules), GO_LEAST_GIB + GO_MODULES_GIB * share, "GOMODCACHE")]
    yield from _faults_of_disk(needs)
    # a node that runs has taken its share
    running = NODE_MEMORY_GIB if node and not host.is_used() else 0.0
    yield from _faults_of_memory(max(running, linker_memory_gib(missing)))


def compiled_share(missing: Collection[Program]) -> float:
    """How much of a build of everything is still to be done, from 0 to 1."""
    return sum(p.cold_seconds for p in missing) / sum(p.cold_seconds for p in PROGRAMS)


def linker_memory_gib(missing: Collection[Program]) -> float:
    """Memory that linking the largest of these takes."""
    longest = max((p.cold_seconds for p in missing), default=0)
    if not longest:
        return 0.0
    return LINKER_MEMORY_GIB if longest >= LARGE_SECONDS else SMALL_LINKER_MEMORY_GIB


def _faults_of_disk(needs: list[Need]) -> Iterator[str]:
    def device(need: Need) -> int:
        return _existing(need.directory).stat().st_dev

    for _, group in groupby(sorted(needs, key=device), key=device):
        together = list(group)
        wanted = sum(need.gib for need in together)
        free = shutil.disk_usage(_existing(together[0].directory)).free / GIB
        if free < wanted:
            places = ", ".join(str(need.directory) for need in together)
            yield (
                f"disk space: {free:.1f} GiB free for {places}, about {wanted:.1f} needed. Free"
                f" some, or set {', '.join(n.setting for n in together)} to a larger disk"
            )


def _faults_of_memory(wanted_gib: float) -> Iterator[str]:
    available = _available_memory() / GIB
    if available < wanted_gib:
        yield (
            f"memory: {available:.1f} GiB available, about {wanted_gib:.1f} needed."
            " Stop other programs"
        )


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _available_memory() -> int:
    if not MEMINFO.exists():  # macOS, where clients can be compiled
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = MEMINFO.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10
