"""What is seen of an endpoint besides its spec: its workload, its pods, its place among the others.

``reconcile`` calls ``observe`` once everything is applied, and hands what it returns to ``status``.
It asks the API server only where a diagnosis needs a pod's events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from endpoint_operator import names, status
from endpoint_operator.claimants import EVERYWHERE, Age
from endpoint_operator.conditions import Finding, no
from endpoint_operator.context import Context
from endpoint_operator.diagnosis import Diagnosis, diagnose
from endpoint_operator.kinds import DEPLOYMENT
from endpoint_operator.live import Live, Object, Ref
from endpoint_operator.policy import allowed_domains
from kube_api import ApiError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """An observation, and after how many seconds time alone could change it."""

    observation: status.Observation
    again_after: float | None


@dataclass(frozen=True)
class Addresses:
    """By what clients are to call an endpoint; ``refused``: hosts that its namespace can't have."""

    names: Sequence[str]
    hosts: Sequence[str] = ()
    refused: Sequence[str] = ()


def workload(context: Context, owner: Live) -> Live | None:
    """Return an endpoint's own Deployment."""
    ref = Ref(DEPLOYMENT, owner.ref.namespace, names.engine_name(owner.ref.name))
    found = context.cluster.get(ref)
    if found is None or owner.controls(found):
        return found
    return found if found.is_orphan and found.endpoint == owner.ref.name else None


async def observe(
    context: Context, owner: Live, addresses: Addresses, *, upgrade_waiting: bool
) -> Seen:
    """Return what is seen of an endpoint that clients are to call by these addresses."""
    found = workload(context, owner)
    deployment = found.object if found else None
    diagnosis = await _diagnose(context, owner.ref, deployment)
    observation = status.Observation(
        deployment=deployment,
        diagnosis=diagnosis,
        routed=_routed(context, owner, addresses),
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


def _routed(context: Context, owner: Live, addresses: Addresses) -> Finding:
    """Say whether requests for the endpoint's names and hosts reach it."""
    wrong = [
        *_taken_names(context, owner, addresses.names),
        *_taken_hosts(context, owner, addresses.hosts),
        *_refused_hosts(context, owner, addresses.refused),
    ]
    if not wrong:
        return status.ROUTE
    return no(wrong[0].reason, " ".join(each.message for each in wrong))


def _taken_names(context: Context, owner: Live, names_of_all: Sequence[str]) -> Iterator[Finding]:
    held = _older_holders(context, owner, owner.ref.namespace, names_of_all)
    if taken := [f"{name} (of {older.name})" for name, older in held]:
        yield no(
            status.NAME_TAKEN,
            f"An older endpoint has the name {', '.join(taken)}: requests for it go there. Choose"
            " another one in spec.model or spec.access.aliases, or call this endpoint by its own"
            " path.",
        )


def _taken_hosts(context: Context, owner: Live, hosts: Sequence[str]) -> Iterator[Finding]:
    held = _older_holders(context, owner, EVERYWHERE, hosts)
    if taken := [f"{host} ({_said_to(owner, older)})" for host, older in held]:
        yield no(
            status.HOST_TAKEN,
            f"An older endpoint has the host {', '.join(taken)}: requests for it go there. Choose"
            " another one in spec.access.hosts.",
        )


def _refused_hosts(context: Context, owner: Live, hosts: Sequence[str]) -> Iterator[Finding]:
    if hosts:
        namespace = owner.ref.namespace
        domains = ", ".join(allowed_domains(namespace, context.settings)) or "none"
        yield no(
            status.HOST_NOT_ALLOWED,
            f"Namespace {namespace} may not have the host {', '.join(hosts)}, or it is the"
            " gateway's own: choose another one in spec.access.hosts, or have an administrator add"
            f" its domain to gateway.hostDomains of the chart. Allowed domains: {domains}.",
        )


def _older_holders(
    context: Context, owner: Live, namespace: str, claimed: Sequence[str]
) -> Iterator[tuple[str, Age]]:
    """Yield what of this an older endpoint has, and which."""
    for name in claimed:
        holder = context.cluster.holder(namespace, name)
        if holder and holder < Age.of(owner):
            yield name, holder


def _said_to(owner: Live, holder: Age) -> str:
    """Name an endpoint to another one: tenants learn nothing of each other."""
    near = holder.namespace == owner.ref.namespace
    return f"endpoint {holder.name}" if near else "another endpoint"
