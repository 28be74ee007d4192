"""Which nodes an engine may run on: its GPUs, their products, and the taints that guard them."""

from __future__ import annotations

from typing import Any, Final

from endpoint_operator.api.v1alpha1 import InferenceEndpointSpec
from endpoint_operator.api.workload import GpuSpec

PRODUCT_LABELS: Final = {
    "nvidia.com": "nvidia.com/gpu.product",
    "amd.com": "amd.com/gpu.product-name",
    "gpu.intel.com": "gpu.intel.com/product",
}
"""The node label that names the product, by the vendor's domain: that of NVIDIA's GPU feature
discovery, of AMD's node labeller, of Intel's rules for node feature discovery."""

VENDOR_TAINTS: Final = {"nvidia.com": "nvidia.com/gpu", "amd.com": "amd.com/gpu"}
"""The taint that nodes of a vendor have whatever their devices are called, slices included."""

Object = dict[str, Any]


def devices(gpu: GpuSpec) -> dict[str, str]:
    """Return the GPUs as a container's resources name them."""
    return {gpu.resource: str(gpu.count)} if gpu.count else {}


def tolerations(gpu: GpuSpec) -> list[Object]:
    """Return tolerations of the taints that keep other pods off the nodes with these GPUs."""
    if not gpu.count:
        return []
    keys = dict.fromkeys((gpu.resource, VENDOR_TAINTS.get(_vendor(gpu), gpu.resource)))
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]


def affinity(spec: InferenceEndpointSpec) -> Object | None:
    """Return what makes the scheduler look for nodes with one of the products."""
    if not spec.gpu.products:
        return None
    products = sorted(spec.gpu.products)
    match = {"key": PRODUCT_LABELS[_vendor(spec.gpu)], "operator": "In", "values": products}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [match]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _vendor(gpu: GpuSpec) -> str:
    return gpu.resource.partition("/")[0]
