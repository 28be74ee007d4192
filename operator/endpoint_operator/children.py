"""Bringing an endpoint's children to the desired state: create, apply what differs, prune.

``reconcile`` calls ``converge``; ``apikeys`` makes its one child itself, and prunes here. What is
not known is created without asking, by an apply that changes nothing that exists; only where that
fails it is asked whose the name is (ADR 0009). Nothing is touched that is not the owner's, nothing
is written that does not differ, no number of replicas is set that is somebody else's to set (ADR
0001), no claim is made smaller, and nothing is taken away that a pod of an older spec may still
read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from endpoint_operator import status
from endpoint_operator.api import values
from endpoint_operator.cluster import Cluster
from endpoint_operator.drift import covers
from endpoint_operator.errors import (
    Fault,
    InvalidObjectError,
    NameTakenError,
    OwnerGoneError,
    PredecessorError,
)
from endpoint_operator.kinds import (
    CLAIM,
    CONTENT,
    DEPLOYMENT,
    MANAGED_KINDS,
    READ_BY_PODS,
)
from endpoint_operator.live import Live, Object, Ref, at_version_of, ref_of
from kube_api import Conflict, Forbidden, Invalid

logger = logging.getLogger(__name__)


async def converge(
    cluster: Cluster,
    owner: Live,
    desired: Sequence[Object],
    *,
    leave: Collection[Ref] = (),
) -> list[Live]:
    """Make the owner's children what is desired; return them as they were left.

    ``leave`` names those that stay as they are for now. Raises NameTakenError where a name is
    somebody else's, OwnerGoneError where the owner is known to be gone, and the ApiErrors of
    writes: the children that come before are then done, in the order given, and nothing after.
    """
    claim = Claim(cluster, owner, [ref_of(child) for child in desired])
    kept = {*claim.refs, *leave}
    try:
        left = await _write(claim, desired)
    except (Invalid, Forbidden):
        # or each edit that is refused would leave its configuration, of up to 1 MiB
        await prune(cluster, owner, kept, kinds=CONTENT)
        raise
    await prune(cluster, owner, kept)
    return left


async def _write(claim: Claim, desired: Sequence[Object]) -> list[Live]:
    known = claim.known()
    # a new endpoint's first status write tells as well, and for nothing
    if len(known) < len(desired) and claim.owner.status:
        await require_owner(claim.cluster, claim.owner)
    left: list[Live] = []
    written: list[str] = []
    try:
        for child in desired:
            live = known.get(ref_of(child))
            if live:
                left.append(await _apply_if_different(claim.cluster, child, live))
            else:
                left.append(await _create(child, claim))
            if left[-1] is not live:
                written.append(child["kind"])
    finally:
        if written:  # one line for all: a line costs as much as rendering a child
            logger.info("applied %s", ", ".join(written))
    return left


@dataclass(frozen=True)
class Claim:
    """An owner's claim to the names of its children."""

    cluster: Cluster
    owner: Live
    refs: Sequence[Ref]

    def known(self) -> dict[Ref, Live]:
        """Return those that we know of.

        Raises NameTakenError if some are somebody else's, PredecessorError if they are of an
        endpoint that was deleted.
        """
        seen = {ref: live for ref in self.refs if (live := self.cluster.get(ref))}
        return self._only_ours(seen)

    async def ask(self) -> dict[Ref, Live]:
        """Return all that exist, and ask for those that we don't know of.

        Raises as ``known``, naming everything that stands in the way.
        """
        known = self.known()
        unseen = [ref for ref in self.refs if ref not in known]
        answers = zip(unseen, await asyncio.gather(*map(self.cluster.read, unseen)), strict=True)
        return self._only_ours(known | {ref: live for ref, live in answers if live})

    def _only_ours(self, found: dict[Ref, Live]) -> dict[Ref, Live]:
        taken = [live for live in found.values() if not self._is_ours(live)]
        named = ", ".join(str(live.ref) for live in taken)
        if taken and all(map(self._is_of_predecessor, taken)):
            raise PredecessorError(
                f"{named} is still of the {self.owner.ref.kind} of this name that was deleted; that"
                " goes by itself, and then this one starts"
            )
        if taken:
            raise NameTakenError(
                f"{named} exists and is not of {self.owner.ref}: delete or"
                f" rename it, or choose another name for the {self.owner.ref.kind}"
            )
        return found

    def _is_ours(self, live: Live) -> bool:
        return self.owner.controls(live) or self._was_made_for(live)

    def _is_of_predecessor(self, live: Live) -> bool:
        owner = self.owner.as_owner()
        return live.controller is not None and replace(live.controller, uid=owner.uid) == owner

    def _was_made_for(self, live: Live) -> bool:
        """Return whether an object of ours has only lost its owner, or its label as well."""
        unowned = live.applied and live.controller is None
        return unowned and live.endpoint in ("", self.owner.ref.name)


