"""Bringing an owner's children to the desired state: claim, apply what differs, prune.

``reconcile`` and ``apikeys`` call ``converge``. It touches nothing before every name is known to be
free or ours, writes only what differs, never sets a number of replicas that is somebody else's to
set (ADR 0001), and never takes away what a pod of an older spec may still read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence

from endpoint_operator import names, status
from endpoint_operator.cache import Live, Object, Ref, ref_of
from endpoint_operator.cluster import CONFIG_MAP, DEPLOYMENT, INFERENCE_ENDPOINT, Cluster
from endpoint_operator.drift import covers
from endpoint_operator.errors import NameTakenError, OwnerGoneError


async def converge(
    cluster: Cluster, owner: Live, desired: Sequence[Object], *, adopt: Collection[Ref] = ()
) -> None:
    """Make the owner's children what is desired; ``adopt`` names more objects that are its own.

    Raises NameTakenError, with nothing touched, where a name is somebody else's; OwnerGoneError
    where the owner is known to be gone; and the ApiErrors of writes, with a part of it done.
    """
    found = await claim(cluster, owner, desired, adopt=adopt)
    for child in desired:
        await _apply_if_different(cluster, child, found.get(ref_of(child)))
    await _prune(cluster, owner, {ref_of(child) for child in desired})


async def claim(
    cluster: Cluster, owner: Live, desired: Sequence[Object], *, adopt: Collection[Ref] = ()
) -> dict[Ref, Live]:
    """Return the children that exist; every other name is free.

    Raises NameTakenError naming all objects that exist and aren't ours.
    """
    refs = [ref_of(child) for child in desired]
    unseen = [ref for ref in refs if cluster.get(ref) is None]
    if unseen:
        await _require(cluster, owner)
    asked = dict(zip(unseen, await asyncio.gather(*map(cluster.read, unseen)), strict=True))
    found = {ref: live for ref in refs if (live := asked.get(ref) or cluster.get(ref))}
    taken = [
        ref
        for ref, live in found.items()
        if not (owner.controls(live) or ref in adopt or _was_made_for(owner, live))
    ]
    if taken:
        raise NameTakenError(
            f"{', '.join(map(str, taken))} exists and is not of {owner.ref}: delete or rename it,"
            f" or choose another name for the {owner.ref.kind}"
        )
    return found


def _was_made_for(owner: Live, live: Live) -> bool:
    """Return whether an object has only lost its owner: we applied it, for an endpoint so named."""
    labels = live.object["metadata"].get("labels", {})
    made = live.applied and labels.get(names.ENDPOINT) == owner.ref.name
    return made and live.controller is None and owner.ref.kind == INFERENCE_ENDPOINT


async def _require(cluster: Cluster, owner: Live) -> None:
    """Ask whether the owner still exists before anything is created for it.

    A deletion that kopf's watch missed would else be answered by children which the garbage
    collector deletes and we create, for ever.
    """
    current = await cluster.read(owner.ref)
    if current is None or current.uid != owner.uid:
        raise OwnerGoneError(f"{owner.ref} was deleted")


async def _apply_if_different(cluster: Cluster, child: Object, live: Live | None) -> None:
    if live is None:
        # somebody may have taken the name since it was free: then we look again
        await cluster.apply(child, force=False)
        return
    wanted = _without_replicas(child)
    if not covers(live.object, wanted):
        await cluster.apply(_keeping_replicas(wanted, live))


def _without_replicas(child: Object) -> Object:
    if child["kind"] != DEPLOYMENT:
        return child
    spec = {key: value for key, value in child["spec"].items() if key != "replicas"}
    return child | {"spec": spec}


def _keeping_replicas(child: Object, live: Live) -> Object:
    """Return what to send for a child that exists.

    As long as our applied set has ``replicas``, leaving it out would remove it and one replica
    would be left: then the live number is sent, together with the version it was seen in, so
    that a number written meanwhile is not undone (the API server answers Conflict).
    """
    if not live.owns_replicas:
        return child
    version = {"resourceVersion": live.object["metadata"]["resourceVersion"]}
    return child | {
        "metadata": child["metadata"] | version,
        "spec": child["spec"] | {"replicas": live.object["spec"]["replicas"]},
    }


async def _prune(cluster: Cluster, owner: Live, wanted: set[Ref]) -> None:
    rolling = not all(map(status.is_complete, _deployments(cluster, wanted)))
    for live in cluster.owned_by(owner):
        # until the last pod of the spec before is gone, its container may start again and read it
        in_use = rolling and live.ref.kind == CONFIG_MAP
        if live.ref not in wanted and not live.deleting and not in_use:
            await cluster.delete(live)


def _deployments(cluster: Cluster, wanted: set[Ref]) -> Iterator[Object]:
    for ref in wanted:
        if ref.kind == DEPLOYMENT and (live := cluster.get(ref)):
            yield live.object
