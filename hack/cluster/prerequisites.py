"""What must be there before any long work: named at once, all of it, with what to do.

Called by every command that builds or starts something. What Debian packages provide is
installed, after saying so, where that is possible (root on Debian or Ubuntu). Everything else is
only named: root, Go, space (``space``), features of the kernel (``kernel``).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Collection, Iterator

from hack.cluster import debian, kernel, space
from hack.cluster.processes import ClusterError, run
from hack.cluster.programs import GROUPS, Group, go_version
from hack.cluster.toolchain import Cache

CLUSTER_PACKAGES = ("openssl",)
COMPILE_PACKAGES = ("gcc", "libc6-dev", "libseccomp-dev", "pkg-config")  # runc and pause
NODE_PACKAGES = (*COMPILE_PACKAGES, "nftables", "iproute2", "util-linux", "mount")
IMAGE_PACKAGES = ("buildah", "mmdebstrap", "debian-archive-keyring")


def provide(cache: Cache, *, node: bool, images: bool) -> None:
    """Make sure that a cluster can be built and started, and images built where asked for."""
    _refuse(*_faults_of_platform(any_processor=not (node or images)))
    groups: list[Group] = list(GROUPS) if node else ["control-plane", "client"]
    packages = CLUSTER_PACKAGES + (NODE_PACKAGES if node else ())
    packages += IMAGE_PACKAGES if images else ()
    _refuse(
        *_faults_of_root(node=node),
        *_faults_of_go(cache, groups),
        *space.faults(cache, groups, node=node),
        *debian.faults(packages),
        *_faults_of_kernel(cache, node=node),
    )
    if debian.provide(packages):  # with which more can be tried
        _refuse(*_faults_of_kernel(cache, node=node))


def provide_for_build(cache: Cache, groups: Collection[Group]) -> None:
    """Make sure that these groups of programs can be compiled; root is not needed for that."""
    if set(groups) - {"client"}:
        _refuse(*_faults_of_platform(any_processor=True))
    packages = COMPILE_PACKAGES if "node" in groups else ()
    _refuse(
        *_faults_of_go(cache, groups),
        *space.faults(cache, groups, node=False),
        *debian.faults(packages),
    )
    debian.provide(packages)


def provide_for_images() -> None:
    """Make sure that images can be built from Dockerfiles."""
    _refuse(*_faults_of_platform(any_processor=False))
    _refuse(*_faults_of_root(node=True), *debian.faults(IMAGE_PACKAGES))
    debian.provide(IMAGE_PACKAGES)


def _refuse(*faults: str) -> None:
    if faults:
        raise ClusterError("this machine lacks:\n" + "\n".join(f"  - {f}" for f in faults))


def _faults_of_platform(*, any_processor: bool) -> Iterator[str]:
    system, processor = platform.system(), platform.machine()
    if system != "Linux" or not (any_processor or processor in ("x86_64", "AMD64")):
        yield f"Linux on x86-64: this is {system} on {processor}. Use such a machine, {kernel.KIND}"


def _faults_of_root(*, node: bool) -> Iterator[str]:
    if node and os.geteuid() != 0:
        yield (
            "root: a node makes mounts, network links and cgroups. Run the command as root,"
            f" {kernel.KIND}"
        )


def _faults_of_go(cache: Cache, groups: Collection[Group]) -> Iterator[str]:
    if not cache.missing(groups):
        return
    wanted = ".".join(str(n) for n in go_version())
    advice = f"install Go {wanted} or newer (https://go.dev/doc/install) and put it on PATH"
    if not shutil.which("go"):
        yield f"Go, which compiles the cluster: {advice}"
        return
    found = run(["go", "env", "GOVERSION", "GOTOOLCHAIN"], env=os.environ | {"GOFLAGS": ""})
    version, toolchain = found.stdout.split()[:2]
    # since 1.21 Go fetches a newer release of itself unless it is told to stay local
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if numbers < go_version() and (toolchain == "local" or numbers < (1, 21)):
        yield f"Go {wanted} (this is {version}): {advice}, or set GOTOOLCHAIN=auto"


def _faults_of_kernel(cache: Cache, *, node: bool) -> Iterator[str]:
    if node and os.geteuid() == 0:  # nobody else can try
        yield from kernel.faults(cache.root)
