"""The contestants in turn, all in front of one engine: in one order, then in the other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import peers
from bench.gateway.contestants import Contestant, Site, contestants
from bench.gateway.load import Load
from bench.gateway.machine import Cores, prepare
from bench.gateway.phases import Measured, Plan, Round, answers, latency_ms
from bench.process import Process
from hack.cluster.processes import MARK, end, marked, wait_until
from hack.cluster.progress import say
from hack.cluster.toolchain import Cache
from helpers.operator_process import free_port


@dataclass(frozen=True)
class Results:
    """All rounds of each contestant, and of each round the latency without any, in milliseconds.

    ``busy`` is the machine's load average at the beginning of each round.
    """

    rounds: Mapping[str, Sequence[Measured]]
    direct_ms: Sequence[float]
    busy: Sequence[float]
    notes: Mapping[str, str]


@contextmanager
def comparison(cache: Cache, names: Collection[str]) -> Iterator[Comparison]:
    """Start an engine for the contestants of these names; nothing is left of anything."""
    folder = cache.root / "bench-gateway"
    end(lambda: marked(folder))  # what a killed run left
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    site = Site(free_port(), free_port(), free_port(), folder)
    try:
        found = list(contestants(cache, site, names))
        yield Comparison(prepare(), site, peers.program(cache), found)
    finally:
        end(lambda: marked(folder))
        shutil.rmtree(folder)


class Comparison:
    """Contestants in front of one engine."""

    def __init__(
        self, cores: Cores, site: Site, program: Path, contestants: Sequence[Contestant]
    ) -> None:
        self._cores = cores
        self._site = site
        self._program = str(program)
        self._contestants = contestants

    def run(self, plan: Plan) -> Results:
        """Let all take turns: one, two, three, three, two, one, ..."""
        self._start_engine()
        rounds: dict[str, list[Measured]] = {each.name: [] for each in self._contestants}
        direct, busy = [], []
        for number in range(plan.rounds):
            busy.append(os.getloadavg()[0])
            say(f"-- round {number + 1} of {plan.rounds}, load average {busy[-1]:.1f}")
            direct.append(latency_ms(self._load(self._site.engine), plan.seconds))
            for each in self._contestants if number % 2 == 0 else reversed(self._contestants):
                rounds[each.name].append(self._round(each).measure(plan))
        notes = {each.name: each.note for each in self._contestants}
        return Results(rounds, direct, busy, notes)

    def _start_engine(self) -> None:
        command = [self._program, "engine", "--listen", f"127.0.0.1:{self._site.engine}"]
        engine = self._process("engine", command, core=self._cores.others)
        engine.start()
        wait_until("the engine", lambda: answers(self._site.engine), timeout_seconds=10)

    def _round(self, contestant: Contestant) -> Round:
        process = self._process(
            contestant.name,
            contestant.command,
            core=self._cores.gateway,
            environment=contestant.environment,
        )
        port = self._site.gateway
        return Round(contestant, process, self._load(port), port=port)

    def _load(self, port: int) -> Load:
        return Load(self._cores.pin(self._cores.others, self._program), port)

    def _process(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        everybodys = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # a killed run's processes are found by their mark
        mark = {MARK: str(self._site.dir), "HOME": str(self._site.dir)}
        return Process(
            self._cores.pin(core, *command),
            environment={**everybodys, **mark, **(environment or {})},
            log=self._site.dir / f"{name}.log",
        )
