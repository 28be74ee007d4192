"""Upgrades roll a few endpoints at a time (ADR 0013): whose turn it is, and how that is known.

Another version of the operator, root key or default of the chart makes other pods for endpoints
that nobody touched. ``reconcile`` asks here before it applies such a Deployment; one whose turn has
not come stays as it is. What users change is never held up. A slot is given back when the rollout
is through; which are taken is written on the Deployments themselves, so that a restart knows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from endpoint_operator import names
from endpoint_operator.kinds import CONTENT
from endpoint_operator.live import Object, Ref, ref_of

ROLLED_OUT: Final = "NewReplicaSetAvailable"
"""The reason by which a Deployment says that its last change of pods is through."""

_OF_USERS = (names.SPEC_HASH, names.REFERENCED_HASH)


@dataclass(frozen=True)
class Plan:
    """What is to be applied now, and what stays as it is because its turn has not come."""

    desired: Sequence[Object]
    leave: Collection[Ref] = ()

    @property
    def waiting(self) -> bool:
        """Whether something has to wait."""
        return bool(self.leave)


def plan(slots: Slots, endpoint: Ref, live: Object | None, desired: Sequence[Object]) -> Plan:
    """Return what of an endpoint's desired children, of which the Deployment is the last, to apply.

    ``live`` is the Deployment as it is. One that has no ready replica has nothing to lose and waits
    for nobody; one that is rolling for its user is left alone until that is done, out of the line.
    Who has a slot may go on to another version, or back: that may be what mends it.
    """
    *others, deployment = desired
    if live is None:
        return Plan(desired)
    upgrade, done = is_upgrade(live, deployment), is_rolled_out(live)
    if slots.has(endpoint) and (upgrade or _revision(live) == _revision(deployment)):
        return Plan([*others, _marked(deployment)])
    if not upgrade or not live.get("status", {}).get("readyReplicas"):
        return Plan(desired)
    if done and slots.take(endpoint):
        return Plan([*others, _marked(deployment)])
    if not done:
        slots.leave(endpoint)
    kept = [child for child in others if child["kind"] not in CONTENT]
    return Plan(kept, leave=[ref_of(deployment)])


def is_upgrade(live: Object, desired: Object) -> bool:
    """Return whether other pods than before are wanted, and no user wants them.

    Where what was applied is what is wanted, the difference is somebody's edit, which is healed.
    """
    users_want = any(_note(live, key) != _note(desired, key) for key in _OF_USERS)
    edited = _note(live, names.APPLIED_HASH) == _note(desired, names.APPLIED_HASH)
    return not users_want and not edited and _revision(live) != _revision(desired)


def holds_slot(live: Object) -> bool:
    """Return whether a Deployment is in the middle of an upgrade; a restart knows it by this.

    One that somebody paused is not: it would hold up all others for as long as they like.
    """
    mark = _note(live, names.UPGRADE)
    rolls = not is_rolled_out(live) and not live["spec"].get("paused")
    return mark is not None and mark == _revision(live) and rolls


def is_rolled_out(live: Object) -> bool:
    """Return whether the last change of a Deployment's pods is through.

    It stays so when a replica fails later, or one more finds no room. The reason alone is not
    enough: it is of the change before until the first pod is replaced.
    """
    rollout, least = live.get("status", {}), min(live["spec"]["replicas"], 1)
    conditions = rollout.get("conditions", ())
    said = next((each["reason"] for each in conditions if each["type"] == "Progressing"), None)
    seen = rollout.get("observedGeneration", 0) >= live["metadata"]["generation"]
    current = rollout.get("replicas", 0) == rollout.get("updatedReplicas", 0) >= least
    return seen and current and said == ROLLED_OUT


class Slots:
    """The turns that endpoints take; ``most`` of them at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[Ref] = set()
        self._waiting: dict[Ref, None] = {}  # in the order in which they came

    def hold(self, endpoint: Ref) -> None:
        """Have an endpoint hold a slot that it took in another life."""
        self._taken.add(endpoint)

    def has(self, endpoint: Ref) -> bool:
        """Return whether an endpoint has a slot."""
        return endpoint in self._taken

    def take(self, endpoint: Ref) -> bool:
        """Give an endpoint a slot, or a place in the line."""
        if endpoint not in self._taken and len(self._taken) >= self._most:
            self._waiting[endpoint] = None
            return False
        self._taken.add(endpoint)
        self._waiting.pop(endpoint, None)
        return True

    def leave(self, endpoint: Ref) -> tuple[Ref, ...]:
        """Take an endpoint's slot or place back; return who is to ask again, if anybody."""
        self._waiting.pop(endpoint, None)
        self._taken.discard(endpoint)
        return self.next()

    def next(self) -> tuple[Ref, ...]:
        """Return who is first in line for the slots that are free."""
        return tuple(islice(self._waiting, max(0, self._most - len(self._taken))))


def _marked(desired: Object) -> Object:
    notes = desired["metadata"]["annotations"] | {names.UPGRADE: _revision(desired)}
    return desired | {"metadata": desired["metadata"] | {"annotations": notes}}


def _note(obj: Object, key: str) -> str | None:
    note: str | None = obj["metadata"].get("annotations", {}).get(key)
    return note


def _revision(deployment: Object) -> str | None:
    return _note(deployment["spec"]["template"], names.REVISION)
