"""What the benchmark of prefix caches asks and says; `make bench-prefix` runs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.prefix import report
from bench.prefix.comparison import ROUND_ROBIN, STRATEGIES, Round
from bench.prefix.conversations import Plan, talk
from bench.prefix.engines import Counters
from hack.cluster.processes import ClusterError
from helpers.fake_vllm import FakeVllm, answering, captured, response

PLAN = Plan(conversations=3, turns=2, at_a_time=2)


def test_rounds_are_added_up_and_the_least_even_one_counts() -> None:
    even = Round([Counters(100, 50, 10), Counters(100, 70, 10)], [10, 30])
    odd = Round([Counters(100, 90, 15), Counters(100, 10, 5)], [20])
    (figures,) = report.figures({ROUND_ROBIN: [even, odd]}).values()
    assert figures == {"hit_rate": 0.55, "computed": 4, "busiest": 1.5, "turn_ms": 20}


def test_the_last_line_has_every_way() -> None:
    each = Round([Counters(2, 1, 1)], [1])
    results = {name: [each] for name in (*STRATEGIES, ROUND_ROBIN)}
    assert list(json.loads(report.json_line(results))) == list(results)
    for figure in report.FIGURES:
        assert figure.title in report.table(results)


async def asked(seed: int) -> list[dict[str, Any]]:
    """The bodies of all requests of a load."""
    async with FakeVllm(answering(captured("chat"))) as engine:
        took = await talk(PLAN, lambda: engine.url, seed=seed, key="sk")
    assert len(took) == len(engine.requests) == 6
    return [request.json for request in engine.requests]


async def test_a_turn_repeats_what_was_said_before() -> None:
    said = [body["messages"] for body in await asked(seed=1)]
    first, second = ([turn for turn in said if len(turn) == length] for length in (2, 4))
    assert len(first) == len(second) == 3
    for turn in second:
        assert [message["role"] for message in turn[1:]] == ["user", "assistant", "user"]
        assert turn[:2] in first


async def test_loads_have_no_prompt_in_common_unless_they_are_the_same() -> None:
    def prompts(bodies: list[dict[str, Any]]) -> set[str]:
        return {body["messages"][0]["content"] for body in bodies}

    one, again, other = [prompts(await asked(seed)) for seed in (1, 1, 2)]
    assert one == again
    assert one & other == set()


async def test_a_turn_that_fails_ends_the_comparison() -> None:
    refusal = response(b"no", status=503)
    async with FakeVllm(answering(refusal)) as engine:
        with pytest.raises(ClusterError, match="503"):
            await talk(PLAN, lambda: engine.url, seed=1, key="sk")


def test_counters_are_read_as_vllm_writes_them() -> None:
    page = (
        'vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 1.5e+03\n'
        'vllm:request_success_total{engine="0",finished_reason="stop"} 2.0\n'
        'vllm:request_success_total{engine="0",finished_reason="length"} 3.0\n'
    )
    assert Counters.read(page) == Counters(looked_up=1500, found=0, requests=5)
