"""The list of an endpoint's children, complete and in order of dependence.

Children that others refer to come first, so that no pod waits for its Secret. Owner, labels and
the applied-hash annotation are put on here, in one place, on fresh data.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, InferenceEndpointSpec
from endpoint_operator.desired import vllm, workload
from endpoint_operator.desired.render import render

Object = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What rendering needs besides the endpoint."""

    image: str
    engine_key: str
    gateway_host: str


def desired_objects(endpoint: InferenceEndpoint, inputs: Inputs) -> list[Object]:
    """Return the children of an endpoint: Secret, ConfigMap, both Services, Deployment.

    The Deployment has ``spec.replicas``; whether it is sent is for the applier to decide, and it
    is not part of the applied-hash.
    """
    common = {
        "name": endpoint.name,
        "engine_name": names.engine_name(endpoint.name),
        "namespace": endpoint.namespace,
        "selector": names.selector_labels(endpoint.name),
    }
    labels = names.child_labels(endpoint.name)
    children = [
        render(
            "engine-secret", **common, data={names.ENGINE_KEY_FIELD: _base64(inputs.engine_key)}
        ),
        render("config", **common, data=_config(endpoint.spec)),
        render("engine-service", **common, port=names.ENGINE_PORT),
        render("gateway-service", **common, port=names.GATEWAY_PORT, host=inputs.gateway_host),
        render("deployment", **common, labels=labels, **_deployment(endpoint.spec, inputs)),
    ]
    return [_owned(child, endpoint) for child in children]


def resolve_image(
    spec: InferenceEndpointSpec, *, recorded: str, unchanged: bool, default: str
) -> str:
    """Return the engine's image: the user's, else the recorded one while the spec is unchanged.

    An operator upgrade with another default must not roll engines that nobody touched.
    """
    return spec.engine.image or (recorded if unchanged else "") or default


def spec_hash(spec: InferenceEndpointSpec) -> str:
    """Return a digest of what the user set, apart from the number of replicas.

    Scaling is not a change that may bring a new default image; fields at their defaults don't
    count, so that a new version of the API with more fields doesn't look like a change.
    """
    return _digest(spec.model_dump(mode="json", exclude_defaults=True, exclude={"replicas"}))


def _config(spec: InferenceEndpointSpec) -> dict[str, str]:
    return {names.CONFIG_FIELD: vllm.config_file(spec.engine.config)}


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
        "annotations": {names.SPEC_HASH: spec_hash(spec)},
        "pod_annotations": {
            names.CONFIG_HASH: _digest(_config(spec)),
            # a container's environment is read once: another key must make another pod
            names.ENGINE_KEY_HASH: _digest(inputs.engine_key),
        },
    }


def _owned(child: Object, endpoint: InferenceEndpoint) -> Object:
    """Return a child with our labels, its owner, and the digest of all that."""
    meta = child["metadata"]
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceEndpoint",
        "name": endpoint.name,
        "uid": endpoint.uid,
        "controller": True,
    }
    owned = child | {
        "metadata": meta | {"labels": names.child_labels(endpoint.name), "ownerReferences": [owner]}
    }
    annotations = meta.get("annotations", {}) | {names.APPLIED_HASH: _applied_hash(owned)}
    return owned | {"metadata": owned["metadata"] | {"annotations": annotations}}


def _applied_hash(child: Object) -> str:
    spec = {key: value for key, value in child.get("spec", {}).items() if key != "replicas"}
    return _digest(child | {"spec": spec})


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
