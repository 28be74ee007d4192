"""Conditions of an object: what is said of one aspect, since when, and what of it is news; pure.

``status`` makes findings into conditions and whoever writes a status asks for its ``changes``.
Nothing changes here unless something else did, or a status write would cause the next for ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Object = dict[str, Any]

LONGEST_MESSAGE: Final = 4096
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Finding:
    """What is to be said about one aspect; becomes a condition."""

    holds: bool
    reason: str
    message: str
    measured: bool = False
    """Whether the message has numbers that differ at each look, and then is not news."""


def yes(reason: str, message: str) -> Finding:
    """Return that an aspect holds."""
    return Finding(holds=True, reason=reason, message=message)


def no(reason: str, message: str) -> Finding:
    """Return that an aspect does not hold."""
    return Finding(holds=False, reason=reason, message=message)


def conditions(body: Object, findings: Mapping[str, Finding], now: str) -> list[Object]:
    """Return the conditions.

    The time of one whose status stays the same stays too, and so does a measured message that would
    only get other numbers: each try of an engine finds a little more or less memory, for example.
    """
    previous = {known["type"]: known for known in body.get("status", {}).get("conditions", ())}
    generation = body["metadata"]["generation"]
    made = [
        _condition(
            previous.pop(kind, {}),
            _written(kind, finding, generation),
            now=now,
            measured=finding.measured,
        )
        for kind, finding in findings.items()
    ]
    return [*made, *previous.values()]


def _written(kind: str, finding: Finding, generation: int) -> Object:
    return {
        "type": kind,
        "status": "True" if finding.holds else "False",
        "reason": finding.reason,
        "message": finding.message[:LONGEST_MESSAGE],
        "observedGeneration": generation,
    }


def _condition(before: Object, after: Object, *, now: str, measured: bool) -> Object:
    """Return a condition with what stays of the one before it."""
    same = before.get("status") == after["status"]
    made = after | {"lastTransitionTime": before["lastTransitionTime"] if same else now}
    return made | {"message": before["message"]} if measured and _alike(before, made) else made


def _alike(before: Object, after: Object) -> bool:
    """Return whether two conditions of one spec differ in nothing but numbers in the message."""
    same = all(before.get(key) == after[key] for key in ("status", "reason", "observedGeneration"))
    return same and _NUMBER.sub("", before["message"]) == _NUMBER.sub("", after["message"])


def changes(body: Object, status: Object) -> Object:
    """Return the merge patch that makes an object's status this one; empty if it is."""
    return _merge_patch(body.get("status", {}), status)


def _merge_patch(before: Object, after: Object) -> Object:
    """Return what differs, and None for what goes: a merge leaves what a patch does not name."""
    gone: Object = dict.fromkeys(before.keys() - after.keys())
    return gone | {
        key: _merge_patch(known, value)
        if isinstance(known := before.get(key), dict) and isinstance(value, dict)
        else value
        for key, value in after.items()
        if before.get(key) != value
    }
