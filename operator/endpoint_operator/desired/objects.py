"""The list of an endpoint's children, complete and in order of dependence.

Services come first, so that the endpoint's address exists before anything can fail; what pods read
comes before the Deployment, which is last. Owner, labels and the applied-hash annotation are put on
here, in one place, on fresh data.
"""

from __future__ import annotations

import base64
from typing import Any

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpoint
from endpoint_operator.desired import network, storage, workload
from endpoint_operator.desired.digests import digest
from endpoint_operator.desired.files import files
from endpoint_operator.desired.inputs import Inputs
from endpoint_operator.desired.render import render

Object = dict[str, Any]


def desired_objects(endpoint: InferenceEndpoint, inputs: Inputs) -> list[Object]:
    """Return the children of an endpoint.

    The Deployment has ``spec.replicas``; whether it is sent is for the applier to decide, and it
    is not part of the applied-hash. Raises InvalidObjectError where the user's pod template can't
    be merged, and RenderError where a fault of ours makes an object impossible.
    """
    config, secret, content = _content(endpoint, inputs)
    children = [
        *network.services(endpoint, inputs),
        *network.policies(endpoint, inputs),
        *storage.cache_claims(endpoint),
        secret,
        config,
        *workload.disruption_budgets(endpoint),
        workload.deployment(endpoint, inputs, content),
    ]
    return [_owned(child, endpoint) for child in children]


def _content(
    endpoint: InferenceEndpoint, inputs: Inputs
) -> tuple[Object, Object, workload.Content]:
    """Return ConfigMap and Secret, each named by what is in it, and what pods need to know."""
    texts = files(endpoint.spec, inputs)
    key = {names.ENGINE_KEY_FIELD: base64.b64encode(inputs.engine_key.encode()).decode()}
    config_name = names.content_name(endpoint.name, digest(texts))
    secret_name = names.content_name(endpoint.name, digest(key))
    namespace = endpoint.namespace
    return (
        render("engine-config", name=config_name, namespace=namespace, data=texts),
        render("engine-secret", name=secret_name, namespace=namespace, data=key),
        workload.Content(config_name, secret_name, texts),
    )


def _owned(child: Object, endpoint: InferenceEndpoint) -> Object:
    """Return a child with our labels, its owner, and the digest of all that."""
    meta = child["metadata"] | {"labels": names.child_labels(endpoint.name)}
    if not storage.outlives(child, endpoint):
        owner = names.owner_reference("InferenceEndpoint", endpoint.name, endpoint.uid)
        meta["ownerReferences"] = [owner]
    applied = {names.APPLIED_HASH: _applied_hash(child | {"metadata": meta})}
    return child | {"metadata": meta | {"annotations": meta.get("annotations", {}) | applied}}


def _applied_hash(child: Object) -> str:
    spec = {key: value for key, value in child.get("spec", {}).items() if key != "replicas"}
    return digest(child | {"spec": spec})
