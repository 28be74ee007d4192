"""Durations, quantities and times as users write them, turned into numbers and back.

Durations are Go's (``10m``, ``1h30m``), quantities Kubernetes' (``500m``, ``16Gi``). The canonical
form is the one that the API server stores, so that what we send compares equal to what we read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

DURATION_PATTERN: Final = "^[0-9]{1,6}[hms]([0-9]{1,5}[hms]){0,3}$"
"""No more of it than the API server's durations hold, which are 292 years at most."""

QUANTITY_PATTERN: Final = (
    "^([0-9]{1,15}([.][0-9]{1,3})?|[.][0-9]{1,3})([mkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$"
)
LARGEST: Final = 2**63 - 1
"""What the API server makes of a larger number of bytes in binary units."""

LATEST: Final = 253402300799
"""The last second of the year 9999, the last that can be written; since 1970."""

_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}
_BINARY: Final = {"Ei": 2**60, "Pi": 2**50, "Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10}
_DECIMAL: Final = {"E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3}
_FACTORS: Final[dict[str, Fraction]] = {
    **{suffix: Fraction(factor) for suffix, factor in (_BINARY | _DECIMAL).items()},
    "": Fraction(1),
    "m": Fraction(1, 1000),
}


def seconds(duration: str) -> int:
    """Return the length of a duration such as ``1h30m``. Raises ValueError."""
    if not re.fullmatch(DURATION_PATTERN, duration):
        raise ValueError(f"not a duration: {duration!r}")
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)(.)", duration))


def since_1970(time: str) -> float:
    """Return a time such as ``2027-01-01T00:00:00Z`` in seconds. Raises ValueError.

    What is not between 1970 and 9999 everywhere becomes the nearest that is, so that it can be
    written again.
    """
    return min(max(datetime.fromisoformat(time).timestamp(), 0.0), LATEST)


def time_text(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amount(quantity: str) -> Fraction:
    """Return the value of a quantity such as ``500m`` (one half). Raises ValueError."""
    if not re.fullmatch(QUANTITY_PATTERN, quantity):
        raise ValueError(f"not a quantity: {quantity!r}")
    number = quantity.rstrip("EGKMPTikm")
    return min(Fraction(number) * _FACTORS[quantity[len(number) :]], Fraction(LARGEST))


def canonical(value: Fraction, *, binary: bool) -> str:
    """Return a quantity as the API server writes it: the largest unit without a fraction.

    ``binary`` is the family (Ki, Mi, ...) that the user chose; what a whole number of bytes can't
    express falls back to thousandths, as in Kubernetes' own canonical form.
    """
    if value.denominator != 1:
        return f"{-(-value * 1000 // 1)}m"  # rounded up, as the API server rounds
    units = _BINARY if binary else _DECIMAL
    for suffix, factor in units.items():
        if value and value % factor == 0:
            return f"{value / factor}{suffix}"
    return str(value)


def canonical_quantity(quantity: str) -> str:
    """Return the canonical form of a quantity. Raises ValueError."""
    return canonical(amount(quantity), binary=quantity.endswith("i"))
