"""The story of an endpoint: validate, desired, apply, prune, observe, status.

One level-triggered function serves creation, changes, drift, events of children and restarts: it
reads what is, computes what should be, and writes the difference; on a settled endpoint it writes
nothing. ``controller`` calls it, for one endpoint never twice at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from endpoint_operator import facts, names, status
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, parse_endpoint
from endpoint_operator.children import converge
from endpoint_operator.conditions import changes, no
from endpoint_operator.context import Context, Outcome, Verdict
from endpoint_operator.desired import desired_objects
from endpoint_operator.errors import (
    InvalidObjectError,
    NameTakenError,
    OwnerGoneError,
    PredecessorError,
    ReferenceNotFoundError,
    RenderError,
)
from endpoint_operator.live import Live, Ref
from endpoint_operator.notices import event, notices
from endpoint_operator.observation import Addresses, observe, workload
from endpoint_operator.policy import still_allowed
from endpoint_operator.settled import shape
from endpoint_operator.upgrades import holds_slot, plan
from kube_api import Forbidden, Invalid, Unavailable

LOOK_AGAIN_SECONDS: Final = 30.0
"""At first, for what stands in the way and isn't watched: somebody's object, a policy, a quota."""

_REASONS: Final = {
    InvalidObjectError: status.INVALID_SPEC,
    ReferenceNotFoundError: status.REFERENCE_NOT_FOUND,
    NameTakenError: status.NAME_CONFLICT,
    PredecessorError: status.PREDECESSOR_GOING,
    RenderError: status.OPERATOR_FAULT,
}
_REFUSALS: Final[tuple[type[Exception], ...]] = (*_REASONS, Invalid, Forbidden)
"""Why a spec is not in force, by what was raised; the rest is the API server's word."""


async def reconcile_endpoint(context: Context, ref: Ref) -> Outcome:
    """Bring an endpoint's children and status to what its spec says. Raises ApiErrors."""
    live = context.cluster.get(ref)
    if live is None or live.deleting:
        return _gone(context, ref)
    try:
        verdict = await _enforce(context, live)
        outcome = await _report(context, live, verdict)
    except OwnerGoneError:
        return _gone(context, ref)
    if verdict.failure:
        raise verdict.failure
    return outcome


def _gone(context: Context, ref: Ref) -> Outcome:
    """Forget an endpoint; its children are the garbage collector's, by their owner reference."""
    context.settled.forget(ref)
    context.cluster.release(ref)
    return Outcome(then=context.slots.leave(ref))


async def _enforce(context: Context, live: Live) -> Verdict:
    """Apply the spec, or say why it is not in force; then whatever runs stays as it is."""
    referenced = context.cluster.last_referenced(live.ref)
    if known := context.settled.recall(
        live.ref, _shape(context, live, _children(context, live), referenced=referenced)
    ):
        return known
    try:
        return await _apply(context, live)
    except _REFUSALS as error:
        return _refusal(error)
    except Unavailable as error:
        if "failed calling webhook" not in error.message:
            raise
        # it can last, and whoever looks after the webhook has to know
        return Verdict(status.refused(error.message), failure=error)


def _refusal(error: Exception) -> Verdict:
    """Say why a spec is not in force, and look again where no watch reports that it could be."""
    if isinstance(error, Invalid | Forbidden):
        return Verdict(status.refused(error.message), again_after=LOOK_AGAIN_SECONDS)
    unwatched = isinstance(error, NameTakenError | PredecessorError)
    again_after = LOOK_AGAIN_SECONDS if unwatched else None
    return Verdict(no(_REASONS[type(error)], str(error)), again_after=again_after)


async def _apply(context: Context, live: Live) -> Verdict:
    endpoint = parse_endpoint(live.object)
    # first: nothing that is refused below may keep a GPU
    await _scale(context, live, endpoint, only_down=True)
    template = await facts.referenced_template(context, endpoint, live.ref)
    found = workload(context, live)
    deployment = found.object if found else None
    said = facts.facts(context, endpoint, live, deployment)
    inputs = facts.inputs(context, endpoint, image=said.image, chat_template=template.text)
    planned = plan(context.slots, live.ref, deployment, desired_objects(endpoint, inputs))
    left = await converge(context.cluster, live, planned.desired, leave=planned.leave)
    await _scale(context, live, endpoint)
    verdict = Verdict(facts.acceptance(endpoint), said, upgrade_waiting=planned.waiting)
    # of what was compared, not of what is there by now: that has been looked at by nobody
    compared = _shape(context, live, left, referenced=template.source)
    context.settled.remember(live.ref, compared, verdict)
    return verdict


def _children(context: Context, live: Live) -> list[Live]:
    return [*context.cluster.owned_by(live), *context.cluster.orphans_of(live.ref)]


def _shape(
    context: Context, live: Live, children: Iterable[Live], *, referenced: Live | None
) -> int:
    return shape(live, children, referenced=referenced, root_key=context.root_key)


async def _scale(
    context: Context, live: Live, endpoint: InferenceEndpoint, *, only_down: bool = False
) -> None:
    """Write the number of replicas where it differs; here the fixed number is the one writer."""
    wanted = 0 if endpoint.spec.suspended else endpoint.spec.replicas
    deployment = workload(context, live)
    if deployment is None or wanted == deployment.replicas:
        return
    if wanted < deployment.replicas or not only_down:
        await context.cluster.scale(deployment, wanted)


async def _report(context: Context, live: Live, verdict: Verdict) -> Outcome:
    """Write the endpoint's status, if it says anything new; return what that leaves to be done."""
    said = verdict.facts
    seen = await observe(
        context, live, _addresses(live, said), upgrade_waiting=verdict.upgrade_waiting
    )
    body, now = live.object, context.now()
    before = still_allowed(live.status, live.ref.namespace, context.settings)
    computed = status.endpoint_status(
        body | {"status": before}, seen.observation, accepted=verdict.finding, facts=said, now=now
    )
    changed = changes(body, computed)
    if changed and await context.cluster.write_status(live, changed):
        instance = context.settings.identity or names.MANAGER
        for place, notice in enumerate(notices(live.status, computed)):
            at = context.clock() + place / 1e6  # each of its own, in their order
            context.cluster.post(event(body, notice, at=at, instance=instance))
    pauses = [pause for pause in (verdict.again_after, seen.again_after) if pause is not None]
    return Outcome(
        again_after=min(pauses, default=None),
        refused=verdict.again_after is not None,
        then=_turn_over(context, live, seen.observation),
    )


def _addresses(live: Live, said: status.Facts | None) -> Addresses:
    """Return by what clients are to call an endpoint: by what was accepted last, if not by this."""
    if said is None:
        return Addresses(live.calls, live.hosts)
    return Addresses(
        names=(live.ref.name, *said.served_names, *said.adapters, *said.access.get("aliases", ())),
        hosts=said.access.get("hosts", ()),
        refused=said.refused_hosts,
    )


def let_go(context: Context, ref: Ref) -> None:
    """Give back the slot of an endpoint whose turn has come to nothing: its pods don't roll."""
    live = context.cluster.get(ref)
    deployment = workload(context, live) if live else None
    if deployment is None or not holds_slot(deployment.object):
        context.slots.leave(ref)


def _turn_over(context: Context, live: Live, seen: status.Observation) -> tuple[Ref, ...]:
    """Give back the slot of an endpoint that is upgraded; return whose turn it is then."""
    rolling = seen.deployment is not None and holds_slot(seen.deployment)
    stays = rolling or seen.upgrade_waiting
    return context.slots.next() if stays else context.slots.leave(live.ref)
