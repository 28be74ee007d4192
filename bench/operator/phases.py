"""One contestant from its start to its restart: what is done to it, and what is read meanwhile.

``comparison`` calls it with a fresh control plane. A phase begins and ends with a contestant that
has settled, so that each request and each tick of CPU time belongs to one phase.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench.operator import endpoints
from bench.operator.endpoints import DEPLOYMENTS, ENDPOINTS, Object, changes_of
from bench.operator.meter import PATIENCE_SECONDS, Meter, Spent
from bench.operator.plane import Plane
from bench.process import Process
from hack.cluster.progress import say, step

LOADED, WARM_UP = "bench", "warm-up"


@dataclass(frozen=True)
class Plan:
    """How many endpoints, how long to watch them idle, how many edits."""

    endpoints: int
    idle_seconds: float
    edits: int


@dataclass(frozen=True)
class Load:
    """Creation of all endpoints, until everything has settled."""

    spent: Spent
    children_seconds: float


@dataclass(frozen=True)
class Edits:
    """Changes of the image, one at a time; milliseconds to the Deployment's change."""

    spent: Spent
    milliseconds: Sequence[float]


@dataclass(frozen=True)
class Restart:
    """Stop and start on the loaded cluster."""

    spent: Spent
    stop_seconds: float
    rss_mib: float


@dataclass(frozen=True)
class Measured:
    """What one run of one contestant has shown."""

    plan: Plan
    load: Load
    idle: Spent
    rss_mib: float
    edits: Edits
    restart: Restart


class Run:
    """One contestant on one control plane, phase by phase."""

    def __init__(self, name: str, plane: Plane, process: Process) -> None:
        self._name = name
        self._plane = plane
        self._process = process
        self._meter = Meter(plane, process)

    async def measure(self, plan: Plan) -> Measured:
        """Go through every phase."""
        per_endpoint = Counter(child["kind"] for child in await self.warm_up())
        load = await self._load(plan.endpoints, per_endpoint)
        idle = await self._idle(plan.idle_seconds)
        rss_mib = self._process.rss_mib()
        edits = await self._edits(plan)
        restart = await self._restart()
        return Measured(plan, load, idle, rss_mib, edits, restart)

    async def warm_up(self, replicas: int = 1) -> list[Object]:
        """Start, and make a first endpoint; return the children that it gets."""
        with self._step("start and first endpoint"):
            self._process.start()
            await endpoints.create_namespace(self._plane.api, WARM_UP)
            first = endpoints.endpoint(WARM_UP, "first", replicas=replicas)
            await endpoints.create(self._plane.api, [first])
            await self._meter.until(self._has_reported, what="the status of the first endpoint")
            await self._meter.settled()
        return await endpoints.children(self._plane.api, WARM_UP)

    async def _has_reported(self) -> bool:
        first = await self._plane.api.get(ENDPOINTS, WARM_UP, "first")
        return "observedGeneration" in first.get("status", {})

    async def _load(self, number: int, per_endpoint: Counter[str]) -> Load:
        api = self._plane.api
        wanted = Counter({kind: each * number for kind, each in per_endpoint.items()})
        await endpoints.create_namespace(api, LOADED)
        before = self._meter.read()
        with self._step(f"{number} endpoints"):
            await endpoints.create(api, (endpoints.endpoint(LOADED, n) for n in _names(number)))
            await self._meter.until(
                lambda: endpoints.have_children(api, LOADED, wanted),
                what="all children",
                within=PATIENCE_SECONDS + number,
            )
            exist = self._meter.read()
            spent = (await self._meter.settled()).since(before)
        say(
            f"  {spent.cpu / number * 1000:.2f} ms of CPU, {spent.writes / number:.2f} writes,"
            f" {spent.reads / number:.2f} reads for each"
        )
        return Load(spent, exist.since(before).seconds)

    async def _idle(self, seconds: float) -> Spent:
        before = self._meter.read()
        with self._step(f"idle for {seconds:.0f} s"):
            await asyncio.sleep(seconds)
            return self._meter.read().since(before)

    async def _edits(self, plan: Plan) -> Edits:
        api = self._plane.api
        before = self._meter.read()
        with self._step(f"{plan.edits} edits"):
            async with (
                changes_of(api, DEPLOYMENTS, LOADED) as deployments,
                changes_of(api, ENDPOINTS, LOADED) as reports,
            ):
                milliseconds = [
                    await endpoints.edit(
                        api, LOADED, name, to=image, deployments=deployments, reports=reports
                    )
                    for name, image in _edits(plan)
                ]
            spent = (await self._meter.settled()).since(before)
        return Edits(spent, milliseconds)

    async def _restart(self) -> Restart:
        with self._step("restart"):
            stop_seconds = self._process.stop()
            stopped = self._meter.read()
            self._process.start()
            settled = await self._meter.working_again(stopped)
        return Restart(settled.since(stopped), stop_seconds, self._process.rss_mib())

    def _step(self, title: str) -> AbstractContextManager[None]:
        return step(f"{self._name}: {title}")


def _names(number: int) -> list[str]:
    return [f"endpoint-{each}" for each in range(number)]


def _edits(plan: Plan) -> list[tuple[str, str]]:
    """Return which endpoint gets which image: spread over all of them, each edit a change."""
    names = _names(plan.endpoints)
    return [
        (names[number * 7919 % len(names)], endpoints.image(number + 1))
        for number in range(plan.edits)
    ]
