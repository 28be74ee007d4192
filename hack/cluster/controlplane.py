"""The control plane as ordinary processes: etcd, API server, controllers, scheduler.

Flags are computed from the settings and nothing else; starting them is a table. Nothing here
needs root, so any number of control planes without a node can run side by side.
"""

from __future__ import annotations

import os
from pathlib import Path

from hack.cluster import proxies
from hack.cluster.processes import Processes
from hack.cluster.state import POD_CIDR, SERVICE_CIDR, Layout, Settings
from hack.cluster.toolchain import Cache


def start_api(layout: Layout, settings: Settings, processes: Processes, cache: Cache) -> None:
    """Start the API server and its store where they don't run."""
    table = {
        "etcd": ("etcd", _etcd(layout, settings)),
        "apiserver": (
            "kube-apiserver",
            [*_apiserver(layout.pki, settings), *_audit(layout, settings)],
        ),
    }
    _start(table, processes, cache)


def start_controllers(
    layout: Layout, settings: Settings, processes: Processes, cache: Cache
) -> None:
    """Start controllers and scheduler where they don't run.

    They give an API server ten seconds to let them in, and a slow machine takes longer.
    """
    table = {
        "kcm": ("kube-controller-manager", _controllers(layout, settings)),
        "scheduler": ("kube-scheduler", _scheduler(layout)),
    }
    _start(table, processes, cache)


def _start(table: dict[str, tuple[str, list[str]]], processes: Processes, cache: Cache) -> None:
    for name, (program, flags) in table.items():
        processes.start(name, cache.program(program), *flags, env=proxies.without(os.environ))


def _etcd(layout: Layout, settings: Settings) -> list[str]:
    client, peer = (f"https://127.0.0.1:{settings.ports[p]}" for p in ("etcd", "etcd-peer"))
    tls = [
        f"--{kind}{flag}"
        for kind in ("", "peer-")
        for flag in (
            f"cert-file={layout.pki}/etcd.crt",
            f"key-file={layout.pki}/etcd.key",
            f"trusted-ca-file={layout.pki}/etcd-ca.crt",
            "client-cert-auth",
        )
    ]
    return [
        f"--data-dir={layout.dir}/etcd",
        "--unsafe-no-fsync",  # what is lost with the machine is thrown away anyway
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        *tls,
    ]


def _apiserver(pki: Path, settings: Settings) -> list[str]:
    return [
        f"--etcd-servers=https://127.0.0.1:{settings.ports['etcd']}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd-client.crt",
        f"--etcd-keyfile={pki}/etcd-client.key",
        f"--bind-address={settings.address}",
        f"--secure-port={settings.ports['api']}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.key",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        *_aggregation(pki),
    ]


def _aggregation(pki: Path) -> list[str]:
    """What lets a pod serve an API of the cluster (APIService)."""
    return [
        f"--requestheader-client-ca-file={pki}/front-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front.crt",
        f"--proxy-client-key-file={pki}/front.key",
        "--enable-aggregator-routing=true",
    ]


def _audit(layout: Layout, settings: Settings) -> list[str]:
    if not settings.audit_policy:
        return []
    return [f"--audit-policy-file={settings.audit_policy}", f"--audit-log-path={layout.audit_log}"]


def _controllers(layout: Layout, settings: Settings) -> list[str]:
    pki = layout.pki
    return [
        *_client_flags(layout, "kcm"),
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials=true",
        f"--allocate-node-cidrs={str(settings.node).lower()}",
        f"--cluster-cidr={POD_CIDR}",
        # impatient autoscaling, so that tests need not wait minutes
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=2s",
        "--horizontal-pod-autoscaler-downscale-stabilization=10s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=5s",
    ]


def _scheduler(layout: Layout) -> list[str]:
    return _client_flags(layout, "scheduler")


def _client_flags(layout: Layout, user: str) -> list[str]:
    kinds = ("", "authentication-", "authorization-")
    return [
        *(f"--{kind}kubeconfig={layout.kubeconfig(user)}" for kind in kinds),
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--leader-elect=false",
    ]
