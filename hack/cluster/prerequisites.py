"""What must be there before any long work: named at once, all of it, with what to do.

Called by every command that builds or starts something. What Debian packages provide is
installed, after saying so, where that is possible (root on Debian or Ubuntu). Everything else is
only named: root, Go, features of the kernel, space. Each check tries the real thing in a throwaway
namespace, since configuration files do not tell what a container lets its processes do.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from hack.cluster import debian, host
from hack.cluster.processes import ClusterError, run
from hack.cluster.programs import GROUPS, Group, go_version
from hack.cluster.toolchain import Cache

GIB = 1 << 30
COLD_DISK_GIB = 15  # programs 1.1, Go's caches 11.6, images 2
WARM_DISK_GIB = 4
NODE_MEMORY_GIB = 5  # cluster 1, a CPU engine 2.5, and the parts of the product
COMPILER_MEMORY_GIB = 3  # linking the API server

CLUSTER_PACKAGES = ("openssl",)
COMPILE_PACKAGES = ("gcc", "libc6-dev", "libseccomp-dev", "pkg-config")  # runc and pause
NODE_PACKAGES = (*COMPILE_PACKAGES, "nftables", "iproute2", "util-linux", "mount")
IMAGE_PACKAGES = ("buildah", "mmdebstrap", "debian-archive-keyring")


def provide(cache: Cache, *, node: bool, images: bool) -> None:
    """Make sure that a cluster can be built and started, and images built where asked for."""
    groups: list[Group] = list(GROUPS) if node else ["control-plane", "client"]
    packages = CLUSTER_PACKAGES + (NODE_PACKAGES if node else ())
    packages += IMAGE_PACKAGES if images else ()
    _refuse(
        *_faults_of_root(node=node),
        *_faults_of_go(cache, groups),
        *_faults_of_space(cache, groups, node=node),
        *debian.faults(packages),
    )
    debian.provide(packages)
    if node:
        _refuse(*_faults_of_kernel(cache))


def provide_for_build(cache: Cache, groups: Collection[Group]) -> None:
    """Make sure that these groups of programs can be compiled; root is not needed for that."""
    packages = COMPILE_PACKAGES if "node" in groups else ()
    _refuse(
        *_faults_of_go(cache, groups),
        *_faults_of_space(cache, groups, node=False),
        *debian.faults(packages),
    )
    debian.provide(packages)


def provide_for_images() -> None:
    """Make sure that images can be built from Dockerfiles."""
    _refuse(*_faults_of_root(node=True), *debian.faults(IMAGE_PACKAGES))
    debian.provide(IMAGE_PACKAGES)


def _refuse(*faults: str) -> None:
    if faults:
        raise ClusterError("this machine lacks:\n" + "\n".join(f"  - {f}" for f in faults))


def _faults_of_root(*, node: bool) -> Iterator[str]:
    if node and os.geteuid() != 0:
        yield (
            "root: a node makes mounts, network links and cgroups. Run the command as root,"
            " or use kind (make demo RUNTIME=kind) where Docker is installed"
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


def _faults_of_space(cache: Cache, groups: Collection[Group], *, node: bool) -> Iterator[str]:
    cold = bool(cache.missing(groups))
    free = shutil.disk_usage(_existing(cache.root)).free / GIB
    wanted = COLD_DISK_GIB if cold else WARM_DISK_GIB
    if free < wanted and (cold or node):
        yield (
            f"disk space: {free:.1f} GiB free at {cache.root}, about {wanted} needed."
            " Free some, or set XDG_CACHE_HOME (and GOCACHE, GOMODCACHE) to a larger disk"
        )
    memory = _available_memory() / GIB
    running = host.owner() is not None  # and has taken its share
    wanted = max(NODE_MEMORY_GIB * (node and not running), COMPILER_MEMORY_GIB * cold)
    if memory < wanted:
        yield f"memory: {memory:.1f} GiB available, about {wanted} needed. Stop other programs"


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10


def _faults_of_kernel(cache: Cache) -> Iterator[str]:
    if shutil.which("modprobe"):  # a kernel with modules may not have loaded them yet
        run(["modprobe", "-a", "overlay", "veth", "nf_tables", "nft_masq"], check=False)
    for what, works in KERNEL_FEATURES.items():
        if not works(cache.root):
            yield (
                f"{what}: use a kernel that has it, and in a container run privileged;"
                " or use kind (make demo RUNTIME=kind) where Docker is installed"
            )

    if _drops_forwarded_packets():
        yield (
            "a firewall that lets pods talk: the chain FORWARD drops what it does not know, as"
            " Docker sets it up. Run `iptables -P FORWARD ACCEPT`, or use kind (RUNTIME=kind)"
        )


def _drops_forwarded_packets() -> bool:
    chain = run(["nft", "list", "chain", "ip", "filter", "FORWARD"], check=False)
    return "policy drop" in chain.stdout


def _has_namespaces(_: Path) -> bool:
    return _succeeds("unshare", "--net", "--mount", "--pid", "--fork", "true")


def _has_veth(_: Path) -> bool:
    add = "ip link add probe0 type veth peer name probe1"
    return _succeeds("unshare", "--net", "sh", "-c", add)


def _has_nftables(_: Path) -> bool:
    return _succeeds("unshare", "--net", "nft", "-f", "-", stdin=MASQUERADING)


def _has_cgroups(_: Path) -> bool:
    base = Path("/sys/fs/cgroup")
    probe = (base if (base / "cgroup.controllers").exists() else base / "memory") / "probe"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def _has_overlay(root: Path) -> bool:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            Path(scratch, name).mkdir()
        options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
        mount = ["mount", "-t", "overlay", "probe", "-o", options, f"{scratch}/merged"]
        return _succeeds("unshare", "--mount", *mount)


def _succeeds(*argv: str, stdin: str = "") -> bool:
    return run(argv, stdin=stdin, check=False).returncode == 0


# nft 1.0.6 wants each brace on a line of its own
MASQUERADING = """table ip probe {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    masquerade
  }
}
"""


KERNEL_FEATURES: dict[str, Callable[[Path], bool]] = {
    "network, mount and process namespaces": _has_namespaces,
    "virtual Ethernet pairs (CONFIG_VETH)": _has_veth,
    "nftables with NAT (CONFIG_NF_TABLES, CONFIG_NFT_MASQ)": _has_nftables,
    "control groups that may be written (/sys/fs/cgroup)": _has_cgroups,
    "overlay file systems on the disk of the cache": _has_overlay,
}
