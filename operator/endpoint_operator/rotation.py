"""How the key of an ApiKey is replaced, one step at a time; pure.

``apikeys`` asks for the next step, writes it into the Secret and asks again: each step is one write
of one Secret, so an operator that is killed between two goes on where it was. A new key is in the
Secret beside the one in use, then listed, and from then on has three seconds to get to all gateways
before clients can find it under ``api-key``; both are valid until the overlap ends (ADR 0011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Final

from endpoint_operator.api import values
from endpoint_operator.api.apikey import RotationSpec
from endpoint_operator.keys import Held

HANDOVER_SECONDS: Final = 3.0
"""How long a new key is kept back: within two seconds every gateway knows a change."""


@dataclass(frozen=True)
class Moment:
    """What a step depends on besides the keys.

    ``now`` is in seconds since 1970. ``known`` says whether gateways are told of a key. ``used``:
    there may be clients with a key that is valid, for whom there must be no gap. ``fresh`` makes a
    key.
    """

    now: float
    known: Callable[[str], bool]
    used: bool
    fresh: Callable[[], str]


def advance(held: Held, wanted: RotationSpec | None, moment: Moment) -> Held:
    """Return what the Secret of an ApiKey should hold now."""
    held = _without_the_ended(held, moment.now)
    asked = wanted.id if wanted else held.rotation
    if not held.current:
        return replace(held, current=moment.fresh(), rotation=asked)
    if held.rotation is None:
        # nothing says what the key was made for: that is no reason to make another one
        return replace(held, rotation=asked)
    if wanted is None or asked == held.rotation:
        return replace(held, upcoming="", upcoming_from=inf)
    return _rotate(held, wanted, moment)


def waits(held: Held, wanted: RotationSpec | None) -> bool:
    """Return whether a rotation has not begun, because the overlap of the last one runs."""
    asked = wanted is not None and wanted.id != held.rotation
    return asked and bool(held.previous) and not held.upcoming


def _rotate(held: Held, wanted: RotationSpec, moment: Moment) -> Held:
    overlap = values.seconds(wanted.overlap)
    if held.previous and overlap:
        return held  # it was promised until then; who can't wait asks for no overlap
    if moment.used and not moment.known(held.upcoming):
        return replace(held, upcoming=held.upcoming or moment.fresh(), upcoming_from=inf)
    if moment.used and held.upcoming_from == inf:
        return replace(held, upcoming_from=ceil(moment.now + HANDOVER_SECONDS))
    if moment.used and moment.now < held.upcoming_from:
        return held
    return Held(
        current=held.upcoming or moment.fresh(),
        previous=held.current if overlap else "",
        previous_until=ceil(moment.now + overlap),
        rotation=wanted.id,
    )


def _without_the_ended(held: Held, now: float) -> Held:
    return replace(held, previous="") if held.previous_until <= now else held
