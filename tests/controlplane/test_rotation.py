"""How a key is replaced: step by step, with no moment at which a client's key is not valid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from endpoint_operator import rotation
from endpoint_operator.api.apikey import RotationSpec
from endpoint_operator.keys import Held
from endpoint_operator.rotation import HANDOVER_SECONDS, Moment, advance

NOW = 1000.0
LATER = NOW + HANDOVER_SECONDS
HOUR = 3600.0

IN_USE = Held("old", rotation="1")
MADE = replace(IN_USE, upcoming="new")
UPCOMING = replace(MADE, upcoming_from=LATER)
ROTATED = Held("new", "old", LATER + HOUR, rotation="2")

WANTED = RotationSpec(id="2", overlap="1h")
AT_ONCE = RotationSpec(id="2", overlap="0s")
AGAIN = RotationSpec(id="3", overlap="1h")


def at(now: float, *, known: Collection[str] = (), used: bool = True) -> Moment:
    return Moment(now, known=lambda key: key in known, used=used, fresh=lambda: "fresh")


STEPS = {
    "the first key": (Held(), None, at(NOW), Held("fresh")),
    "the first key of a rotation": (Held(), WANTED, at(NOW), Held("fresh", rotation="2")),
    "nothing to do": (IN_USE, RotationSpec(id="1"), at(NOW), IN_USE),
    "no rotation any more": (IN_USE, None, at(NOW), IN_USE),
    "a first rotation": (
        Held("old", rotation=""),
        WANTED,
        at(NOW),
        Held("old", upcoming="fresh", rotation=""),
    ),
    "a change": (IN_USE, WANTED, at(NOW), replace(MADE, upcoming="fresh")),
    "the new one is not known yet": (MADE, WANTED, at(NOW + 99), MADE),
    "the new one has just been listed": (MADE, WANTED, at(NOW, known=["new"]), UPCOMING),
    "the new one is listed no more": (UPCOMING, WANTED, at(LATER), MADE),
    "known, but not to every gateway": (UPCOMING, WANTED, at(LATER - 1, known=["new"]), UPCOMING),
    "handed over": (UPCOMING, WANTED, at(LATER, known=["new"]), ROTATED),
    "handed over without overlap": (
        UPCOMING,
        AT_ONCE,
        at(LATER, known=["new"]),
        Held("new", previous_until=LATER, rotation="2"),
    ),
    "another change before that": (
        UPCOMING,
        AGAIN,
        at(LATER, known=["new"]),
        replace(ROTATED, rotation="3"),
    ),
    "taken back before that": (UPCOMING, RotationSpec(id="1"), at(NOW), IN_USE),
    "removed before that": (UPCOMING, None, at(NOW), IN_USE),
    "during the overlap": (ROTATED, WANTED, at(LATER + HOUR - 1), ROTATED),
    "after the overlap": (
        ROTATED,
        WANTED,
        at(LATER + HOUR),
        Held("new", previous_until=LATER + HOUR, rotation="2"),
    ),
    "a change during the overlap waits": (ROTATED, AGAIN, at(LATER + 9), ROTATED),
    "but not if no overlap is wanted": (
        ROTATED,
        RotationSpec(id="3", overlap="0s"),
        at(LATER, known=["new", "old"]),
        replace(ROTATED, upcoming="fresh"),
    ),
    "a key that nobody can use is replaced at once": (
        IN_USE,
        WANTED,
        at(NOW, used=False),
        Held("fresh", "old", NOW + HOUR, rotation="2"),
    ),
    "an id that got lost": (Held("old"), WANTED, at(NOW), Held("old", rotation="2")),
    "a key that got lost": (
        replace(ROTATED, current=""),
        WANTED,
        at(NOW),
        replace(ROTATED, current="fresh"),
    ),
}


@pytest.mark.parametrize(("held", "wanted", "moment", "expected"), STEPS.values(), ids=STEPS)
def test_a_step(held: Held, wanted: RotationSpec | None, moment: Moment, expected: Held) -> None:
    assert advance(held, wanted, moment) == expected


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (ROTATED, AGAIN, True),
        (ROTATED, WANTED, False),
        (ROTATED, None, False),
        (IN_USE, WANTED, False),
        (UPCOMING, WANTED, False),
    ],
)
def test_a_rotation_waits_for_the_overlap_of_the_last(
    held: Held, wanted: RotationSpec | None, *, expected: bool
) -> None:
    assert rotation.waits(held, wanted) is expected
