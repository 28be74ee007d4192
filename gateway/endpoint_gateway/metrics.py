"""What is written down of the requests: Prometheus metrics and one access-log line for each.

Called by the pipeline at a request's beginning and end. Labels are bounded: routes
are those of our table, endpoints those of the catalog, and never a text that a client chose. No
prompt and no key is ever here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, BinaryIO

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from .record import Record
from .tally import Tally

MAX_LOGGED_PATH = 256
_FLUSH_SECONDS = 0.05

_SHARED_LIMITS = "Whether the server on which gateways count limits together can be had (1) or not."
_ERRORS = "Attempts at a replica that failed, by what went wrong."
_REFUSED = "What came and was no request, by the status that it was answered with."
_RETRIES = "Attempts that were made again, on another replica or with another key."

_NAMES = ("method", "path", "route", "endpoint", "key", "stream", "error")
_LINE = (
    b'{"time":%.3f,"log":"access","request_id":"%s",%s,"status":%d,"attempts":%d,'
    b'"input_tokens":%s,"output_tokens":%s,"tokens_estimated":%s,'
    b'"first_byte_ms":%s,"duration_ms":%.2f}\n'
)


class Metrics:
    """The gateway's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._tally = Tally()
        self.registry.register(self._tally)
        named: Any = {"namespace": "vllm_endpoints_gateway", "registry": self.registry}
        self._upstream_errors = Counter("upstream_errors", _ERRORS, ("endpoint", "reason"), **named)
        self._refused = Counter("refused_heads", _REFUSED, ("status",), **named)
        self._retries = Counter("upstream_retries", _RETRIES, ("endpoint",), **named)

    def shared_limits(self) -> Gauge:
        """Return the gauge of whether limits are shared, to be set; to be called where they are."""
        name = "vllm_endpoints_gateway_shared_limits_up"
        return Gauge(name, _SHARED_LIMITS, registry=self.registry)

    def begin(self) -> None:
        """Count a request that begins."""
        self._tally.running += 1

    def end(self, record: Record, *, now: float) -> None:
        """Count a request that ended."""
        tally, route, endpoint = self._tally, record.route, record.endpoint
        tally.running -= 1
        tally.count(route, endpoint, record.status)
        if record.key:
            tally.count_for_key(endpoint, record.key, record.status, record.usage)
        first_byte = record.first_byte
        first_byte_seconds = None if first_byte is None else first_byte - record.began
        tally.time(route, endpoint, first_byte_seconds, now - record.began)

    def upstream_error(self, endpoint: str, reason: str) -> None:
        """Count an attempt that failed."""
        self._upstream_errors.labels(endpoint, reason).inc()

    def refused(self, status: int) -> None:
        """Count what was no request."""
        self._refused.labels(status).inc()

    def retry(self, endpoint: str) -> None:
        """Count an attempt that is made again."""
        self._retries.labels(endpoint).inc()

    def retain(self, endpoints: Iterable[str]) -> None:
        """Forget the endpoints that are not among these; names come and go, a process stays.

        One with a request in flight is back when that ends, and is forgotten at the next call.
        """
        gone = self._tally.endpoints - {"", *endpoints}
        self._tally.forget_endpoints(gone)
        for endpoint in gone:
            self._upstream_errors.remove_by_labels({"endpoint": endpoint})
            self._retries.remove_by_labels({"endpoint": endpoint})

    def retain_keys(self, keys: Iterable[str]) -> None:
        """Forget the keys that are not among these, as `retain` does the endpoints."""
        self._tally.forget_keys(self._tally.keys - set(keys))

    def page(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class AccessLog:
    """Writes one line of JSON per request to a binary stream.

    `wall_clock` gives seconds since 1970.
    """

    def __init__(self, stream: BinaryIO, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._wall_clock = wall_clock
        self._unflushed = False

    def write(self, record: Record, *, now: float) -> None:
        """Write this request's line; it is out within a twentieth of a second."""
        first_byte, usage = record.first_byte, record.usage
        about = _about(
            record.method,
            record.path[:MAX_LOGGED_PATH],
            record.route,
            record.endpoint,
            record.key,
            record.stream,
            record.error,
        )
        self._stream.write(
            _LINE
            % (
                self._wall_clock(),
                record.request_id,
                about,
                record.status,
                record.attempts,
                b"null" if usage is None else b"%d" % usage.input,
                b"null" if usage is None else b"%d" % usage.output,
                b"true" if usage is not None and usage.estimated else b"false",
                b"null" if first_byte is None else b"%.2f" % ((first_byte - record.began) * 1000),
                (now - record.began) * 1000,
            )
        )
        if not self._unflushed:
            self._unflushed = True
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._unflushed = False
        self._stream.flush()


@lru_cache(maxsize=4096)
def _about(*values: object) -> bytes:
    """Return the members of a line that are the same for many requests."""
    return msgspec.json.encode(dict(zip(_NAMES, values, strict=True)))[1:-1]
