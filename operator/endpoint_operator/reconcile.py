"""The story of an endpoint: validate, desired, apply, prune, observe, status.

One level-triggered function serves creation, changes, drift, events of children and restarts: it
reads what is, computes what should be, and writes the difference; on a settled endpoint it writes
nothing. ``controller`` calls it, for one endpoint never twice at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from endpoint_operator import keys, names, status
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, parse_endpoint
from endpoint_operator.cache import Live, Object, Ref
from endpoint_operator.children import converge
from endpoint_operator.cluster import DEPLOYMENT
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.desired import (
    EngineDefaults,
    Inputs,
    Recorded,
    desired_objects,
    resolve_image,
)
from endpoint_operator.errors import (
    InvalidObjectError,
    NameTakenError,
    OwnerGoneError,
    RenderError,
)
from endpoint_operator.settings import Settings
from kube_api import Forbidden, Invalid

CONFLICT_CHECK_SECONDS = 30.0
"""How often a taken name is looked at again: objects that aren't ours are not watched."""


@dataclass(frozen=True)
class Verdict:
    """Whether the spec is in force; if not, why, and when to try again."""

    finding: status.Finding
    facts: status.Facts | None = None
    again_after: float | None = None


async def reconcile_endpoint(context: Context, ref: Ref) -> Outcome:
    """Bring an endpoint's children and status to what its spec says. Raises ApiErrors."""
    live = context.cluster.get(ref)
    if live is None or live.deleting:
        return DONE  # its children are the garbage collector's, by their owner reference
    try:
        verdict = await _enforce(context, live)
    except OwnerGoneError:
        return DONE
    await _report(context, live, verdict)
    return Outcome(again_after=verdict.again_after)


async def _enforce(context: Context, live: Live) -> Verdict:
    """Apply the spec, or say why it is not in force; then whatever runs stays as it is."""
    try:
        endpoint = parse_endpoint(live.object)
        facts = _facts(context, endpoint, live)
        desired = desired_objects(endpoint, _inputs(context, endpoint, facts.image))
        await converge(context.cluster, live, desired)
        await _scale(context, endpoint)
    except InvalidObjectError as error:
        return Verdict(status.no(status.INVALID_SPEC, str(error)))
    except NameTakenError as error:
        finding = status.no(status.NAME_CONFLICT, str(error))
        return Verdict(finding, again_after=CONFLICT_CHECK_SECONDS)
    except RenderError as error:
        finding = status.no(status.OPERATOR_FAULT, f"{error}; please report this")
        return Verdict(finding)
    except (Invalid, Forbidden) as error:
        finding = status.no(status.REFUSED_BY_CLUSTER, error.message)
        return Verdict(finding, again_after=CONFLICT_CHECK_SECONDS)
    return Verdict(status.ACCEPTANCE, facts)


def _facts(context: Context, endpoint: InferenceEndpoint, live: Live) -> status.Facts:
    deployment = _own_deployment(context, live)
    annotations = deployment["metadata"].get("annotations", {}) if deployment else None
    recorded = Recorded(annotations, live.status)
    return status.Facts(
        url=_url(context.settings.external_url, endpoint.namespace, endpoint.name),
        served_names=endpoint.spec.model.names,
        image=resolve_image(endpoint, recorded, default=context.settings.default_engine_image),
    )


def _inputs(context: Context, endpoint: InferenceEndpoint, image: str) -> Inputs:
    return Inputs(
        image=image,
        engine_key=keys.engine_key(
            context.root_key, endpoint.uid, endpoint.spec.engine.key_generation
        ),
        gateway_host=context.settings.gateway_host,
        defaults=_engine_defaults(context.settings),
    )


def _engine_defaults(settings: Settings) -> EngineDefaults:
    return EngineDefaults(
        gateway_namespace=settings.release_namespace,
        gateway_labels=settings.gateway_labels,
        network_policy=settings.network_policy,
        scrapers=settings.metrics_scrapers,
        pull_secrets=settings.engine_pull_secrets,
        node_selector=settings.engine_node_selector,
        ca_bundle=settings.engine_ca_bundle,
    )


async def _scale(context: Context, endpoint: InferenceEndpoint) -> None:
    """Write the number of replicas where it differs; here the fixed number is the one writer."""
    live = context.cluster.get(_deployment_of(endpoint.namespace, endpoint.name))
    if live and live.object["spec"]["replicas"] != endpoint.spec.replicas:
        await context.cluster.scale(live, endpoint.spec.replicas)


async def _report(context: Context, live: Live, verdict: Verdict) -> None:
    """Write the endpoint's status, if it says anything new."""
    body = live.object
    computed = status.endpoint_status(
        body,
        status.Observation(_own_deployment(context, live)),
        accepted=verdict.finding,
        facts=verdict.facts,
        now=context.now(),
    )
    if changed := status.changes(body, computed):
        await context.cluster.write_status(live, changed)


def _own_deployment(context: Context, owner: Live) -> Object | None:
    found = context.cluster.get(_deployment_of(owner.ref.namespace, owner.ref.name))
    return found.object if found is not None and owner.controls(found) else None


def _deployment_of(namespace: str, endpoint: str) -> Ref:
    return Ref(DEPLOYMENT, namespace, names.engine_name(endpoint))


def _url(external: str, namespace: str, name: str) -> str:
    if external:
        return f"{external.rstrip('/')}/{namespace}.{name}/v1"
    return f"http://{name}.{namespace}/v1"
