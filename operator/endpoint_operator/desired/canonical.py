"""A pod template as the API server stores it, so that what we sent compares equal to what we read.

``workload`` passes the template through it after users' parts are merged in. What the API server
would not keep is left out (an empty list, the false of a field that is false anyway), and
quantities are in its own form; else each reconcile would find a difference and write again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from endpoint_operator.api import values

MAPS: Final = frozenset(
    {
        "annotations",
        "labels",
        "limits",
        "matchLabels",
        "nodeSelector",
        "overhead",
        "requests",
        "volumeAttributes",
    }
)
"""Fields whose keys are the user's: all that they hold is kept, and they are not kept empty."""

QUANTITIES: Final = frozenset({"limits", "overhead", "requests"})
"""Fields that hold quantities by resource."""

QUANTITY: Final = frozenset({"divisor", "sizeLimit"})
FALSE_ANYWAY: Final = frozenset(
    {"hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty"}
)
ZERO_ANYWAY: Final = frozenset(
    {
        "failureThreshold",
        "hostPort",
        "initialDelaySeconds",
        "periodSeconds",
        "successThreshold",
        "timeoutSeconds",
    }
)
"""Fields whose zero is as good as nothing; of a probe it stands for a default."""
SIGNIFICANT_EMPTY: Final = frozenset({"storageClassName"})


def canonical(node: Any) -> Any:
    """Return a copy of a part of a pod template in the API server's form."""
    if isinstance(node, dict):
        return {
            field: stored
            for field, value in node.items()
            if not _is_left_out(field, stored := _field(field, value))
        }
    if isinstance(node, list):
        return [canonical(item) for item in node]
    return node


def _field(field: str, value: Any) -> Any:
    if field in QUANTITIES and isinstance(value, dict):
        return {name: _quantity(amount) for name, amount in value.items()}
    if field in QUANTITY:
        return _quantity(value)
    return value if field in MAPS else canonical(value)


def _is_left_out(field: str, value: Any) -> bool:
    if value is False:
        return field in FALSE_ANYWAY
    if value == 0 and isinstance(value, int):
        return field in ZERO_ANYWAY
    if value == {}:
        return field in MAPS
    return value is None or value == [] or (value == "" and field not in SIGNIFICANT_EMPTY)


def _quantity(value: Any) -> Any:
    """Return a quantity in its canonical form; what is none, or of a rarer form, as it is."""
    try:
        return _canonical_quantity(str(value))
    except ValueError:
        return value


_canonical_quantity = lru_cache(1024)(values.canonical_quantity)  # exact arithmetic takes its time
