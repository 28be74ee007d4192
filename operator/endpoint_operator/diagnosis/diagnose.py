"""The order in which facts count: what keeps pods from being made, then the newest failing pod."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from endpoint_operator.diagnosis import sandbox
from endpoint_operator.diagnosis.causes import (
    EVICTED,
    NODE_LOST,
    POD_START_FAILED,
    ROLLOUT_PAUSED,
    STARTUP_TIMEOUT,
    Cause,
    Diagnosis,
    Object,
)
from endpoint_operator.diagnosis.containers import cause_in
from endpoint_operator.diagnosis.pods import Pod, Template
from endpoint_operator.diagnosis.quote import quote
from endpoint_operator.diagnosis.refusals import refusal
from endpoint_operator.diagnosis.scheduling import Asked, unschedulable

SUFFIX: Final = 5
"""Characters at the end of a pod's name by which it is told from others of its ReplicaSet."""

_REFUSED: Final = re.compile(r"^pods \"([^\"]+)\" is forbidden")


def diagnose(
    deployment: Object,
    pods: Sequence[Object],
    *,
    now: str,
    warnings: Sequence[Object] | None = None,
) -> Diagnosis:
    """Return what is wrong with the pods of a Deployment that is not complete.

    ``pods`` are all pods of the endpoint, with metadata, status and spec.nodeName. ``now`` is in
    RFC 3339. ``warnings`` are the Warning events (v1) of the pod that an answer before asked for:
    with them, no answer asks again.
    """
    template = Template(deployment)
    seen = [Pod(pod) for pod in pods]
    current = sorted(filter(template.made, seen), key=lambda pod: pod.age_key, reverse=True)
    asked = _asked(template, seen)
    diagnosis = Diagnosis(next(_causes(template, current, asked), None))
    if diagnosis.cause is None:
        diagnosis = sandbox.look(current, asked, now=now, warnings=warnings)
    if diagnosis.cause is None and _is_late(template):
        diagnosis = replace(diagnosis, cause=_TOO_LATE)
    return replace(diagnosis, started=any(pod.engine_started for pod in current))


def _causes(template: Template, current: Sequence[Pod], asked: Asked) -> Iterator[Cause]:
    """Yield what is wrong, what counts most first."""
    failure = template.condition("ReplicaFailure").get("message")
    if failure and _is_of_current(failure, current):
        yield refusal(failure)
    for pod in current:
        if cause := _cause_of(pod, template, asked):
            yield cause
    if template.paused:
        yield Cause(
            ROLLOUT_PAUSED,
            "Somebody has paused the Deployment, so that replicas of the spec before stay: kubectl"
            f" rollout resume deployment/{template.deployment['metadata']['name']}.",
        )
    if not any(pod.ready for pod in current):
        yield from (_end(pod) for pod in current if pod.over and pod.status.get("reason"))


def _is_of_current(failure: str, current: Sequence[Pod]) -> bool:
    """Return whether it is a pod of the current template that is refused.

    A Deployment keeps telling of one of the template before until the new ones are ready. Pods of
    one template have one name but for its end.
    """
    refused = _REFUSED.search(failure)
    if refused is None or not current:
        return True
    return any(pod.name[:-SUFFIX] == refused[1][:-SUFFIX] for pod in current)


def _cause_of(pod: Pod, template: Template, asked: Asked) -> Cause | None:
    """Return what is wrong with a pod that may still run."""
    if pod.ready or pod.over:
        return None
    scheduled = pod.condition("PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("message"):
        return unschedulable(scheduled["message"], asked)
    if pod.lost:
        return _LOST
    return cause_in(pod, template)


def _asked(template: Template, seen: Sequence[Pod]) -> Asked:
    """Return the accelerators of a replica, and who else of the endpoint holds some."""
    others = [pod for pod in seen if pod.holds_node and not template.made(pod)]
    return Asked(
        template.accelerators,
        kept=template.surges and any(not pod.deleting for pod in others),
        draining=any(pod.deleting for pod in others),
    )


def _end(pod: Pod) -> Cause:
    """Return why the kubelet has ended a pod, or has never let it begin."""
    reason: str = pod.status["reason"]
    # the rest of it are amounts, which every eviction has others of
    said = quote(pod.status.get("message", "").partition(". ")[0]).rstrip(".")
    if reason != EVICTED:
        return Cause(
            POD_START_FAILED,
            f"A node has turned a replica away ({reason}): {said}. Where it goes on, look at the"
            " node and its device plugin: kubectl describe nodes.",
        )
    return Cause(
        EVICTED,
        f"A node has evicted a replica: {said}. If it is storage that ran out, keep the model in a"
        " volume (spec.model.cache); if it is memory, raise spec.resources.requests.memory.",
    )


def _is_late(template: Template) -> bool:
    return template.condition("Progressing").get("reason") == "ProgressDeadlineExceeded"


_LOST = Cause(
    NODE_LOST,
    "The node of a replica does not answer. Kubernetes replaces the replica after some minutes,"
    " if another node can run it; bring the node back or delete it: kubectl get nodes.",
)

_TOO_LATE = Cause(
    STARTUP_TIMEOUT,
    "No new replica became ready within spec.startupTimeout and ten minutes for scheduling and"
    " pulling the image. Raise spec.startupTimeout if it only needs longer; else look at the pods:"
    " kubectl describe pods.",
)
