"""The demo's cluster in kind, with the same ingress controller and fake GPUs as our own.

Needs Docker, kind, kubectl and helm, and says so at once where one is missing. The user's own
kubeconfig is left alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from hack.cluster import addons
from hack.cluster.processes import ClusterError, run
from hack.cluster.progress import say, step
from hack.demo.session import Session
from hack.images.catalog import REPOSITORY, Image

NAME = "vllm-endpoints"
NODE = f"{NAME}-control-plane"
CONFIG = REPOSITORY / "kind-config.yaml"
URL = "http://127.0.0.1"
PORTS = (80, 443)  # of the node, which kind-config.yaml maps to this machine
PROGRAMS = {
    "docker": "https://docs.docker.com/engine/install",
    "kind": "https://kind.sigs.k8s.io",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
}
OLDEST = {
    "kind": (["kind", "version"], (0, 30)),  # whose nodes have Kubernetes 1.33 or newer
    "helm": (["helm", "version", "--short"], (3, 18)),
}
STAYS = (
    "Docker keeps what it pulled, python:3.11-slim-bookworm and kind's node image, and its build"
    " cache: `docker image ls`, `docker builder prune`"
)


class KindCluster:
    """One kind cluster, whose kubeconfig is kept in a file of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def check(self) -> None:
        """ClusterError that names, all at once, what would fail after minutes of building."""
        faults = [f"{name}: {where}" for name, where in PROGRAMS.items() if not _path(name)]
        faults += _faults_of_versions()
        if _path("docker") and run(["docker", "info"], check=False).returncode != 0:
            faults.append(
                "a Docker engine that answers (`docker info`): start it, or give this user"
                " access to it, or leave out RUNTIME=kind"
            )
        elif not self.exists():
            faults += _faults_of_ports()
        if faults:
            raise ClusterError("RUNTIME=kind lacks:\n" + "\n".join(f"  - {f}" for f in faults))

    def exists(self) -> bool:
        """Whether the cluster was created before, as far as kind and Docker are there to tell."""
        if not (_path("kind") and _path("docker")):
            return False
        return NAME in run(["kind", "get", "clusters"], check=False).stdout.split()

    def claim(self) -> None:
        """Leave the mark by which ``remove`` knows that there is something in Docker."""
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self._kubeconfig.touch(mode=0o600)

    def build_image(self, image: Image) -> None:
        """Build an image with Docker, under the name it has everywhere."""
        file = REPOSITORY / image.dockerfile
        # `kind load` fails on an image with attestations (kubernetes-sigs/kind#3795)
        env = os.environ | {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        run(["docker", "build", "-q", "-f", file, "-t", image.reference, REPOSITORY], env=env)

    def load_image(self, image: Image) -> None:
        """Bring an image from Docker into the node."""
        run(["kind", "load", "docker-image", image.reference, "--name", NAME])

    def start(self, *, gpus: int) -> Session:
        """Create the cluster unless it exists, with ingress and fake GPUs."""
        self.claim()
        if not self.exists():
            with step(f"kind create cluster --name {NAME}", expect="a minute or two"):
                self._create()
        run(["kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", self._kubeconfig])
        session = self._session()
        with step(f"ingress controller and {gpus} x {addons.GPU_RESOURCE}"):
            _add_gpus(session, gpus)
            traefik = addons.traefik_manifest(host_ports=True)
            session.call_kubectl("apply", "--server-side", "-f", "-", stdin=traefik)
            rollout = ["rollout", "status", "deployment/traefik", "-n", "ingress"]
            session.call_kubectl(*rollout, "--timeout=3m")
        return session

    def _create(self) -> None:
        command: list[str | Path] = ["kind", "create", "cluster", "--name", NAME, "--wait", "3m"]
        run([*command, "--config", CONFIG, "--kubeconfig", self._kubeconfig])

    def remove(self, images: Iterable[Image]) -> None:
        """Delete the cluster and our images in Docker, if there are any; says what stays."""
        if not (self._kubeconfig.exists() or self.exists()):
            return
        with step(f"kind delete cluster --name {NAME}"):
            command: list[str | Path] = ["kind", "delete", "cluster", "--name", NAME]
            run([*command, "--kubeconfig", self._kubeconfig])  # the user's own stays as it is
        for image in images:
            run(["docker", "image", "rm", image.reference], check=False)  # may not be built
        self._kubeconfig.unlink(missing_ok=True)
        say(STAYS)

    def _session(self) -> Session:
        return Session(
            kubeconfig=self._kubeconfig,
            kubectl=Path(_path("kubectl")),
            helm=Path(_path("helm")),
            url=URL,
        )


def _add_gpus(session: Session, count: int) -> None:
    status, metadata = (json.dumps(patch) for patch in addons.gpu_patches(count))
    patch = ["patch", "node", NODE, "--type=merge"]
    session.call_kubectl(*patch, "--subresource=status", "-p", status)
    session.call_kubectl(*patch, "-p", metadata)


def _faults_of_versions() -> Iterator[str]:
    for program, (command, oldest) in OLDEST.items():
        if _path(program):
            found = parse_version(run(command, check=False).stdout)
            if found < oldest:
                wanted, have = (".".join(map(str, v)) for v in (oldest, found))
                yield f"{program} {wanted} or newer (this is {have}): {PROGRAMS[program]}"


def _faults_of_ports() -> Iterator[str]:
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                yield f"port {port} of 127.0.0.1, where another program listens: stop it"


def parse_version(printed: str) -> tuple[int, int]:
    """Major and minor version in what a program prints about itself; (0, 0) if there is none."""
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", printed)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _path(program: str) -> str:
    return shutil.which(program) or ""
