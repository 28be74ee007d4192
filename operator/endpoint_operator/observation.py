"""What is seen of an endpoint besides its spec: its workload, its pods, its place among the others.

``reconcile`` calls ``observe`` once everything is applied, and hands what it returns to ``status``.
It asks the API server only where a diagnosis needs a pod's events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from endpoint_operator import names, status
from endpoint_operator.claimants import Age
from endpoint_operator.conditions import Finding, no
from endpoint_operator.context import Context
from endpoint_operator.diagnosis import Diagnosis, diagnose
from endpoint_operator.kinds import DEPLOYMENT
from endpoint_operator.live import Live, Object, Ref
from kube_api import ApiError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """An observation, and after how many seconds time alone could change it."""

    observation: status.Observation
    again_after: float | None


def workload(context: Context, owner: Live) -> Live | None:
    """Return an endpoint's own Deployment."""
    ref = Ref(DEPLOYMENT, owner.ref.namespace, names.engine_name(owner.ref.name))
    found = context.cluster.get(ref)
    if found is None or owner.controls(found):
        return found
    return found if found.is_orphan and found.endpoint == owner.ref.name else None


async def observe(
    context: Context, owner: Live, calls: Iterable[str], *, upgrade_waiting: bool
) -> Seen:
    """Return what is seen of an endpoint that clients are to call by these names."""
    found = workload(context, owner)
    deployment = found.object if found else None
    diagnosis = await _diagnose(context, owner.ref, deployment)
    observation = status.Observation(
        deployment=deployment,
        diagnosis=diagnosis,
        routed=_routed(context, owner, calls),
        upgrade_waiting=upgrade_waiting,
    )
    return Seen(observation, diagnosis.again_after)


async def _diagnose(context: Context, endpoint: Ref, deployment: Object | None) -> Diagnosis:
    if deployment is None or status.is_complete(deployment):
        return status.NOTHING_WRONG
    pods = [pod.object for pod in context.cluster.pods_of(endpoint) if _is_replica(pod)]
    now = context.now()
    found = diagnose(deployment, pods, now=now)
    if found.ask is None:
        return found
    try:
        warnings = await context.cluster.warnings_of(found.ask)
    except ApiError as error:  # all else that is known is to be said nevertheless
        logger.warning("what was reported of a pod of %s is not known: %s", endpoint, error)
        warnings = []
    return diagnose(deployment, pods, now=now, warnings=warnings)


def _is_replica(pod: Live) -> bool:
    """Return whether the Deployment made a pod; somebody's own with our labels is none of ours."""
    made_by = names.engine_name(pod.endpoint)
    return pod.controller is not None and pod.controller.name.startswith(f"{made_by}-")


def _routed(context: Context, owner: Live, calls: Iterable[str]) -> Finding:
    """Say whether requests for the endpoint's names reach it."""
    age = Age.of(owner)
    holders = ((call, context.cluster.holder(owner.ref.namespace, call)) for call in calls)
    taken = [f"{call} (of {older.name})" for call, older in holders if older and older < age]
    if not taken:
        return status.ROUTE
    return no(
        status.NAME_TAKEN,
        f"An older endpoint has the name {', '.join(taken)}: requests for it go there. Choose"
        " another one in spec.model, or call this endpoint by its own path.",
    )
