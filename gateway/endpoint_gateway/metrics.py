"""What is written down of the requests: Prometheus metrics and one access-log line for each.

Every layer fills in the same Record; the pipeline opens and closes it. Labels are bounded: routes
are those of our table, endpoints those of the catalog, and never a text that a client chose. No
prompt and no key is ever here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .usage import Usage

CLIENT_CLOSED = 499
"""nginx's status for a client that left before its answer; it is only ever logged and counted."""

MAX_LOGGED_PATH = 256

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_ROUTE = ("route", "endpoint")
_REQUESTS = "Requests that ended, by route, endpoint and status (499: the client left)."
_IN_FLIGHT = "Requests that were begun and have not ended."
_KEY_REQUESTS = (
    "Requests with a key that ended, by endpoint, key and class of status (2xx, 4xx, ...)."
)
_TOKENS = "Tokens of answers, by endpoint, key, direction, and whether they are estimated."
_FIRST_BYTE = "From a request's head to the first byte of its answer's body."
_DURATION = "From a request's head to its end."
_ERRORS = "Attempts at a replica that failed, by what went wrong."
_RETRIES = "Attempts that were made again, on another replica."

_encode = msgspec.json.Encoder().encode


class Metrics:
    """The gateway's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: Any = {"namespace": "vllm_endpoints_gateway", "registry": self.registry}
        self._requests = Counter("requests", _REQUESTS, (*_ROUTE, "status"), **named)
        by_key = {"labelnames": ("endpoint", "key", "status_class"), **named}
        self._key_requests = Counter("key_requests", _KEY_REQUESTS, **by_key)
        by_direction = {"labelnames": ("endpoint", "key", "direction", "estimated"), **named}
        self._tokens = Counter("tokens", _TOKENS, **by_direction)
        self._running = 0
        in_flight = Gauge("requests_in_flight", _IN_FLIGHT, **named)
        # inc() and dec() take a lock
        in_flight.set_function(lambda: self._running)
        timing = {"labelnames": _ROUTE, "buckets": _SECONDS, **named}
        self._first_byte = Histogram("time_to_first_byte_seconds", _FIRST_BYTE, **timing)
        self._duration = Histogram("request_duration_seconds", _DURATION, **timing)
        self._upstream_errors = Counter("upstream_errors", _ERRORS, ("endpoint", "reason"), **named)
        self._retries = Counter("upstream_retries", _RETRIES, ("endpoint",), **named)
        self._by_endpoint = (
            *(self._requests, self._first_byte, self._duration),
            *(self._upstream_errors, self._retries, self._key_requests, self._tokens),
        )
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._key_counters: dict[tuple[str, str, int], Counter] = {}
        self._token_counters: dict[tuple[str, str, bool], tuple[Counter, Counter]] = {}
        self._histograms: dict[tuple[str, str], tuple[Histogram, Histogram]] = {}

    def begin(self) -> None:
        """Count a request that begins."""
        self._running += 1

    def end(self, record: "Record", *, now: float) -> None:
        """Count a request that ended."""
        self._running -= 1
        self._counter(record.route, record.endpoint, record.status).inc()
        if record.key:
            self._key_counter(record.endpoint, record.key, record.status // 100).inc()
            if record.usage is not None:
                self._count_tokens(record.endpoint, record.key, record.usage)
        first_byte, duration = self._timings(record.route, record.endpoint)
        if record.first_byte is not None:
            first_byte.observe(record.first_byte - record.began)
        duration.observe(now - record.began)

    def upstream_error(self, endpoint: str, reason: str) -> None:
        """Count an attempt that failed."""
        self._upstream_errors.labels(endpoint, reason).inc()

    def retry(self, endpoint: str) -> None:
        """Count an attempt that is made again."""
        self._retries.labels(endpoint).inc()

    def retain(self, endpoints: Iterable[str]) -> None:
        """Forget the endpoints that are not among these; names come and go, a process stays.

        One with a request in flight is back when that ends, and is forgotten at the next call.
        """
        gone = {endpoint for _, endpoint in self._histograms} - {"", *endpoints}
        for endpoint in gone:
            for metric in self._by_endpoint:
                metric.remove_by_labels({"endpoint": endpoint})
        self._counters = {key: kept for key, kept in self._counters.items() if key[1] not in gone}
        self._drop_children(lambda endpoint, _: endpoint in gone)
        self._histograms = {
            key: kept for key, kept in self._histograms.items() if key[1] not in gone
        }

    def retain_keys(self, keys: Iterable[str]) -> None:
        """Forget the keys that are not among these, as `retain` does the endpoints."""
        gone = {key for _, key, _ in self._key_counters} - set(keys)
        for key in gone:
            self._key_requests.remove_by_labels({"key": key})
            self._tokens.remove_by_labels({"key": key})
        self._drop_children(lambda _, key: key in gone)

    def _drop_children(self, is_gone: Callable[[str, str], bool]) -> None:
        by_key, tokens = self._key_counters, self._token_counters
        self._key_counters = {k: kept for k, kept in by_key.items() if not is_gone(*k[:2])}
        self._token_counters = {k: kept for k, kept in tokens.items() if not is_gone(*k[:2])}

    def page(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    # labels() takes a lock and formats its arguments at each call; the children are kept instead

    def _counter(self, route: str, endpoint: str, status: int) -> Counter:
        labels = (route, endpoint, status)
        found = self._counters.get(labels)
        if found is None:
            found = self._counters[labels] = self._requests.labels(*labels)
        return found

    def _key_counter(self, endpoint: str, key: str, hundreds: int) -> Counter:
        labels = (endpoint, key, hundreds)
        found = self._key_counters.get(labels)
        if found is None:
            found = self._key_requests.labels(endpoint, key, f"{hundreds}xx")
            self._key_counters[labels] = found
        return found

    def _count_tokens(self, endpoint: str, key: str, usage: Usage) -> None:
        labels = (endpoint, key, usage.estimated)
        found = self._token_counters.get(labels)
        if found is None:
            estimated = "true" if usage.estimated else "false"
            children = (
                self._tokens.labels(endpoint, key, direction, estimated)
                for direction in ("input", "output")
            )
            found = self._token_counters[labels] = next(children), next(children)
        found[0].inc(usage.input)
        found[1].inc(usage.output)

    def _timings(self, route: str, endpoint: str) -> tuple[Histogram, Histogram]:
        labels = (route, endpoint)
        found = self._histograms.get(labels)
        if found is None:
            found = (self._first_byte.labels(*labels), self._duration.labels(*labels))
            self._histograms[labels] = found
        return found


class Record:
    """What is known of one request; times are `time.perf_counter()` seconds.

    `input_bytes` is the size of what the engine reads as text.
    """

    __slots__ = (
        "attempts",
        "began",
        "endpoint",
        "error",
        "first_byte",
        "input_bytes",
        "key",
        "method",
        "path",
        "request_id",
        "route",
        "status",
        "stream",
        "usage",
    )

    def __init__(self, *, method: str, path: str, request_id: str) -> None:
        self.began = time.perf_counter()
        self.method = method
        self.path = path
        self.request_id = request_id
        self.route = "none"
        self.endpoint = ""
        self.key = ""
        self.status = CLIENT_CLOSED
        self.stream = False
        self.attempts = 0
        self.error: str | None = None
        self.first_byte: float | None = None
        self.input_bytes = 0
        self.usage: Usage | None = None

    def saw_byte(self) -> None:
        """Note the time of the first byte of the answer's body."""
        if self.first_byte is None:
            self.first_byte = time.perf_counter()


