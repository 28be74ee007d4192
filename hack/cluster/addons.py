"""What every cluster with a node needs inside: cluster DNS, and Traefik where an ingress is wanted.

Also the fake GPUs, which are nothing but what the node says of itself.
"""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any

from hack.cluster import proxies
from hack.cluster.api import AdminApi
from hack.cluster.node import nameservers
from hack.cluster.processes import run, wait_until
from hack.cluster.programs import HERE
from hack.cluster.state import DNS_IP, NODE, NODE_ADDRESS, Layout
from hack.cluster.toolchain import COREDNS_IMAGE, TRAEFIK_IMAGE, Cache

GPU_RESOURCE = "nvidia.com/gpu"
GPU_LABELS = {  # what GPU feature discovery sets on a node with H100 cards
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.family": "hopper",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.mode": "compute",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/gpu.machine": "vllm-endpoints",
    "nvidia.com/mig.capable": "true",
    "nvidia.com/mig.strategy": "none",
    "nvidia.com/cuda.driver-version.full": "570.86.15",
    "nvidia.com/cuda.runtime-version.full": "12.8",
}


def coredns_manifest() -> str:
    """Cluster DNS; names outside the cluster go to the host's nameservers, if it has any."""
    forward = "forward . /etc/resolv.conf" if nameservers() else ""
    return _manifest("coredns.yaml", dns=DNS_IP, image=COREDNS_IMAGE, forward=forward)


def traefik_manifest(*, host_ports: bool) -> str:
    """The ingress controller, on ports 80 and 443 of the node itself where ``host_ports``."""
    web, websecure = (", hostPort: 80", ", hostPort: 443") if host_ports else ("", "")
    return _manifest("traefik.yaml", image=TRAEFIK_IMAGE, web=web, websecure=websecure)


def apply(cache: Cache, layout: Layout, manifest: str) -> None:
    """Server-side apply YAML documents as administrator."""
    kubectl: list[str | Path] = [cache.program("kubectl"), f"--kubeconfig={layout.kubeconfig()}"]
    command = [*kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-"]
    run(command, stdin=manifest, env=proxies.past(os.environ))


def wait_ready(api: AdminApi, *, ingress: bool) -> None:
    """Wait until the add-ons serve, then play the cloud's load balancer for the ingress."""
    _wait_deployment(api, "kube-system", "coredns")
    if ingress:
        _wait_deployment(api, "ingress", "traefik")
        address = {"ip": NODE_ADDRESS, "ipMode": "VIP"}
        api.patch(
            "/api/v1/namespaces/ingress/services/traefik/status",
            {"status": {"loadBalancer": {"ingress": [address]}}},
        )


def gpu_patches(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Merge patches of a node's status and metadata that advertise GPUs which do not exist.

    Pods that ask for one are scheduled, and find none. The kubelet keeps what it does not know.
    """
    resources = {GPU_RESOURCE: str(count)}
    labels = GPU_LABELS | {"nvidia.com/gpu.count": str(count)}
    status = {"status": {"capacity": resources, "allocatable": resources}}
    return status, {"metadata": {"labels": labels}}


def add_gpus(api: AdminApi, count: int) -> None:
    """Advertise that many GPUs on our node."""
    status, metadata = gpu_patches(count)
    api.patch(f"/api/v1/nodes/{NODE}/status", status)
    api.patch(f"/api/v1/nodes/{NODE}", metadata)


def _wait_deployment(api: AdminApi, namespace: str, name: str) -> None:
    def ready(deployment: Any) -> bool:
        return bool(deployment["status"].get("readyReplicas", 0))

    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    wait_until(f"{namespace}/{name}", lambda: api.holds(path, ready), timeout_seconds=180)


def _manifest(name: str, **values: str) -> str:
    return string.Template((HERE / "manifests" / name).read_text()).substitute(values)
