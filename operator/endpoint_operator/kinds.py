"""The kinds of objects that the operator touches, and where the API server has them.

``cache`` and everything above it go by these names. A kind that is written needs its rule in the
chart's RBAC, and a watched one that is a child the chart's too.
"""

from __future__ import annotations

from typing import Final

from endpoint_operator import names
from kube_api import Resource

INFERENCE_ENDPOINT: Final = "InferenceEndpoint"
API_KEY: Final = "ApiKey"
SERVICE: Final = "Service"
CONFIG_MAP: Final = "ConfigMap"
SECRET: Final = "Secret"  # noqa: S105 - a kind of object
NETWORK_POLICY: Final = "NetworkPolicy"
DISRUPTION_BUDGET: Final = "PodDisruptionBudget"
CLAIM: Final = "PersistentVolumeClaim"
DEPLOYMENT: Final = "Deployment"
POD: Final = "Pod"

RESOURCES: Final = {
    resource.kind: resource
    for resource in (
        Resource(names.GROUP, names.VERSION, "inferenceendpoints", INFERENCE_ENDPOINT),
        Resource(names.GROUP, names.VERSION, "apikeys", API_KEY),
        Resource("", "v1", "services", SERVICE),
        Resource("", "v1", "configmaps", CONFIG_MAP),
        # anybody can put our label on many, of 1.5 MiB each
        Resource("", "v1", "secrets", SECRET, page_size=20),
        Resource("networking.k8s.io", "v1", "networkpolicies", NETWORK_POLICY),
        Resource("policy", "v1", "poddisruptionbudgets", DISRUPTION_BUDGET),
        Resource("", "v1", "persistentvolumeclaims", CLAIM),
        Resource("apps", "v1", "deployments", DEPLOYMENT),
        Resource("", "v1", "pods", POD),
    )
}
"""Every kind that the operator watches, by its name."""

OWN_KINDS: Final = (INFERENCE_ENDPOINT, API_KEY)
MANAGED_KINDS: Final = tuple(kind for kind in RESOURCES if kind not in OWN_KINDS)
"""What is watched by our label: children, and the pods that Deployments make of them."""

CONTENT: Final = (CONFIG_MAP, SECRET)
"""What is named by its content: another content is another object."""

READ_BY_PODS: Final = (*CONTENT, CLAIM)
"""What a pod's template names, and a container that starts again reads once more."""
