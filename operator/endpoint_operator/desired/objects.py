"""The list of an endpoint's children, complete and in order of dependence.

Children that others refer to come first, so that no pod waits for its Secret. Owner, labels and
the applied-hash annotation are put on here, in one place, on fresh data.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, InferenceEndpointSpec
from endpoint_operator.desired import vllm, workload
from endpoint_operator.desired.digests import digest
from endpoint_operator.desired.render import render

Object = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What rendering needs besides the endpoint."""

    image: str
    engine_key: str = field(repr=False)
    gateway_host: str


@dataclass(frozen=True)
class Recorded:
    """What earlier reconciles wrote down; ``annotations`` is None where no Deployment exists."""

    annotations: Mapping[str, str] | None
    status: Mapping[str, Any]


def desired_objects(endpoint: InferenceEndpoint, inputs: Inputs) -> list[Object]:
    """Return the children of an endpoint: Secret, ConfigMap, both Services, Deployment.

    The Deployment has ``spec.replicas``; whether it is sent is for the applier to decide, and it
    is not part of the applied-hash. Raises RenderError where a fault of ours makes that impossible.
    """
    config = {names.CONFIG_FIELD: vllm.config_file(endpoint.spec.engine.config)}
    common = {
        "name": endpoint.name,
        "engine_name": names.engine_name(endpoint.name),
        "config_name": names.config_name(endpoint.name, digest(config)),
        "namespace": endpoint.namespace,
        "selector": names.selector_labels(endpoint.name),
    }
    labels = names.child_labels(endpoint.name)
    children = [
        render(
            "engine-secret", **common, data={names.ENGINE_KEY_FIELD: _base64(inputs.engine_key)}
        ),
        render("config", **common, data=config),
        render("engine-service", **common, port=names.ENGINE_PORT),
        render("gateway-service", **common, port=names.GATEWAY_PORT, host=inputs.gateway_host),
        render("deployment", **common, labels=labels, **_deployment(endpoint.spec, inputs)),
    ]
    return [_owned(child, endpoint) for child in children]


def resolve_image(endpoint: InferenceEndpoint, recorded: Recorded, *, default: str) -> str:
    """Return the engine's image: the user's, else the recorded one while the spec is unchanged.

    An operator upgrade with another default must not roll engines that nobody touched. The
    Deployment has spec and image from one write; where somebody deleted it, the status counts.
    """
    if endpoint.spec.engine.image:
        return endpoint.spec.engine.image
    if recorded.annotations is None:
        unchanged = recorded.status.get("observedGeneration") == endpoint.generation
        image = recorded.status.get("image")
    else:
        unchanged = recorded.annotations.get(names.SPEC_HASH) == spec_hash(endpoint.spec)
        image = recorded.annotations.get(names.DEFAULT_IMAGE)
    return (image if unchanged else None) or default


def spec_hash(spec: InferenceEndpointSpec) -> str:
    """Return a digest of what the user set, apart from the number of replicas.

    Scaling is not a change that may bring a new default image; fields at their defaults don't
    count, so that a new version of the API with more fields doesn't look like a change.
    """
    return digest(spec.model_dump(mode="json", exclude_defaults=True, exclude={"replicas"}))


def _deployment(spec: InferenceEndpointSpec, inputs: Inputs) -> dict[str, Any]:
    return {
        "replicas": spec.replicas,
        "image": inputs.image,
        "arguments": vllm.arguments(spec),
        "environment": vllm.environment(),
        "resources": workload.resources(spec),
        "tolerations": workload.tolerations(spec.gpu.count),
        "shared_memory": str(workload.shared_memory_bytes(spec.gpu.count) // workload.GIB) + "Gi",
        "budget": workload.budget(spec),
        "probe_period": workload.PROBE_PERIOD_SECONDS,
        "prestop": workload.PRESTOP_SECONDS,
        "port": names.ENGINE_PORT,
        "user": workload.USER_ID,
        "home": vllm.HOME,
        "cache": vllm.CACHE,
        "config_directory": vllm.CONFIG_DIRECTORY,
        "key_field": names.ENGINE_KEY_FIELD,
        "annotations": _records(spec, inputs.image),
        # a container's environment is read once: another key must make another pod
        "pod_annotations": {names.ENGINE_KEY_HASH: digest(inputs.engine_key)},
    }


def _records(spec: InferenceEndpointSpec, image: str) -> dict[str, str]:
    """Return what the next reconcile must know of this one; see ``resolve_image``."""
    chosen = {} if spec.engine.image else {names.DEFAULT_IMAGE: image}
    return {names.SPEC_HASH: spec_hash(spec), **chosen}


def _owned(child: Object, endpoint: InferenceEndpoint) -> Object:
    """Return a child with our labels, its owner, and the digest of all that."""
    meta = child["metadata"]
    owner = names.owner_reference("InferenceEndpoint", endpoint.name, endpoint.uid)
    owned = child | {
        "metadata": meta | {"labels": names.child_labels(endpoint.name), "ownerReferences": [owner]}
    }
    annotations = meta.get("annotations", {}) | {names.APPLIED_HASH: _applied_hash(owned)}
    return owned | {"metadata": owned["metadata"] | {"annotations": annotations}}


def _applied_hash(child: Object) -> str:
    spec = {key: value for key, value in child.get("spec", {}).items() if key != "replicas"}
    return digest(child | {"spec": spec})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
