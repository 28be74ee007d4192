"""From what engines counted to figures: a table for people, one line of JSON for programs. Pure.

Tokens of all rounds are added up; of evenness the worst round counts, of times the median turn.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.prefix.comparison import Results, Round

Rounds = Sequence[Round]


@dataclass(frozen=True)
class Figure:
    """One row of the table; ``key`` is its name in the JSON."""

    key: str
    title: str
    of: Callable[[Rounds], float]
    decimals: int


def _hit_rate(rounds: Rounds) -> float:
    counted = [engine for each in rounds for engine in each.engines]
    looked_up = sum(engine.looked_up for engine in counted)
    return sum(engine.found for engine in counted) / looked_up


def _computed(rounds: Rounds) -> float:
    counted = [engine for each in rounds for engine in each.engines]
    missed = sum(engine.looked_up - engine.found for engine in counted)
    return missed / sum(engine.requests for engine in counted)


def _busiest(rounds: Rounds) -> float:
    return max(_above_mean([engine.requests for engine in each.engines]) for each in rounds)


def _above_mean(requests: Sequence[float]) -> float:
    return max(requests) / statistics.mean(requests)


def _turn_ms(rounds: Rounds) -> float:
    return statistics.median(took for each in rounds for took in each.turns_ms)


FIGURES: Final = (
    Figure("hit_rate", "tokens found in the cache, share", _hit_rate, 3),
    Figure("computed", "tokens of a prompt that were computed", _computed, 0),
    Figure("busiest", "requests of the busiest replica / mean", _busiest, 2),
    Figure("turn_ms", "a turn, median, ms", _turn_ms, 0),
)


def figures(results: Results) -> dict[str, dict[str, float]]:
    """Return the figures of each way by their keys."""
    return {
        name: {figure.key: round(figure.of(rounds), figure.decimals) for figure in FIGURES}
        for name, rounds in results.items()
    }


def table(results: Results) -> str:
    """Return all figures as lines of text."""
    found = figures(results)
    lines = ["".join([f"{'':40}", *(f"{name:>17}" for name in found)])]
    for figure in FIGURES:
        cells = (f"{each[figure.key]:.{figure.decimals}f}" for each in found.values())
        lines.append("".join([f"{figure.title:40}", *(f"{cell:>17}" for cell in cells)]))
    return "\n".join(lines)


def json_line(results: Results) -> str:
    """Return all figures as one line of JSON."""
    return json.dumps(figures(results))
