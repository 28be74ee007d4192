"""The demo's cluster in kind, with the same ingress controller and fake GPUs as our own.

Needs Docker, kind, kubectl and helm, and says so at once where one is missing. The user's own
kubeconfig is left alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hack.cluster import addons
from hack.cluster.processes import ClusterError, run
from hack.cluster.progress import step
from hack.demo.session import Session
from hack.images.catalog import REPOSITORY, Image

NAME = "vllm-endpoints"
NODE = f"{NAME}-control-plane"
CONFIG = REPOSITORY / "kind-config.yaml"
URL = "http://127.0.0.1"  # kind-config.yaml maps ports 80 and 443 of the node
PROGRAMS = {
    "docker": "https://docs.docker.com/engine/install",
    "kind": "https://kind.sigs.k8s.io (0.30 or newer, for Kubernetes 1.33 and up)",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
}


class KindCluster:
    """One kind cluster, whose kubeconfig is kept in a file of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def check(self) -> None:
        """ClusterError that names every missing program, or says that Docker is not there."""
        missing = [f"{name}: {where}" for name, where in PROGRAMS.items() if not _path(name)]
        if missing:
            raise ClusterError(
                "RUNTIME=kind needs programs that are not on PATH:\n  - " + "\n  - ".join(missing)
            )
        if run(["docker", "info"], check=False).returncode != 0:
            raise ClusterError(
                "the Docker engine does not answer (`docker info`): start it, or give this user"
                " access to it, or leave out RUNTIME=kind"
            )

    def exists(self) -> bool:
        """Whether the cluster was created before."""
        return NAME in run(["kind", "get", "clusters"]).stdout.split()

    def build_image(self, image: Image) -> None:
        """Build an image with Docker, under the name it has everywhere."""
        file = REPOSITORY / image.dockerfile
        run(["docker", "build", "-q", "-f", file, "-t", image.reference, REPOSITORY])

    def load_image(self, image: Image) -> None:
        """Bring an image from Docker into the node."""
        run(["kind", "load", "docker-image", image.reference, "--name", NAME])

    def start(self, *, gpus: int) -> Session:
        """Create the cluster unless it exists, with ingress and fake GPUs."""
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self._kubeconfig.touch(mode=0o600)
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

    def remove(self) -> None:
        """Delete the cluster, if there is one."""
        if self._kubeconfig.exists():  # made before anything else
            with step(f"kind delete cluster --name {NAME}"):
                run(["kind", "delete", "cluster", "--name", NAME])
            self._kubeconfig.unlink()

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


def _path(program: str) -> str:
    return shutil.which(program) or ""
