"""From an accepted spec to what its status says of it and what its children are rendered from.

``reconcile`` asks between parsing and rendering. What the spec refers to is looked up here; nothing
is written.
"""

from __future__ import annotations

from endpoint_operator import keys, status
from endpoint_operator.api.v1alpha1 import InferenceEndpoint
from endpoint_operator.conditions import Finding, yes
from endpoint_operator.context import Context
from endpoint_operator.desired import EngineDefaults, Inputs, Recorded, resolve_image
from endpoint_operator.errors import ReferenceNotFoundError
from endpoint_operator.kinds import CONFIG_MAP
from endpoint_operator.live import Live, Object, Ref
from endpoint_operator.settings import Settings


def facts(
    context: Context, endpoint: InferenceEndpoint, live: Live, deployment: Object | None
) -> status.Facts:
    """Return what clients, the gateway and people are told of a spec."""
    spec, settings = endpoint.spec, context.settings
    annotations = deployment["metadata"].get("annotations", {}) if deployment else None
    recorded = Recorded(annotations, live.status)
    return status.Facts(
        url=_url(settings.external_url, live.ref),
        served_names=spec.model.names,
        image=resolve_image(endpoint, recorded, default=settings.default_engine_image),
        adapters=[adapter.name for adapter in spec.model.adapters],
        key_generation=spec.engine.key_generation,
        suspended=spec.suspended,
    )


def acceptance(endpoint: InferenceEndpoint) -> Finding:
    """Say that a spec is in force, and what of it is better mended."""
    warnings = endpoint.spec.warnings
    if not warnings:
        return status.ACCEPTANCE
    return yes(warnings[0][0], " ".join(message for _, message in warnings))


async def inputs(
    context: Context, endpoint: InferenceEndpoint, owner: Ref, *, image: str
) -> Inputs:
    """Return what rendering needs besides the spec. Raises ReferenceNotFoundError and ApiErrors."""
    generation = endpoint.spec.engine.key_generation
    return Inputs(
        image=image,
        engine_key=keys.engine_key(context.root_key, endpoint.uid, generation),
        gateway_host=context.settings.gateway_host,
        defaults=_engine_defaults(context.settings),
        chat_template=await _referenced_template(context, endpoint, owner),
    )


async def _referenced_template(
    context: Context, endpoint: InferenceEndpoint, owner: Ref
) -> str | None:
    """Return the text of the ConfigMap that the spec refers to, from now on whenever it changes."""
    template = endpoint.spec.model.chat_template
    given = template and template.config_map_ref
    if not given:
        context.cluster.release(owner)
        return None
    ref = Ref(CONFIG_MAP, owner.namespace, given.name)
    found = await context.cluster.referenced(ref, by=owner)
    text = found and found.object.get("data", {}).get(given.key)
    if not text:
        missing = f"has no text under the key {given.key}" if found else "does not exist"
        raise ReferenceNotFoundError(
            f"spec.model.chatTemplate.configMapRef: {ref} {missing}; create it, or correct the"
            " reference"
        )
    return str(text)


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
