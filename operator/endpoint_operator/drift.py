"""Whether a live object still says everything that we want of it.

``reconcile`` asks before it applies: an apply that changes nothing costs the API server as much as
a create. What others added (defaults, foreign fields, sidecars) is not drift. What we stopped
wanting is not seen here but by the applied-hash annotation.
"""

from __future__ import annotations

from typing import Any, Final

MERGE_KEYS: Final = ("uid", "mountPath", "name", "containerPort")
"""Fields by which Kubernetes tells the items of a list apart, in the lists that we write."""


def covers(live: Any, desired: Any) -> bool:
    """Return whether the live value has everything that the desired one has."""
    if live == desired:
        return True  # most of an object is
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(
            key in live and covers(live[key], value) for key, value in desired.items()
        )
    return isinstance(desired, list) and isinstance(live, list) and _covers_list(live, desired)


def _covers_list(live: list[Any], desired: list[Any]) -> bool:
    key = next((key for key in MERGE_KEYS if desired and _tells_apart(key, desired)), None)
    if key is None:
        return len(live) == len(desired) and all(map(covers, live, desired))
    by_key = {item[key]: item for item in live if isinstance(item, dict) and key in item}
    return all(item[key] in by_key and covers(by_key[item[key]], item) for item in desired)


def _tells_apart(key: str, items: list[Any]) -> bool:
    if not all(isinstance(item, dict) and key in item for item in items):
        return False
    return len({item[key] for item in items}) == len(items)
