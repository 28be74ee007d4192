"""The node: containerd with its pod network, kubelet and kube-proxy, as ordinary processes.

Everything they write goes below the cluster's directory, but for what ``host`` undoes. Pods are
routed (CNI ``ptp``), not bridged, so neither ``br_netfilter`` nor iptables is needed.
"""

from __future__ import annotations

import json
import os
import string
import sys
from pathlib import Path
from typing import Any

from hack.cluster import host, proxies
from hack.cluster.processes import ClusterError, Processes, run, wait_until
from hack.cluster.programs import HERE, PAUSE_IMAGE
from hack.cluster.state import (
    DNS_IP,
    NODE,
    NODE_POD_CIDR,
    POD_CIDR,
    Layout,
    Settings,
)
from hack.cluster.toolchain import Cache

RESOLVER_FILES = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


def start_runtime(layout: Layout, processes: Processes, cache: Cache) -> None:
    """Prepare the host, start containerd and wait until it answers."""
    host.prepare()
    network = layout.dir / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-pods.conflist").write_text(json.dumps(_pod_network(layout)))
    config = layout.dir / "containerd.toml"
    config.write_text(_containerd_config(layout, cache))
    # the one component that goes out: for images that nobody has loaded
    env = proxies.past(os.environ)
    processes.start("containerd", cache.program("containerd"), "-c", str(config), env=env)
    wait_until(
        f"containerd (see {processes.log_file('containerd')})",
        lambda: processes.check() and _ctr(cache, "version", check=False),
        timeout_seconds=60,
    )


def start_agents(layout: Layout, settings: Settings, processes: Processes, cache: Cache) -> None:
    """Start kubelet and kube-proxy; containerd must run."""
    config = layout.dir / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(layout, settings)))
    env = proxies.without(os.environ)
    processes.start(
        "kubelet",
        cache.program("kubelet"),
        f"--config={config}",
        f"--root-dir={layout.dir}/kubelet",
        f"--kubeconfig={layout.kubeconfig('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={settings.address}",
        f"--cert-dir={layout.pki}",
        env=env,
    )
    processes.start(
        "proxy",
        cache.program("kube-proxy"),
        f"--kubeconfig={layout.kubeconfig('proxy')}",
        f"--hostname-override={NODE}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={POD_CIDR}",
        "--conntrack-max-per-core=0",
        f"--healthz-bind-address=127.0.0.1:{settings.ports['proxy-healthz']}",
        f"--metrics-bind-address=127.0.0.1:{settings.ports['proxy-metrics']}",
        env=env,
    )


def start_enforcer(layout: Layout, processes: Processes) -> None:
    """Start what enforces NetworkPolicies, and wait until it does; the API server must answer."""
    env = proxies.without(os.environ) | {"PYTHONPATH": str(HERE.parents[1])}
    program = ["-m", "hack.cluster.enforcer", str(layout.dir)]
    processes.start("policies", Path(sys.executable), *program, env=env)
    wait_until(
        f"NetworkPolicies (see {processes.log_file('policies')})",
        lambda: processes.check() and host.enforces_policies(),
        timeout_seconds=60,
    )


def import_image(cache: Cache, archive: Path) -> None:
    """Import an OCI or Docker archive into the node's containerd."""
    if not archive.is_file():
        raise ClusterError(f"no such file: {archive}")
    _ctr(cache, "-n", "k8s.io", "images", "import", str(archive))


def nameservers() -> list[str]:
    """The host's nameservers that a pod can reach too, so none on a loopback address."""
    path = next((p for p in RESOLVER_FILES if p.exists()), None)
    lines = path.read_text().splitlines() if path else []
    found = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return [address for address in found if not address.startswith(("127.", "::1"))]


def _ctr(cache: Cache, *argv: str, check: bool = True) -> bool:
    ctr: list[str | Path] = [cache.program("ctr"), "-a", host.CONTAINERD_SOCKET]
    return run([*ctr, *argv], check=check).returncode == 0


def _pod_network(layout: Layout) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": f"{layout.dir}/ipam",
        "ranges": [[{"subnet": NODE_POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"}
    return {
        "cniVersion": "1.0.0",
        "name": host.NAME,
        "plugins": [{"type": "ptp", "ipam": addresses}, ports],
    }


def _containerd_config(layout: Layout, cache: Cache) -> str:
    template = string.Template((HERE / "manifests/containerd.toml").read_text())
    return template.substitute(
        state=layout.dir,
        socket=host.CONTAINERD_SOCKET,
        shim_sockets=host.SHIM_SOCKETS,
        pause=PAUSE_IMAGE,
        cni=cache.program("ptp").parent,
        runc=cache.program("runc"),
    )


def _kubelet_config(layout: Layout, settings: Settings) -> dict[str, Any]:
    resolver = layout.dir / "resolv.conf"
    resolver.write_text("".join(f"nameserver {address}\n" for address in nameservers()))
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": settings.address,
        "port": settings.ports["kubelet"],
        "healthzPort": settings.ports["kubelet-healthz"],
        "tlsCertFile": f"{layout.pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{layout.pki}/kubelet-server.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "containerRuntimeEndpoint": f"unix://{host.CONTAINERD_SOCKET}",
        "podLogsDir": f"{layout.dir}/pod-logs",
        "maxPods": 200,
        "syncFrequency": "10s",
        "shutdownGracePeriod": "0s",
        **_resource_policy(),
    }


def _resource_policy() -> dict[str, Any]:
    """Pods in a cgroup of their own, on old kernels too, and no eviction on a full disk."""
    return {
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{host.NAME}",
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
