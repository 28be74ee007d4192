"""Where the demo's cluster comes from: our own local one, or kind where Docker is installed.

Both are built, entered and removed the same way, and everything after that is the same story.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from hack.cluster import prerequisites
from hack.cluster.lifecycle import Cluster, needed_groups
from hack.cluster.progress import step
from hack.cluster.state import NODE_ADDRESS, Layout, Options
from hack.cluster.toolchain import Cache, default_root
from hack.demo.kind import KindCluster
from hack.demo.session import Session
from hack.images.builder import Builder
from hack.images.catalog import IMAGES, Image

GPUS = 8
CLUSTER = "demo"


class Runtime(Protocol):
    """A way to get a cluster with an ingress and fake GPUs."""

    def prepare(self) -> None:
        """Name everything that is missing, at once."""

    def build(self, images: Collection[Image]) -> None:
        """Make programs and images that are not there yet."""

    def start(self) -> Session:
        """Bring the cluster up, or find it running."""

    def load(self) -> None:
        """Bring the images that were built into the cluster."""


class LocalRuntime:
    """The cluster of ``hack.cluster``: programs compiled here, no container engine."""

    def __init__(self, cluster: str = CLUSTER) -> None:
        self._cache = Cache(default_root())
        self._cluster = Cluster(Layout.named(cluster, self._cache.root), self._cache)
        self._builder = Builder(self._cache.root)
        self._options = Options(ingress=True, gpus=GPUS)
        self._archives: list[Path] = []

    def prepare(self) -> None:
        """See Runtime."""
        prerequisites.provide(self._cache, node=True, images=True)

    def build(self, images: Collection[Image]) -> None:
        """See Runtime."""
        self._cache.build(needed_groups(self._options), jobs=os.cpu_count() or 1)
        self._archives = self._builder.build(images)

    def start(self) -> Session:
        """See Runtime."""
        self._cluster.up(self._options)
        layout = self._cluster.layout
        return Session(
            kubeconfig=layout.kubeconfig(),
            kubectl=layout.bin_dir / "kubectl",
            helm=layout.bin_dir / "helm",
            url=f"http://{NODE_ADDRESS}",
        )

    def load(self) -> None:
        """See Runtime."""
        self._cluster.load_once(self._archives)

    def load_archive(self, archive: Path) -> None:
        """Bring one more image into the cluster."""
        self._cluster.load([archive])

    def remove(self) -> None:
        """Every trace of the cluster and of builds that were killed; what is cached stays."""
        self._cluster.down()
        self._builder.clean()


class KindRuntime:
    """kind and Docker, with the programs that the user has installed."""

    def __init__(self) -> None:
        self._kind = KindCluster(Cache(default_root()).kind_kubeconfig)
        self._images: list[Image] = []

    def prepare(self) -> None:
        """See Runtime."""
        self._kind.check()

    def build(self, images: Collection[Image]) -> None:
        """See Runtime."""
        self._kind.claim()
        self._images = list(images)
        for image in images:
            with step(f"docker build {image.reference}", expect=image.expect):
                self._kind.build_image(image)

    def start(self) -> Session:
        """See Runtime."""
        return self._kind.start(gpus=GPUS)

    def load(self) -> None:
        """See Runtime."""
        for image in self._images:
            with step(f"load {image.reference}"):
                self._kind.load_image(image)

    def remove(self) -> None:
        """Delete the kind cluster, if there is one, and our images in Docker."""
        self._kind.remove(IMAGES)


RUNTIMES: dict[str, type[LocalRuntime] | type[KindRuntime]] = {
    "local": LocalRuntime,
    "kind": KindRuntime,
}
