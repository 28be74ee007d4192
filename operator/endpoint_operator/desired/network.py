"""How an endpoint's engines are found and reached: two Services and a NetworkPolicy."""

from __future__ import annotations

from typing import Any

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpoint
from endpoint_operator.desired.inputs import Inputs
from endpoint_operator.desired.render import render

Object = dict[str, Any]


def services(endpoint: InferenceEndpoint, inputs: Inputs) -> list[Object]:
    """Return the gateway Service, for clients in the cluster, and the engines' headless one."""
    return [
        render(
            "gateway-service",
            name=endpoint.name,
            namespace=endpoint.namespace,
            host=inputs.gateway_host,
            port=names.GATEWAY_PORT,
        ),
        render(
            "engine-service",
            name=names.engine_name(endpoint.name),
            namespace=endpoint.namespace,
            selector=names.selector_labels(endpoint.name),
            port=names.ENGINE_PORT,
        ),
    ]


def policies(endpoint: InferenceEndpoint, inputs: Inputs) -> list[Object]:
    """Return the NetworkPolicy of the engines' pods, unless the administrator wants none."""
    defaults = inputs.defaults
    if not defaults.network_policy:
        return []
    policy = render(
        "network-policy",
        name=names.engine_name(endpoint.name),
        namespace=endpoint.namespace,
        selector=names.selector_labels(endpoint.name),
        gateway_namespace=defaults.gateway_namespace,
        gateway_labels=defaults.gateway_labels,
        scrapers=defaults.scrapers,
        port=names.ENGINE_PORT,
    )
    return [policy]
