"""What is counted of requests, as plain numbers, and as Prometheus reads them.

Used by metrics. The client library's own counters take a lock and a call each, which together is
more than the rest of what a request's end costs; here only one loop counts, and a page is made of
it when it is asked for.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from .usage import Usage

_PREFIX: Final = "vllm_endpoints_gateway_"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BOUNDS: Final = (*(str(float(bound)) for bound in _SECONDS), "+Inf")

_REQUESTS = "Requests that ended, by route, endpoint and status (499: the client left)."
_IN_FLIGHT = "Requests that were begun and have not ended."
_KEY_REQUESTS = (
    "Requests with a key that ended, by endpoint, key and class of status (2xx, 4xx, ...)."
)
_TOKENS = "Tokens of answers, by endpoint, key, direction, and whether they are estimated."
_FIRST_BYTE = "From a request's head to the first byte of its answer's body."
_DURATION = "From a request's head to its end."


class _Times:
    """How long something took, each time."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * len(_BOUNDS)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds


class Tally(Collector):
    """The numbers, by endpoint and more."""

    def __init__(self) -> None:
        self.running = 0
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._key_requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._tokens: defaultdict[tuple[str, str, bool], list[int]] = defaultdict(lambda: [0, 0])
        self._first_bytes: defaultdict[tuple[str, str], _Times] = defaultdict(_Times)
        self._durations: defaultdict[tuple[str, str], _Times] = defaultdict(_Times)

    def count(self, route: str, endpoint: str, status: int) -> None:
        """Count a request that ended."""
        self._requests[route, endpoint, status] += 1

    def count_for_key(self, endpoint: str, key: str, status: int, usage: Usage | None) -> None:
        """Count it for its key, with the tokens that it took."""
        self._key_requests[endpoint, key, status // 100] += 1
        if usage is not None:
            tokens = self._tokens[endpoint, key, usage.estimated]
            tokens[0] += usage.input
            tokens[1] += usage.output

    def time(self, route: str, endpoint: str, first_byte: float | None, duration: float) -> None:
        """Note how long it took, in seconds, until its first byte and until its end."""
        if first_byte is not None:
            self._first_bytes[route, endpoint].add(first_byte)
        self._durations[route, endpoint].add(duration)

    @property
    def endpoints(self) -> set[str]:
        """Return the endpoints of which something was counted."""
        return {endpoint for _, endpoint in self._durations}

    @property
    def keys(self) -> set[str]:
        """Return the keys for which something was counted."""
        return {key for _, key, _ in self._key_requests}

    def forget_endpoints(self, gone: set[str]) -> None:
        """Forget what was counted of these endpoints."""
        by_route: tuple[dict[Any, Any], ...] = (self._requests, self._first_bytes, self._durations)
        for numbers in by_route:
            _drop(numbers, lambda labels: labels[1] in gone)
        _drop(self._key_requests, lambda labels: labels[0] in gone)
        _drop(self._tokens, lambda labels: labels[0] in gone)

    def forget_keys(self, gone: set[str]) -> None:
        """Forget what was counted for these keys."""
        _drop(self._key_requests, lambda labels: labels[1] in gone)
        _drop(self._tokens, lambda labels: labels[1] in gone)

    def collect(self) -> Iterator[Metric]:
        """Yield everything (Prometheus' registry calls this)."""
        yield GaugeMetricFamily(_PREFIX + "requests_in_flight", _IN_FLIGHT, self.running)
        by_route = ["route", "endpoint"]
        requests = CounterMetricFamily(
            _PREFIX + "requests", _REQUESTS, labels=[*by_route, "status"]
        )
        for (route, endpoint, status), number in self._requests.items():
            requests.add_metric([route, endpoint, str(status)], number)
        yield requests
        yield self._collect_keys()
        yield self._collect_tokens()
        yield _histogram("time_to_first_byte_seconds", _FIRST_BYTE, self._first_bytes)
        yield _histogram("request_duration_seconds", _DURATION, self._durations)

    def _collect_keys(self) -> Metric:
        labels = ["endpoint", "key", "status_class"]
        family = CounterMetricFamily(_PREFIX + "key_requests", _KEY_REQUESTS, labels=labels)
        for (endpoint, key, hundreds), number in self._key_requests.items():
            family.add_metric([endpoint, key, f"{hundreds}xx"], number)
        return family

    def _collect_tokens(self) -> Metric:
        labels = ["endpoint", "key", "direction", "estimated"]
        family = CounterMetricFamily(_PREFIX + "tokens", _TOKENS, labels=labels)
        for (endpoint, key, estimated), numbers in self._tokens.items():
            for direction, number in zip(("input", "output"), numbers, strict=True):
                family.add_metric([endpoint, key, direction, str(estimated).lower()], number)
        return family


def _histogram(name: str, text: str, times: Mapping[tuple[str, str], _Times]) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text, labels=["route", "endpoint"])
    for labels, each in times.items():
        buckets = list(zip(_BOUNDS, accumulate(each.buckets), strict=True))
        family.add_metric(list(labels), buckets, each.total)
    return family


def _drop(numbers: dict[Any, Any], is_gone: Callable[[Any], bool]) -> None:
    for labels in [each for each in numbers if is_gone(each)]:
        del numbers[labels]
