"""What the scheduler says of a pod that fits on no node, as a cause."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from endpoint_operator.diagnosis.causes import (
    INSUFFICIENT_GPU,
    ROLLOUT_WAITING_FOR_GPU,
    UNSCHEDULABLE,
    VOLUME_FAILED,
    Cause,
)
from endpoint_operator.diagnosis.quote import quote

_HEAD: Final = re.compile(r"^\d+/\d+ nodes are available: ")
_COUNT: Final = re.compile(r"^\d+ ")
_VOLUME: Final = re.compile(
    r"persistent ?volume|volume node affinity|volume zone|volume count|\bpvc\(s\)|free storage",
    re.IGNORECASE,
)
_IN_USE: Final = re.compile(r"Multi-Attach|already used by pod|ReadWriteOncePod")


@dataclass(frozen=True)
class Asked:
    """The accelerators that one replica asks for, and whether other replicas hold some.

    What is told of them is as true of a volume that only one node, or pod, can have.

    ``counts``: how many of which extended resource.
    ``kept``: those of the spec before keep theirs until the new one is ready.
    ``draining``: one that stops has them as long as it answers requests.
    """

    counts: Mapping[str, str]
    kept: bool = False
    draining: bool = False

    def words(self, resource: str) -> str:
        """Name one of them as a sentence's beginning: "2 GPUs (nvidia.com/gpu) are asked for"."""
        count = self.counts[resource]
        what, verb = ("GPU", "is") if count == "1" else ("GPUs", "are")
        return f"{count} {what} ({resource}) {verb} asked for"


def unschedulable(message: str, asked: Asked) -> Cause:
    """Return why a pod has no node, from the message of its condition PodScheduled."""
    obstacles = _obstacles(message)
    said = quote("; ".join(obstacles))
    for resource in asked.counts:
        if f"Insufficient {resource}" in obstacles:
            return _no_gpu(said, asked, asked.words(resource))
    if any(map(_VOLUME.search, obstacles)):
        return volume_failed(f"The pod's volume keeps it from every node: {said}.", asked)
    return Cause(
        UNSCHEDULABLE,
        f"No node can run a replica: {said}."
        " Ask for less in spec.resources, look at spec.gpu.products and at the node selector,"
        " affinity and tolerations in spec.podTemplate, or add a node.",
    )


def volume_failed(problem: str, asked: Asked) -> Cause:
    """Return what to do about a volume's problem, which is told in a sentence."""
    if not is_in_use(problem):
        remedy = "Look at the claim: kubectl describe pvc."
    elif asked.kept:
        remedy = (
            "The replica of the spec before keeps it until the new one is ready. Set"
            " spec.rollout.strategy to Replace, which stops the old replica first."
        )
    elif asked.draining:
        remedy = (
            "A stopping replica gives it back when its requests are answered, after"
            " spec.engine.drainTimeout at most."
        )
    else:
        remedy = "Another pod has it: end that one, or take a claim that is ReadWriteMany."
    return Cause(VOLUME_FAILED, f"{problem} {remedy}")


def is_in_use(said: str) -> bool:
    """Return whether a volume is another pod's, and can't be two pods' as they are placed."""
    return bool(_IN_USE.search(said))


def _no_gpu(said: str, asked: Asked, wanted: str) -> Cause:
    if asked.kept:
        return Cause(
            ROLLOUT_WAITING_FOR_GPU,
            f"{wanted} by the new replica and no node has as many free: {said}. The replica of the"
            " spec before keeps its own until the new one is ready. Free GPUs, add a node, or"
            " set spec.rollout.strategy to Replace, which stops the old replica first.",
        )
    if asked.draining:
        return Cause(
            ROLLOUT_WAITING_FOR_GPU,
            f"{wanted} by the new replica and no node has as many free: {said}. A stopping replica"
            " gives its own back when its requests are answered, after spec.engine.drainTimeout"
            " at most.",
        )
    return Cause(
        INSUFFICIENT_GPU,
        f"{wanted} and no node has as many free: {said}."
        " Free some, add a node that has them, or lower spec.gpu.count.",
    )


def _obstacles(message: str) -> list[str]:
    """Return each thing that keeps the pod from some node, once, without how many nodes those are.

    The numbers change with every node that comes or goes, and so does their order.
    """
    first = _HEAD.sub("", message).partition(". ")[0].rstrip(".")
    return sorted({_COUNT.sub("", part) for part in first.split(", ")})