async def require_owner(cluster: Cluster, owner: Live) -> None:
    """Ask whether the owner still exists before anything is created for it.

    A deletion that the watch has not brought yet would else be answered by children, which the
    garbage collector has to delete.
    """
    current = await cluster.read(owner.ref)
    if current is None or current.uid != owner.uid:
        raise OwnerGoneError(f"{owner.ref} was deleted")


async def _create(child: Object, claim: Claim) -> Live:
    """Create a child that we don't know of; one that was only hidden from us is taken back."""
    try:
        return await claim.cluster.apply(child, over=None)
    except Conflict:
        live = (await claim.ask()).get(ref_of(child))
        if live is None:
            raise
        return await _apply_if_different(claim.cluster, child, live)


async def _apply_if_different(cluster: Cluster, child: Object, live: Live) -> Live:
    seen = live.object
    wanted = _without_replicas(child) if child["kind"] != CLAIM else _fitting(child, seen)
    if covers(seen, wanted):
        return live
    try:
        return await cluster.apply(_keeping_replicas(wanted, live), over=live)
    except Invalid as refused:
        if live.ref.kind in READ_BY_PODS:
            raise
        alone = await _replaced(cluster, wanted, live, refused)
        return await cluster.apply(_keeping_replicas(wanted, alone), over=alone)


async def _replaced(cluster: Cluster, child: Object, live: Live, refused: Invalid) -> Live:
    """Take back a child in which somebody set what can't be beside ours.

    An apply leaves fields of others in place, so that a variable can have two values or a port two
    numbers, and is refused for it. Raises ``refused`` where it is ours that can't be.
    """
    kept = {"replicas": live.replicas} if live.ref.kind == DEPLOYMENT else {}
    try:
        return await cluster.replace_spec(child | {"spec": child["spec"] | kept}, over=live)
    except Invalid:
        raise refused from None


def _without_replicas(child: Object) -> Object:
    if child["kind"] != DEPLOYMENT:
        return child
    spec = {key: value for key, value in child["spec"].items() if key != "replicas"}
    return child | {"spec": spec}


def _fitting(child: Object, seen: Object) -> Object:
    """Return a claim that asks for no less than it has.

    Claims grow, by somebody's hand or under an endpoint before, and the API server refuses to
    shrink them, or to change anything else. Raises InvalidObjectError where that is asked for.
    """
    for key, field in (("accessModes", "accessMode"), ("storageClassName", "storageClassName")):
        wanted, has = child["spec"].get(key), seen["spec"].get(key)
        if wanted is not None and wanted != has:
            text = f"{ref_of(child)} was kept with {key} {has}; ask for that, or delete the claim"
            raise InvalidObjectError([Fault(f"spec.model.cache.{field}", text)])
    sizes = [claim["spec"]["resources"]["requests"]["storage"] for claim in (child, seen)]
    resources = {"requests": {"storage": _larger(*sizes)}}
    return child | {"spec": child["spec"] | {"resources": resources}}


def _larger(wanted: str, seen: str) -> str:
    try:
        return max(wanted, seen, key=values.amount)
    except ValueError:  # a unit that our API has not, such as n
        return seen


def _keeping_replicas(child: Object, live: Live) -> Object:
    """Return what to send for a child, with ``replicas`` where its applied set has that.

    Leaving it out would remove it, and one replica would be left: so the live number is sent,
    together with the version it was seen in, so that a number written meanwhile is not undone (the
    API server answers Conflict).
    """
    if not live.owns_replicas:
        return child
    return at_version_of(live, child | {"spec": child["spec"] | {"replicas": live.replicas}})


async def prune(
    cluster: Cluster, owner: Live, kept: Collection[Ref], *, kinds: Collection[str] = MANAGED_KINDS
) -> None:
    """Delete the owner's other children of these kinds, but for what a pod may still read.

    A claim without an owner is one that is to stay.
    """
    orphans = [live for live in cluster.orphans_of(owner.ref) if live.ref.kind != CLAIM]
    children = [*cluster.owned_by(owner), *orphans]
    workloads = [live for live in children if live.ref.kind == DEPLOYMENT and live.ref in kept]
    for live in children:
        unwanted = live.ref not in kept and live.ref.kind in kinds and not live.deleting
        if unwanted and not _is_read(live, workloads):
            await cluster.delete(live)


def _is_read(live: Live, workloads: Collection[Live]) -> bool:
    """Return whether pods may read an object when a container of theirs starts again.

    Those of the current template read what is named in it; those of one before are gone only when
    the rollout is complete.
    """
    if live.ref.kind not in READ_BY_PODS:
        return False
    mention = f'"{live.ref.name}"'.encode()
    return any(
        mention in workload.wanted or not status.is_complete(workload.object)
        for workload in workloads
    )
