"""What a contestant asked of the API server, counted from the server's audit log.

The audit log is exact: it has every request, also those that change nothing or fail. The policy
beside this module lets through one user alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
READS: Final = frozenset({"get", "list", "watch"})
LEASES: Final = "leases"

Requests = Counter[tuple[str, str]]
"""How often each verb was asked of each resource (``deployments``, ``deployments/scale``)."""


def count(lines: Iterable[str]) -> Requests:
    """Count the requests in lines of an audit log, a watch when it starts, others when they end."""
    found: Requests = Counter()
    for line in lines:
        event = json.loads(line)
        if event["stage"] == (
            "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
        ):
            found[event["verb"], _resource(event.get("objectRef", {}))] += 1
    return found


def _resource(ref: dict[str, str]) -> str:
    return "/".join(part for part in (ref.get("resource"), ref.get("subresource")) if part)


def writes(requests: Requests) -> int:
    """Return how many writes there are, apart from those that keep a Lease."""
    return _sum(requests, WRITES) - lease_writes(requests)


def lease_writes(requests: Requests) -> int:
    """Return how many writes keep a Lease: leadership costs the same whatever there is to do."""
    return sum(requests[verb, LEASES] for verb in WRITES)


def reads(requests: Requests) -> int:
    """Return how many requests read, with lists and watches, but for those of a Lease."""
    return _sum(requests, READS) - sum(requests[verb, LEASES] for verb in READS)


def _sum(requests: Requests, verbs: frozenset[str]) -> int:
    return sum(number for (verb, _), number in requests.items() if verb in verbs)


def signs_of_work(requests: Requests) -> set[str]:
    """Return what a process does that is ready to work: which kinds it watches, and leadership."""
    watched = {resource for verb, resource in requests if verb == "watch"}
    return watched | ({LEASES} if lease_writes(requests) else set())


class AuditLog:
    """A log that grows; ``total`` counts on from where it was read to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._total: Requests = Counter()

    def total(self) -> Requests:
        """Return all requests so far."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        self._total += count(complete.decode().splitlines())
        return self._total.copy()
