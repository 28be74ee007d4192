"""Which endpoint of a namespace a name leads to: of all that claim it, the oldest.

``cache`` has one ``Claimants`` and enters every endpoint by the names that its status gives it. The
gateway goes by the same rule (``find_model`` of its ``routing``). Thousands may claim one name, so
others hear of a change only where it is the holder that changed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from endpoint_operator.kinds import INFERENCE_ENDPOINT
from endpoint_operator.live import Live, Ref


class Age(NamedTuple):
    """What endpoints are sorted by, oldest first."""

    born: str
    name: str

    @classmethod
    def of(cls, endpoint: Live) -> Age:
        """Return the age of an endpoint."""
        return cls(endpoint.born, endpoint.ref.name)


class Claimants:
    """Who claims which name, by namespace, and who is to look at its names again."""

    def __init__(self) -> None:
        self._claims: defaultdict[tuple[str, str], set[Age]] = defaultdict(set)
        self._affected: set[Ref] = set()

    def holder(self, namespace: str, name: str) -> Age | None:
        """Return whom a name leads to."""
        return min(self._claims.get((namespace, name), ()), default=None)

    def replace(self, before: Live | None, after: Live | None) -> None:
        """Take note that an endpoint came, changed or went."""
        if before and after and (before.calls, before.born) == (after.calls, after.born):
            return  # most of what is reported
        left, taken = _claims(before), _claims(after)
        for claim in left.keys() | taken.keys():
            if left.get(claim) != taken.get(claim):
                self._change(claim, left.get(claim), taken.get(claim))

    def affected(self) -> set[Ref]:
        """Return, once, the endpoints that have a name whose holder changed."""
        affected, self._affected = self._affected, set()
        return affected

    def _change(self, claim: tuple[str, str], left: Age | None, taken: Age | None) -> None:
        ages = self._claims[claim]
        held = min(ages, default=None)
        if left:
            ages.discard(left)
        if taken:
            ages.add(taken)
        if min(ages, default=None) != held:
            namespace, _ = claim
            others = (age.name for age in ages if age != taken)
            self._affected |= {Ref(INFERENCE_ENDPOINT, namespace, name) for name in others}
        if not ages:
            del self._claims[claim]


def _claims(endpoint: Live | None) -> dict[tuple[str, str], Age]:
    if endpoint is None or not endpoint.calls:
        return {}
    age = Age.of(endpoint)
    return dict.fromkeys(((endpoint.ref.namespace, call) for call in endpoint.calls), age)
