"""One contestant in one round: open streams first, on fresh processes, then whole answers.

``comparison`` calls it. CPU is that of the contestant's process tree, between two readings.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.gateway.contestants import KEY, Contestant
from bench.gateway.load import Load
from bench.process import Process
from hack.cluster.processes import ClusterError, wait_until
from hack.cluster.progress import step

KB = 1024
MICROSECONDS = 1e6
WARM_UP_SECONDS = 1.0
EVENTS_PER_SECOND = 5000
"""Of all streams together, whatever their number; but no stream has more than MOST_PER_STREAM."""

MOST_PER_STREAM = 5.0
LOW_RATE = 20.0
"""Requests per second at which no contestant queues, for latencies."""

START_SECONDS = 90


@dataclass(frozen=True)
class Plan:
    """How often, and for how many seconds each thing is measured."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Streams:
    """What so many open streams cost: CPU us per event, memory, delay of an event."""

    sse: float
    rss_mib: float
    delay_p50_ms: float


@dataclass(frozen=True)
class Measured:
    """One round of a contestant: CPU us per request, MiB, milliseconds, failed requests."""

    unary: float
    unary_64k: float
    p50_ms: float
    rss_mib: float
    errors: int
    streams: Mapping[int, Streams] = field(default_factory=dict)


class Round:
    """One contestant, measured once."""

    def __init__(self, contestant: Contestant, process: Process, load: Load, *, port: int) -> None:
        self._contestant = contestant
        self._process = process
        self._load = load
        self._port = port
        self._errors = 0

    def measure(self, plan: Plan) -> Measured:
        """Go through all phases."""
        name = self._contestant.name
        streams = {}
        for number in self._contestant.streams:
            with step(f"{name}: {number} streams"), self._started():
                streams[number] = self._stream(number, plan.seconds)
        with step(f"{name}: whole answers"), self._started():
            rss_mib = self._process.rss_mib()
            self._load.unary(size=KB, seconds=WARM_UP_SECONDS)
            return Measured(
                unary=self._unary(KB, plan.seconds),
                unary_64k=self._unary(64 * KB, plan.seconds),
                p50_ms=latency_ms(self._load, plan.seconds),
                rss_mib=rss_mib,
                errors=self._errors,
                streams=streams,
            )

    @contextmanager
    def _started(self) -> Iterator[None]:
        """Run a fresh process: what a phase leaves in memory is not the next one's."""
        self._process.start()
        try:
            wait_until(
                f"{self._contestant.name} to answer",
                self._answers,
                timeout_seconds=START_SECONDS,
            )
            yield
        finally:
            self._process.stop()

    def _answers(self) -> bool:
        self._process.check()
        return answers(self._port)

    def _stream(self, number: int, seconds: float) -> Streams:
        rate = min(MOST_PER_STREAM, EVENTS_PER_SECOND / number)
        with self._load.streams(number=number, rate=rate, seconds=seconds) as readings:
            next(readings)
            before, begun = self._process.cpu_seconds(), time.monotonic()
            counted = next(readings)
            used, passed = self._process.cpu_seconds() - before, time.monotonic() - begun
            self._errors += counted.errors
            if not counted.events:
                raise ClusterError(f"{self._contestant.name} passed on no event of any stream")
            return Streams(
                # this program may read its clocks later than the load does
                sse=used / passed / (counted.events / seconds) * MICROSECONDS,
                rss_mib=self._process.rss_mib(),
                delay_p50_ms=counted.delay_p50_ms,
            )

    def _unary(self, size: int, seconds: float) -> float:
        before = self._process.cpu_seconds()
        answered = self._load.unary(size=size, seconds=seconds)
        used = self._process.cpu_seconds() - before
        self._errors += answered.errors
        if not answered.requests:
            raise ClusterError(f"{self._contestant.name} answered no request")
        return used / answered.requests * MICROSECONDS


def latency_ms(load: Load, seconds: float) -> float:
    """Return the median time of a request where nothing queues."""
    return load.unary(size=KB, seconds=seconds, rate=LOW_RATE).p50_ms


def answers(port: int) -> bool:
    """Return whether a port answers a chat request with success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = '{"model":"bench","messages":[{"role":"user","content":"Hello"}]}'
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
