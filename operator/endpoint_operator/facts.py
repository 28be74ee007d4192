"""From an accepted spec to what its status says of it and what its children are rendered from.

``reconcile`` asks between parsing and rendering. What the spec refers to is looked up here; nothing
is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from endpoint_operator import keys, status
from endpoint_operator.api.v1alpha1 import InferenceEndpoint
from endpoint_operator.conditions import Finding, yes
from endpoint_operator.context import Context
from endpoint_operator.desired import EngineDefaults, Inputs, Recorded, resolve_image
from endpoint_operator.errors import ReferenceNotFoundError
from endpoint_operator.kinds import CONFIG_MAP
from endpoint_operator.live import Live, Object, Ref
from endpoint_operator.policy import policy
from endpoint_operator.settings import Settings


def facts(
    context: Context, endpoint: InferenceEndpoint, live: Live, deployment: Object | None
) -> status.Facts:
    """Return what clients, the gateway and people are told of a spec."""
    spec, settings = endpoint.spec, context.settings
    annotations = deployment["metadata"].get("annotations", {}) if deployment else None
    recorded = Recorded(annotations, live.status)
    told = policy(spec.access, live.ref.namespace, settings)
    return status.Facts(
        url=_url(settings.external_url, live.ref),
        served_names=spec.model.names,
        image=resolve_image(endpoint, recorded, default=settings.default_engine_image),
        adapters=[adapter.name for adapter in spec.model.adapters],
        key_generation=spec.engine.key_generation,
        suspended=spec.suspended,
        access=told.access,
        refused_hosts=told.refused_hosts,
    )


def acceptance(endpoint: InferenceEndpoint) -> Finding:
    """Say that a spec is in force, and what of it is better mended."""
    warnings = endpoint.spec.warnings
    if not warnings:
        return status.ACCEPTANCE
    return yes(warnings[0][0], " ".join(message for _, message in warnings))


def inputs(
    context: Context, endpoint: InferenceEndpoint, *, image: str, chat_template: str | None
) -> Inputs:
    """Return what rendering needs besides the spec."""
    generation = endpoint.spec.engine.key_generation
    return Inputs(
        image=image,
        engine_key=keys.engine_key(context.root_key, endpoint.uid, generation),
        gateway_host=context.settings.gateway_host,
        defaults=_engine_defaults(context.settings),
        chat_template=chat_template,
    )


@dataclass(frozen=True)
class Template:
    """The text of a chat template, and the object that it is of; both None where there is none."""

    text: str | None = None
    source: Live | None = None


async def referenced_template(context: Context, endpoint: InferenceEndpoint, by: Ref) -> Template:
    """Return what the spec refers to, and have ``by`` woken from now on whenever it changes.

    Raises ReferenceNotFoundError and ApiErrors.
    """
    template = endpoint.spec.model.chat_template
    given = template.config_map_ref if template else None
    if given is None:
        context.cluster.release(by)
        return Template()
    ref = Ref(CONFIG_MAP, by.namespace, given.name)
    found = await context.cluster.referenced(ref, by=by)
    if found is None:
        raise _not_found(f"{ref} does not exist")
    text = found.object.get("data", {}).get(given.key)
    if not text:
        raise _not_found(f"{ref} has no text under the key {given.key}")
    return Template(text, found)


def _not_found(what: str) -> ReferenceNotFoundError:
    return ReferenceNotFoundError(
        f"spec.model.chatTemplate.configMapRef: {what}; create it, or correct the reference"
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


def _url(external: str, endpoint: Ref) -> str:
    if external:
        return f"{external.rstrip('/')}/{endpoint.namespace}.{endpoint.name}/v1"
    return f"http://{endpoint.name}.{endpoint.namespace}/v1"
