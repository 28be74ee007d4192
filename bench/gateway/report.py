"""From what was measured to figures: a table for people, and one line of JSON for programs. Pure.

Of several rounds of a contestant the median counts; failed requests of all rounds are added up.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.gateway.comparison import Results
from bench.gateway.contestants import OURS
from bench.gateway.phases import Measured, Streams

Rounds = Sequence[Measured]
Figures = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """One row of the table; ``key`` is its name in the JSON."""

    key: str
    title: str
    of: Callable[[Rounds], float | None]
    decimals: int = 1


def _median(of: Callable[[Measured], float]) -> Callable[[Rounds], float]:
    return lambda rounds: statistics.median(map(of, rounds))


def _streams(number: int, of: Callable[[Streams], float]) -> Callable[[Rounds], float | None]:
    def figure(rounds: Rounds) -> float | None:
        found = [of(each.streams[number]) for each in rounds if number in each.streams]
        return statistics.median(found) if found else None

    return figure


def _fewest(of: Callable[[Streams], float]) -> Callable[[Rounds], float | None]:
    """Return a figure of the smaller number of streams, which is 1,000 where it can be."""
    return _median(lambda measured: of(measured.streams[min(measured.streams)]))


FIGURES: Final = (
    Figure("unary", "CPU per 1 KB request, us", _median(lambda each: each.unary)),
    Figure("unary_64k", "CPU per 64 KB request, us", _median(lambda each: each.unary_64k)),
    Figure("sse", "CPU per event, 1,000 streams, us", _fewest(lambda each: each.sse)),
    Figure("sse_5000", "  of 5,000 streams, us", _streams(5000, lambda each: each.sse)),
    Figure("added_p50_ms", "added latency, p50, ms", _median(lambda each: each.p50_ms), 2),
    Figure("delay_p50_ms", "delay of an event, p50, ms", _fewest(lambda e: e.delay_p50_ms), 2),
    Figure("rss_mib", "memory (RSS), MiB", _median(lambda each: each.rss_mib), 0),
    Figure("rss_1000_mib", "  with 1,000 open streams", _streams(1000, lambda e: e.rss_mib), 0),
    Figure("rss_5000_mib", "  with 5,000 open streams", _streams(5000, lambda e: e.rss_mib), 0),
    Figure("errors", "failed requests and streams", lambda all_: sum(e.errors for e in all_), 0),
)


def figures(results: Results) -> dict[str, Figures]:
    """Return the figures of each contestant by their keys, without those that it hasn't."""
    direct = statistics.median(results.direct_ms)
    return {name: _figures(rounds, direct) for name, rounds in results.rounds.items()}


def _figures(rounds: Rounds, direct_ms: float) -> Figures:
    found = {figure.key: figure.of(rounds) for figure in FIGURES}
    found["added_p50_ms"] = (found["added_p50_ms"] or 0) - direct_ms
    return {
        figure.key: round(value, figure.decimals)
        for figure in FIGURES
        if (value := found[figure.key]) is not None
    }


def table(results: Results) -> str:
    """Return all figures as lines of text, with ratios to ours, and what contestants leave out."""
    everybody = figures(results)
    ours = everybody.get(OURS, {})
    lines = ["".join([f"{'':35}", *(f"{name:>17}" for name in everybody)])]
    for figure in FIGURES:
        cells = (_cell(figure, each, ours) for each in everybody.values())
        lines.append("".join([f"{figure.title:35}", *(f"{cell:>17}" for cell in cells)]))
    lines += [f"{name}: {note}" for name, note in results.notes.items() if note]
    busy = ", ".join(f"{each:.1f}" for each in results.busy)
    return "\n".join([*lines, FOOTNOTE, f"Load average at the beginning of each round: {busy}."])


def _cell(figure: Figure, its: Figures, ours: Figures) -> str:
    if figure.key not in its:
        return "-"
    value = f"{its[figure.key]:.{figure.decimals}f}"
    mine = ours.get(figure.key, 0)
    ratio = f" ({its[figure.key] / mine:.2f})" if mine > 0 and figure.key != "errors" else ""
    return value + ratio


FOOTNOTE: Final = (
    "In brackets: the ratio to ours. CPU is of this machine, and higher by up to a half while\n"
    "others use it: compare columns, not machines. CPU of streams is at 5,000 events a second."
)


def json_line(results: Results) -> str:
    """Return all figures as one line of JSON."""
    return json.dumps(figures(results))
