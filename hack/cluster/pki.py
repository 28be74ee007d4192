"""Certificates of a cluster and the kubeconfigs that carry them, made with openssl.

Three authorities, as Kubernetes recommends: one for the cluster, one for etcd and one for the
front proxy of aggregated APIs. They live for a year, far longer than any cluster made here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from hack.cluster.processes import run
from hack.cluster.state import API_SERVICE_IP, NODE, Layout, Settings

KUBELET_API_GROUP = "vllm-endpoints:kubelet-api"
AUTHORITIES = ("ca", "etcd-ca", "front-ca")
USERS = {
    "admin": "/O=system:masters/CN=admin",
    "proxy": "/CN=system:kube-proxy",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE}",
    "kcm": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
}
SERVICE_NAMES = ",".join(
    f"DNS:kubernetes{suffix}"
    for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")
)


def write_credentials(layout: Layout, settings: Settings) -> None:
    """Make every certificate and kubeconfig, unless that was done before."""
    done = layout.pki / "done"
    if done.exists():
        return
    for name in AUTHORITIES:
        _certificate(layout.pki / name, f"/CN=vllm-endpoints-{name}")
    _serving_certificates(layout.pki, settings)
    _client_certificates(layout.pki)
    for user, subject in USERS.items():
        _leaf(layout.pki, user, subject=subject, authority="ca")
        _write_kubeconfig(layout, settings, user)
    curve = ["-name", "prime256v1", "-genkey", "-noout"]
    run(["openssl", "ecparam", *curve, "-out", layout.pki / "sa.key"])
    done.touch()


def _serving_certificates(pki: Path, settings: Settings) -> None:
    here = f"IP:127.0.0.1,IP:{settings.address},DNS:localhost"
    api = f"{here},IP:{API_SERVICE_IP},{SERVICE_NAMES}"
    _leaf(pki, "apiserver", subject="/CN=kube-apiserver", authority="ca", names=api)
    _leaf(pki, "etcd", subject="/CN=etcd", authority="etcd-ca", names=here)
    # `kubectl logs` and `exec` verify the kubelet by the node's address
    node = f"/O=system:nodes/CN=system:node:{NODE}"
    _leaf(pki, "kubelet-server", subject=node, authority="ca", names=f"{here},DNS:{NODE}")


def _client_certificates(pki: Path) -> None:
    _leaf(pki, "etcd-client", subject="/CN=kube-apiserver", authority="etcd-ca")
    _leaf(pki, "front", subject="/CN=front-proxy-client", authority="front-ca")
    kubelet_api = f"/O={KUBELET_API_GROUP}/CN=kube-apiserver-kubelet-client"
    _leaf(pki, "kubelet-client", subject=kubelet_api, authority="ca")


def _leaf(pki: Path, name: str, *, subject: str, authority: str, names: str = "") -> None:
    extra: list[str | Path] = ["-CA", pki / f"{authority}.crt", "-CAkey", pki / f"{authority}.key"]
    extra += ["-addext", "basicConstraints=critical,CA:FALSE"]
    extra += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    extra += ["-addext", f"subjectAltName={names}"] if names else []
    _certificate(pki / name, subject, *extra)


def _certificate(out: Path, subject: str, *extra: str | Path) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", f"{out}.key", "-out", f"{out}.crt"]
    run(["openssl", "req", "-x509", *key, "-days", "365", "-subj", subject, *files, *extra])


def _write_kubeconfig(layout: Layout, settings: Settings, user: str) -> None:
    def data(name: str) -> str:
        return base64.b64encode((layout.pki / name).read_bytes()).decode()

    name = f"vllm-endpoints-{layout.name}"
    cluster = {"server": settings.url, "certificate-authority-data": data("ca.crt")}
    identity = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
    }
    path = layout.kubeconfig(user)
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))
