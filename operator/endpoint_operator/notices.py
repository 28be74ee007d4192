"""What is announced when a status changes: one Kubernetes Event per change of a condition; pure.

``reconcile`` posts what ``notices`` returns, after the status is written and without caring whether
it succeeds. The conditions are the truth; Events are for ``kubectl describe`` and for whoever
watches them, and the API server drops them after an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from endpoint_operator import names, status

Object = dict[str, Any]

NORMAL, WARNING = "Normal", "Warning"

QUIET: Final = frozenset(
    {
        status.COMPLETE,
        status.UPGRADE_WAITING,
        status.STARTING,
        status.NO_REPLICAS,
        status.SUSPENDED,
        status.PREDECESSOR_GOING,
    }
)
"""Reasons of a condition that is False without anything being wrong."""

ACTION: Final = "Reconcile"
LONGEST_NOTE: Final = 1024


@dataclass(frozen=True)
class Notice:
    """One Event: its type, reason and text."""

    type: str
    reason: str
    note: str


def notices(before: Object, after: Object) -> list[Notice]:
    """Return what to announce of the change from one status to the next, each thing once.

    A new object's good and neutral states are no news; where several conditions have one reason,
    the first one's words are announced.
    """
    first: dict[str, Notice] = {}
    for notice in _changes(before, after):
        first.setdefault(notice.reason, notice)
    return list(first.values())


def _changes(before: Object, after: Object) -> Iterator[Notice]:
    known = {each["type"]: each for each in before.get("conditions", ())}
    for condition in after.get("conditions", ()):
        previous = known.get(condition["type"])
        if previous is not None and _state(previous) == _state(condition):
            continue
        made = Notice(_type(condition), condition["reason"], condition["message"])
        if previous is not None or made.type == WARNING:
            yield made


def _state(condition: Mapping[str, str]) -> tuple[str, str]:
    return condition["status"], condition["reason"]


def _type(condition: Mapping[str, str]) -> str:
    if condition["status"] == "True":
        return WARNING if condition["reason"] == status.UNPINNED_IMAGE else NORMAL
    return NORMAL if condition["reason"] in QUIET else WARNING


def event(body: Object, notice: Notice, *, at: float, instance: str) -> Object:
    """Return the Event (events.k8s.io/v1) that announces something of an object.

    ``at`` is in seconds since 1970; kubectl describe shows Events in the order of their names, so
    two must not have the same. ``instance`` tells this operator's replica from others.
    """
    meta = body["metadata"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{at * 1e6:.0f}", "namespace": meta["namespace"]},
        "eventTime": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": names.MANAGER,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
        "type": notice.type,
        "reason": notice.reason,
        "action": ACTION,
        "note": _shortened(notice.note),
    }


def _shortened(note: str) -> str:
    """Return a note within the 1 KiB that the API server takes."""
    encoded = note.encode()
    if len(encoded) <= LONGEST_NOTE:
        return note
    return encoded[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"
