"""Which endpoint a name or a host leads to: of all that claim it, the oldest.

Names are claimed within a namespace, hosts in the whole cluster. ``cache`` has one ``Claimants``
and enters every endpoint by what its status gives it. The gateway goes by the same rule (``age`` of
its ``catalog``). Thousands may claim one name, so others hear of a change only where it is the
holder that changed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from endpoint_operator.kinds import INFERENCE_ENDPOINT
from endpoint_operator.live import Live, Ref


class Age(NamedTuple):
    """What endpoints are sorted by, oldest first."""

    born: str
    namespace: str
    name: str

    @classmethod
    def of(cls, endpoint: Live) -> Age:
        """Return the age of an endpoint."""
        return cls(endpoint.born, endpoint.ref.namespace, endpoint.ref.name)


Claim = tuple[str, str]
EVERYWHERE: Final = ""
"""In place of the namespace: what is claimed in the whole cluster, a host."""


class Claimants:
    """Who claims which name or host, and who is to look at its own again."""

    def __init__(self) -> None:
        self._claims: defaultdict[Claim, set[Age]] = defaultdict(set)
        self._affected: set[Ref] = set()

    def holder(self, namespace: str, name: str) -> Age | None:
        """Return whom a name of a namespace leads to, or a host, which is of EVERYWHERE."""
        return min(self._claims.get((namespace, name), ()), default=None)

    def replace(self, before: Live | None, after: Live | None) -> None:
        """Take note that an endpoint came, changed or went."""
        left, taken = _claims(before), _claims(after)
        for claim in left.keys() | taken.keys():
            if left.get(claim) != taken.get(claim):
                self._change(claim, left.get(claim), taken.get(claim))

    def affected(self) -> set[Ref]:
        """Return, once, the endpoints that have a name or host whose holder changed."""
        affected, self._affected = self._affected, set()
        return affected

    def _change(self, claim: Claim, left: Age | None, taken: Age | None) -> None:
        ages = self._claims[claim]
        held = min(ages, default=None)
        if left:
            ages.discard(left)
        if taken:
            ages.add(taken)
        if min(ages, default=None) != held:
            others = (age for age in ages if age != taken)
            self._affected |= {Ref(INFERENCE_ENDPOINT, age.namespace, age.name) for age in others}
        if not ages:
            del self._claims[claim]


def _claims(endpoint: Live | None) -> dict[Claim, Age]:
    if endpoint is None or not endpoint.calls:
        return {}
    names = ((endpoint.ref.namespace, call) for call in endpoint.calls)
    hosts = ((EVERYWHERE, host) for host in endpoint.hosts)
    return dict.fromkeys((*names, *hosts), Age.of(endpoint))
