"""The contestants in turn, each run on a control plane of its own.

First both make the children of one endpoint, which are compared: figures of operators that do
different things would say nothing. Then they take turns, in an order in which a machine that
becomes slower favours nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.operator import likeness
from bench.operator.endpoints import Object
from bench.operator.phases import Measured, Plan, Run
from bench.operator.plane import control_plane
from hack.cluster.processes import ClusterError
from hack.cluster.progress import say
from hack.cluster.toolchain import Cache
from helpers.tree import ROOT

OURS, GO = "ours", "go"
PEER: Final = Path(__file__).with_name("peer")
START: Final = """
import sys
sys.modules["kubernetes"] = None
from endpoint_operator.__main__ import main
main()
"""
"""Our operator as its image has it: kopf imports the official client wherever it is installed, as
it is for developers, and would take 19 MiB and a third of a second more."""

START_FILE: Final = ROOT / "operator/endpoint_operator/desired/inside/sitecustomize.py"


@dataclass(frozen=True)
class Comparison:
    """Two commands that start operators."""

    cache: Cache
    commands: Mapping[str, Sequence[str]]

    async def rehearse(self) -> None:
        """Raise ClusterError, naming what differs, unless both make the same children."""
        ours, others = [await self._children(name) for name in (OURS, GO)]
        if found := likeness.differences(ours, others):
            raise ClusterError(f"{PEER} makes other children than we do:\n" + "\n".join(found))

    async def run(self, plan: Plan, rounds: int) -> dict[str, list[Measured]]:
        """Let both take turns: ours, go, go, ours, ..."""
        measured: dict[str, list[Measured]] = {OURS: [], GO: []}
        for number in range(rounds):
            for name in (OURS, GO) if number % 2 == 0 else (GO, OURS):
                say(f"-- {name}, {plan.endpoints} endpoints, run {number + 1} of {rounds}")
                measured[name].append(await self._measure(name, plan))
        return measured

    async def _measure(self, name: str, plan: Plan) -> Measured:
        async with control_plane(self.cache) as plane:
            return await Run(name, plane, plane.process(self.commands[name])).measure(plan)

    async def _children(self, name: str) -> list[Object]:
        async with control_plane(self.cache) as plane:
            # with two replicas an endpoint has every child that it can have
            return await Run(name, plane, plane.process(self.commands[name])).warm_up(replicas=2)


def contestants(cache: Cache) -> Comparison:
    """Return the comparison of our operator with its peer, which is compiled if need be."""
    peer = cache.compile_module(PEER, "bench-peer")
    return Comparison(
        cache, {OURS: (sys.executable, "-c", START), GO: (str(peer), str(START_FILE))}
    )
