"""What a node does to the kernel and to the host's own directories, and how it is undone.

A machine has room for one node: names in the kernel are constants, and whoever runs a node owns
``/run/vllm-endpoints``, which tells where its state is and how things were before. All of it is
undone from these constants and that record, whatever was killed at whatever moment.

Nothing here starts or stops a process of the cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hack.cluster.processes import ClusterError, run, wait_until
from hack.cluster.state import (
    LINK_LOCAL_ADDRESS,
    NODE_ADDRESS,
    NODE_POD_CIDR,
    POD_CIDR,
    SERVICE_CIDR,
)

NAME = "vllm-endpoints"  # of the cgroups, the nftables table and the CNI network
# short, since containerd refuses to make its sockets (64 digits each) below a longer path
RUNTIME_DIR = Path("/run/vllm-endpoints")
CONTAINERD_SOCKET = RUNTIME_DIR / "containerd.sock"
SHIM_SOCKETS = RUNTIME_DIR / "s"
CGROUPS = Path("/sys/fs/cgroup")
POLICIES = f"{NAME}-policies"  # the nftables table of NetworkPolicies
NFT_TABLES = tuple(
    f"table {name}"
    for name in (
        *(f"ip {NAME}", f"ip {POLICIES}"),
        *("ip kube-proxy", "ip6 kube-proxy", "inet cni_hostport"),
    )
)
ADDRESSES = (NODE_ADDRESS, LINK_LOCAL_ADDRESS)
LOG_LINKS = Path("/var/log/containers")
CNI_RESULTS = Path("/var/lib/cni/results")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
SYSCTLS = (  # changed by kubelet, kube-proxy, the CNI plugins or us
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.conf.default.forwarding",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.vs.conn_reuse_mode",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)


def owner() -> Path | None:
    """State directory of the cluster whose node runs, or last ran, on this machine.

    ClusterError where that may not be known: only root makes a node, and reads who did.
    """
    try:
        return (RUNTIME_DIR / "owner").readlink()
    except FileNotFoundError:
        return None
    except PermissionError as denied:
        raise ClusterError(
            "root has a cluster with a node on this machine: run the same command as root"
        ) from denied


def is_used() -> bool:
    """Whether a node runs, or has left something behind; everybody may know."""
    return RUNTIME_DIR.exists()


def is_used_by(state_dir: Path) -> bool:
    """Whether the node, or what it left, is that of the cluster in this directory."""
    return os.geteuid() == 0 and owner() == state_dir


def claim(state_dir: Path) -> None:
    """Take the machine for a cluster's node, and record how things are before it changes them."""
    RUNTIME_DIR.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (RUNTIME_DIR / "owner").symlink_to(state_dir)
    if owner() != state_dir:
        raise ClusterError(f"the cluster in {owner()} took this machine at the same moment")
    record = RUNTIME_DIR / "before.json"
    if not record.exists():
        part = record.with_suffix(".part")
        before = {"sysctls": sysctls(), "absent": _absent_directories(), "tables": _nft_tables()}
        part.write_text(json.dumps(before))
        part.rename(record)


def refuse_foreign_node() -> None:
    """ClusterError if another Kubernetes keeps the same tables in this kernel."""
    if "table ip kube-proxy" in _nft_tables():
        raise ClusterError(
            "another Kubernetes node runs on this machine (nftables table `ip kube-proxy`):"
            " stop it, or remove what it left with `nft delete table ip kube-proxy`"
        )


def prepare() -> None:
    """Addresses, masquerading for pods, forwarding, and a cgroup of our own."""
    present = run(["ip", "-o", "addr"]).stdout
    for address in ADDRESSES:
        if f" {address}/" not in present:
            run(["ip", "addr", "add", f"{address}/32", "dev", "lo"])
    _write_sysctl("net.ipv4.ip_forward", "1")
    run(["nft", "-f", "-"], stdin=_masquerading())
    if (CGROUPS / "cgroup.controllers").exists():
        _make_cgroup_v2()
    else:
        _make_cgroups_v1()


def _masquerading() -> str:
    return f"""
table ip {NAME}
delete table ip {NAME}
table ip {NAME} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {POD_CIDR} ip daddr != {{ {POD_CIDR}, {SERVICE_CIDR} }} masquerade
  }}
}}
"""


