"""The table of programs: which Go package each one is, who needs it, how it is compiled.

There is one Go module per upstream under ``modules/``, because their requirements clash:
containerd wants newer k8s.io libraries than Kubernetes itself pins. To bump one, run
``go get -tool PACKAGE@VERSION`` in its directory (for Kubernetes change every ``replace`` too).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"

# what a program belongs to; a cluster without a node needs the first two alone
Group = Literal["control-plane", "client", "node", "ingress"]
GROUPS: tuple[Group, ...] = ("control-plane", "client", "node", "ingress")

_BASE = "k8s.io/component-base/version"
# variables that release builds stamp with the version, by Go module
VERSION_VARIABLES = {
    "k8s.io/kubernetes": (f"{_BASE}.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
    "github.com/containerd/containerd/v2": ("github.com/containerd/containerd/v2/version.Version",),
    "github.com/traefik/traefik/v3": ("github.com/traefik/traefik/v3/pkg/version.Version",),
    "helm.sh/helm/v4": ("helm.sh/helm/v4/internal/version.version",),
}


@dataclass(frozen=True)
class Program:
    """One Go program. ``cold_seconds`` is what it took on two cores with empty Go caches."""

    name: str
    module: str
    package: str
    group: Group
    cold_seconds: int = 10
    cgo: bool = False
    tags: str = ""

    @property
    def module_dir(self) -> Path:
        """Where its go.mod is."""
        return HERE / "modules" / self.module


_K8S = "k8s.io/kubernetes/cmd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
PROGRAMS = (
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "control-plane", 65),
    Program("kube-apiserver", "kubernetes", f"{_K8S}/kube-apiserver", "control-plane", 242),
    Program(
        "kube-controller-manager",
        "kubernetes",
        f"{_K8S}/kube-controller-manager",
        "control-plane",
        74,
    ),
    Program("kube-scheduler", "kubernetes", f"{_K8S}/kube-scheduler", "control-plane"),
    Program("kubectl", "kubernetes", f"{_K8S}/kubectl", "client", 28),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", "client", 90),
    Program("kubelet", "kubernetes", f"{_K8S}/kubelet", "node", 21),
    Program("kube-proxy", "kubernetes", f"{_K8S}/kube-proxy", "node", 11),
    Program("containerd", "containerd", f"{_CONTAINERD}/containerd", "node", 108),
    Program(
        "containerd-shim-runc-v2", "containerd", f"{_CONTAINERD}/containerd-shim-runc-v2", "node"
    ),
    Program("ctr", "containerd", f"{_CONTAINERD}/ctr", "node"),
    Program("ptp", "containerd", f"{_CNI}/main/ptp", "node"),
    Program("host-local", "containerd", f"{_CNI}/ipam/host-local", "node"),
    Program("portmap", "containerd", f"{_CNI}/meta/portmap", "node"),
    Program("runc", "runc", "github.com/opencontainers/runc", "node", 20, cgo=True, tags="seccomp"),
    Program("coredns", "coredns", "github.com/coredns/coredns", "node", 183),
    Program("traefik", "traefik", "github.com/traefik/traefik/v3/cmd/traefik", "ingress", 395),
)


def program(name: str) -> Program:
    """The program of that name; KeyError if there is none."""
    return {p.name: p for p in PROGRAMS}[name]


def requirements_of(module: str) -> Iterator[tuple[str, str]]:
    """Module paths and versions that a go.mod of ours requires."""
    for line in (HERE / "modules" / module / "go.mod").read_text().splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].startswith("v"):
            yield words[0], words[1]


def version_of(module: str, path: str) -> str:
    """The version of Go module ``path`` that our module pins, for example ``v3.6.12``."""
    return dict(requirements_of(module))[path]


def go_version() -> tuple[int, ...]:
    """The oldest Go that compiles every module, for example ``(1, 26, 6)``."""
    lines = [
        line.split()[1]
        for path in (HERE / "modules").glob("*/go.mod")
        for line in path.read_text().splitlines()
        if line.startswith("go ")
    ]
    return max(tuple(int(n) for n in version.split(".")) for version in lines)


def linker_flags(module: str) -> str:
    """Strip the program and stamp the version, which release builds get from makefiles."""
    flags = ["-s", "-w"]
    for path, version in requirements_of(module):
        flags += [f"-X={variable}={version}" for variable in VERSION_VARIABLES.get(path, ())]
        if path == "k8s.io/kubernetes":
            major, minor = version[1:].split(".")[:2]
            flags += [f"-X={_BASE}.gitMajor={major}", f"-X={_BASE}.gitMinor={minor}"]
    return " ".join(flags)
