"""The ways to spread requests in turn, in front of the same engines, each with a load of its own.

The gateway runs as two processes, as the chart has it, which know nothing of each other; clients
take turns between them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.prefix.conversations import Plan, talk
from bench.prefix.engines import MODEL, Counters, Engine, engines
from bench.process import Process
from hack.cluster.processes import MARK, end, marked
from hack.cluster.progress import step
from hack.cluster.toolchain import Cache
from helpers.operator_process import free_port

KEY: Final = "sk-bench"
STRATEGIES: Final = {"prefix-hash": "PrefixHash", "least-in-flight": "LeastInFlight"}
ROUND_ROBIN: Final = "round-robin"
_GATEWAYS: Final = 2


@dataclass(frozen=True)
class Round:
    """What came of one way in one round: each engine's counters, and each turn's milliseconds."""

    engines: Sequence[Counters]
    turns_ms: Sequence[float]


Results = Mapping[str, Sequence[Round]]


def compare(cache: Cache, plan: Plan, *, replicas: int, rounds: int) -> Results:
    """Let all ways take turns: one, two, three, three, two, one, ...; nothing is left of anything.

    Raises ClusterError where something does not start or a request fails.
    """
    folder = cache.root / "bench-prefix"
    end(lambda: marked(folder))  # what a killed run left
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with (
            engines(cache, folder, number=replicas) as running,
            _gateways(running, folder) as gateways,
        ):
            return _rounds(running, _ways(running, gateways), plan, rounds=rounds)
    finally:
        end(lambda: marked(folder))
        shutil.rmtree(folder)


def _ways(running: Sequence[Engine], gateways: Sequence[str]) -> dict[str, list[str]]:
    """Return by its name where the requests of each way go in turn."""
    through = {name: [f"{url}/{name}" for url in gateways] for name in STRATEGIES}
    return {**through, ROUND_ROBIN: [engine.url for engine in running]}


def _rounds(
    running: Sequence[Engine], ways: Mapping[str, Sequence[str]], plan: Plan, *, rounds: int
) -> Results:
    results: dict[str, list[Round]] = {name: [] for name in ways}
    order = list(ways)
    for number in range(rounds):
        for name in order if number % 2 == 0 else reversed(order):
            # no two loads have anything in common that an engine may have kept
            seed = 1000 * number + order.index(name)
            with step(f"round {number + 1} of {rounds}: {name}"):
                results[name].append(_round(running, ways[name], plan, seed=seed))
    return results


def _round(running: Sequence[Engine], urls: Sequence[str], plan: Plan, *, seed: int) -> Round:
    turn = itertools.cycle(urls)
    before = [engine.counters() for engine in running]
    took = asyncio.run(talk(plan, lambda: next(turn), seed=seed, key=KEY))
    after = [engine.counters() for engine in running]
    return Round([now.since(then) for now, then in zip(after, before, strict=True)], took)


@contextmanager
def _gateways(running: Sequence[Engine], folder: Path) -> Iterator[Sequence[str]]:
    """Start gateways with an endpoint for each strategy; their addresses."""
    backends = [engine.url for engine in running]
    endpoints = [
        {
            "name": name,
            "namespace": name,  # in one namespace only one could have the model's name
            "models": [MODEL],
            "backends": backends,
            "access": {"loadBalancing": {"strategy": strategy}},
        }
        for name, strategy in STRATEGIES.items()
    ]
    config = folder / "gateway.yaml"  # JSON is YAML
    config.write_text(json.dumps({"endpoints": endpoints, "keys": [{"name": "b", "key": KEY}]}))
    ports = [free_port() for _ in range(_GATEWAYS)]
    with ExitStack() as stack:
        processes = [_gateway(port, config) for port in ports]
        for process in processes:
            stack.callback(process.stop)
            process.start()
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for process, url in zip(processes, urls, strict=True):
            process.wait_until_answered(f"{url}/readyz", timeout_seconds=30)
        yield urls


def _gateway(port: int, config: Path) -> Process:
    command = [sys.executable, "-m", "endpoint_gateway", "--config", str(config)]
    environment = {
        **os.environ,
        "VLLM_ENDPOINTS_GATEWAY_PORT": str(port),
        "VLLM_ENDPOINTS_METRICS_PORT": str(free_port()),
        MARK: str(config.parent),
    }
    return Process(command, environment=environment, log=config.parent / f"gateway-{port}.log")