def _make_cgroup_v2() -> None:
    for name in (CGROUPS / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # some controllers can't be handed down everywhere
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{name}")
    (CGROUPS / NAME).mkdir(exist_ok=True)


def _make_cgroups_v1() -> None:
    for parent in CGROUPS.iterdir():
        if parent.is_symlink() or not (parent / "cgroup.procs").exists():
            continue
        (parent / NAME).mkdir(exist_ok=True)
        # a new cpuset is empty, and nothing can run in it
        for knob in ("cpuset.cpus", "cpuset.mems"):
            if (parent / knob).exists():
                (parent / NAME / knob).write_text((parent / knob).read_text())


def cgroups() -> list[Path]:
    """Our cgroups, one per hierarchy."""
    return [p for p in (CGROUPS / NAME, *CGROUPS.glob(f"*/{NAME}")) if p.is_dir()]


def pod_processes() -> set[int]:
    """Pids of everything that runs in our cgroups, that is, in pods."""
    found: set[int] = set()
    for group in cgroups():
        for path in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in path.read_text().split()}
    return found


def undo() -> None:
    """Put the kernel and the host's directories back; safe to repeat. Processes must be gone."""
    state_dir = owner()
    _delete_links()
    unmount(RUNTIME_DIR)
    for table in tables_to_delete(before=_before().get("tables", []), now=_nft_tables()):
        run(["nft", "delete", *table.split()])
    for address in ADDRESSES:
        run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=False)
    wait_until("the cgroups of pods to go", _remove_cgroups, timeout_seconds=10)
    _remove_host_files(state_dir)
    _restore()
    shutil.rmtree(RUNTIME_DIR, ignore_errors=True)


def tables_to_delete(*, before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Tables that a node makes, but for those that somebody else had made before."""
    return [table for table in NFT_TABLES if table in set(now) - set(before)]


def unmount(directory: Path) -> None:
    """Unmount everything at or below a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    mine = [point for point in points if Path(point).is_relative_to(directory)]
    if mine:
        run(["umount", "-l", *sorted(mine, key=len, reverse=True)], check=False)


def _delete_links() -> None:
    """Delete the host's ends of pod links, which are where pod addresses are routed to."""
    routes = run(["ip", "-o", "-4", "route", "show", "root", NODE_POD_CIDR]).stdout
    for line in routes.splitlines():
        words = line.split()
        link = words[words.index("dev") + 1] if "dev" in words else ""
        if link.startswith("veth"):
            run(["ip", "link", "del", link], check=False)


def _remove_cgroups() -> bool:
    for group in cgroups():
        below = [path for path in group.rglob("*") if path.is_dir()]
        for path in sorted([group, *below], key=lambda p: -len(p.parts)):
            with contextlib.suppress(OSError):  # busy until the kernel has reaped its processes
                path.rmdir()
    return not cgroups()


def _remove_host_files(state_dir: Path | None) -> None:
    for link in LOG_LINKS.glob("*.log"):
        if state_dir and link.is_symlink() and link.readlink().is_relative_to(state_dir):
            link.unlink()
    for result in CNI_RESULTS.glob(f"{NAME}-*"):
        result.unlink()
    if str(DEVICE_PLUGINS) in _before().get("absent", []):
        shutil.rmtree(DEVICE_PLUGINS, ignore_errors=True)


def _restore() -> None:
    before = _before()
    for directory in before.get("absent", []):
        with contextlib.suppress(OSError):  # not made, or in use by somebody else by now
            Path(directory).rmdir()
    for key, value in before.get("sysctls", {}).items():
        if _sysctl(key) != value:
            _write_sysctl(key, value)


def _before() -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((RUNTIME_DIR / "before.json").read_text())
    except (OSError, ValueError):
        return {}
    return record


def _absent_directories() -> list[str]:
    """Directories that do not exist and may be made by a node, innermost first."""
    named = (LOG_LINKS, Path("/var/log/pods"), CNI_RESULTS, DEVICE_PLUGINS)
    chain = {p for path in named for p in (path, path.parent)}
    return sorted((str(p) for p in chain if not p.exists()), key=len, reverse=True)


def sysctls() -> dict[str, str]:
    """What the kernel's settings are now that a node changes."""
    return {key: value for key in SYSCTLS if (value := _sysctl(key)) is not None}


def _sysctl(key: str) -> str | None:
    try:
        return _sysctl_file(key).read_text().strip()
    except OSError:
        return None


def _write_sysctl(key: str, value: str) -> None:
    _sysctl_file(key).write_text(value)


def _sysctl_file(key: str) -> Path:
    return Path("/proc/sys", key.replace(".", "/"))


def enforces_policies() -> bool:
    """Whether the table of NetworkPolicies is in the kernel."""
    return f"table ip {POLICIES}" in _nft_tables()


def _nft_tables() -> list[str]:
    return run(["nft", "list", "tables"]).stdout.splitlines()