class _Line(msgspec.Struct, gc=False, kw_only=True):
    time: float
    log: str = "access"
    request_id: str
    method: str
    path: str
    route: str
    endpoint: str
    key: str
    stream: bool
    status: int
    error: str | None
    attempts: int
    input_tokens: int | None
    output_tokens: int | None
    tokens_estimated: bool
    first_byte_ms: float | None
    duration_ms: float


class AccessLog:
    """Writes one line of JSON per request to a binary stream.

    `wall_clock` gives seconds since 1970.
    """

    def __init__(self, stream: BinaryIO, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._wall_clock = wall_clock
        self._unflushed = False

    def write(self, record: Record, *, now: float) -> None:
        """Write this request's line; it is out before the loop waits for anything again."""
        first_byte, usage = record.first_byte, record.usage
        line = _Line(
            time=round(self._wall_clock(), 3),
            request_id=record.request_id,
            method=record.method,
            path=record.path[:MAX_LOGGED_PATH],
            route=record.route,
            endpoint=record.endpoint,
            key=record.key,
            stream=record.stream,
            status=record.status,
            error=record.error,
            attempts=record.attempts,
            input_tokens=None if usage is None else usage.input,
            output_tokens=None if usage is None else usage.output,
            tokens_estimated=usage is not None and usage.estimated,
            first_byte_ms=None if first_byte is None else _ms(first_byte - record.began),
            duration_ms=_ms(now - record.began),
        )
        self._stream.write(_encode(line) + b"\n")
        if not self._unflushed:
            self._unflushed = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._unflushed = False
        self._stream.flush()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
