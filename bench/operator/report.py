"""From what was measured to figures: a table for people, and one line of JSON for programs. Pure.

Of several runs of a contestant the median counts; edits of all its runs are taken together.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.operator.phases import Measured

Runs = Sequence[Measured]


@dataclass(frozen=True)
class Figure:
    """One row of the table; ``key`` is its name in the JSON, of those that are in it."""

    title: str
    of: Callable[[Runs], float]
    key: str = ""
    decimals: int = 2
    portable: bool = False


def _median(of: Callable[[Measured], float]) -> Callable[[Runs], float]:
    return lambda runs: statistics.median(map(of, runs))


def _per_endpoint(of: Callable[[Measured], float]) -> Callable[[Runs], float]:
    return _median(lambda run: of(run) / run.plan.endpoints)


def _per_edit(of: Callable[[Measured], float]) -> Callable[[Runs], float]:
    return _median(lambda run: of(run) / run.plan.edits)


def _per_minute(of: Callable[[Measured], float]) -> Callable[[Runs], float]:
    return _median(lambda run: of(run) * 60 / run.idle.seconds)


def _edit_percentile(percent: int) -> Callable[[Runs], float]:
    return lambda runs: percentile([ms for run in runs for ms in run.edits.milliseconds], percent)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that is not exceeded by so many percent of all (nearest rank)."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


FIGURES: Final = (
    Figure(
        "CPU per endpoint, ms",
        _per_endpoint(lambda run: run.load.spent.cpu * 1000),
        "cpu_ms_per_endpoint",
    ),
    Figure(
        "writes per endpoint",
        _per_endpoint(lambda run: run.load.spent.writes),
        "writes_per_endpoint",
        portable=True,
    ),
    Figure("reads per endpoint", _per_endpoint(lambda run: run.load.spent.reads), portable=True),
    Figure(
        "API server's CPU per endpoint, ms",
        _per_endpoint(lambda run: run.load.spent.server_cpu * 1000),
    ),
    Figure("all children exist after, s", _median(lambda run: run.load.children_seconds)),
    Figure(
        "idle: writes per minute",
        _per_minute(lambda run: run.idle.writes),
        "idle_writes_per_minute",
        portable=True,
    ),
    Figure(
        "idle: writes of the Lease per minute",
        _per_minute(lambda run: run.idle.lease_writes),
        portable=True,
    ),
    Figure("idle: reads per minute", _per_minute(lambda run: run.idle.reads), portable=True),
    Figure("idle: CPU, percent", _median(lambda run: run.idle.cpu * 100 / run.idle.seconds)),
    Figure(
        "restart: writes",
        _median(lambda run: run.restart.spent.writes),
        "restart_writes",
        0,
        portable=True,
    ),
    Figure("restart: reads", _median(lambda run: run.restart.spent.reads), "", 0, portable=True),
    Figure("restart: CPU, s", _median(lambda run: run.restart.spent.cpu), "restart_cpu_s"),
    Figure("restart: settled after, s", _median(lambda run: run.restart.spent.seconds), "", 1),
    Figure("SIGTERM to exit, s", _median(lambda run: run.restart.stop_seconds)),
    Figure("edit to Deployment, p50, ms", _edit_percentile(50), "edit_ms_p50", 1),
    Figure("edit to Deployment, p99, ms", _edit_percentile(99), "edit_ms_p99", 1),
    Figure("writes per edit", _per_edit(lambda run: run.edits.spent.writes), portable=True),
    Figure("CPU per edit, ms", _per_edit(lambda run: run.edits.spent.cpu * 1000)),
    Figure("memory (RSS), MiB", _median(lambda run: run.rss_mib), "rss_mib", 1),
    Figure("memory (RSS) after the restart, MiB", _median(lambda run: run.restart.rss_mib), "", 1),
)


def table(endpoints: int, ours: Runs, go: Runs) -> str:
    """Return the figures of one number of endpoints as lines of text."""
    lines = [f"{endpoints} endpoints{'ours':>37}{'Go':>10}{'ours / Go':>12}"]
    for figure in FIGURES:
        mine, its = figure.of(ours), figure.of(go)
        ratio = f"{mine / its:.2f}" if its else "-"
        mark = "" if figure.portable else " *"
        numbers = f"{mine:10.{figure.decimals}f}{its:10.{figure.decimals}f}{ratio:>12}"
        lines.append(f"  {figure.title + mark:38}{numbers}")
    return "\n".join(lines)


FOOTNOTE: Final = (
    "* of this machine, whose cores the API server shares: compare the two columns, not machines."
    "\n  CPU hardly depends on what else runs here; milliseconds from edit to Deployment do."
)


def json_line(endpoints: int, ours: Runs, go: Runs) -> str:
    """Return the figures that are asked for as one line of JSON."""
    return json.dumps(_json(endpoints, ours) | {"go": _json(endpoints, go)})


def _json(endpoints: int, runs: Runs) -> dict[str, float]:
    figures = {
        figure.key: round(figure.of(runs), figure.decimals or None)
        for figure in FIGURES
        if figure.key
    }
    return {"endpoints": endpoints} | figures
