"""What a cluster could leave behind on the machine that it ran on."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from hack.cluster import host, processes

PLACES = ("/run", "/var/run", "/var/lib", "/var/log", "/etc/cni", "/opt")
NAMES = (
    *("cni", "kubelet", "containerd", "containers", "netns", "nri", "kubernetes", "calico"),
    host.NAME,
)
PROGRAMS = frozenset(
    {
        "containerd",
        "containerd-shim",
        "coredns",
        "etcd",
        "kube-apiserver",
        "kube-controller",
        "kube-proxy",
        "kube-scheduler",
        "kubelet",
        "pause",
        "traefik",
        "vllm",
    }
)


@dataclass(frozen=True)
class Snapshot:
    """Everything of that kind, by what it is."""

    processes: frozenset[str]
    mounts: frozenset[str]
    interfaces: frozenset[str]
    addresses: frozenset[str]
    nft_tables: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]
    sysctls: frozenset[str]

    def left_since(self, before: Snapshot) -> dict[str, list[str]]:
        """Return what is there now and was not then."""
        new = {
            field.name: sorted(getattr(self, field.name) - getattr(before, field.name))
            for field in fields(self)
        }
        return {kind: things for kind, things in new.items() if things}


def snapshot(cluster: str) -> Snapshot:
    """Look at the machine, but for processes that belong to clusters of other names."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return Snapshot(
        processes=_processes(cluster),
        mounts=frozenset(mount[4] for mount in mounts),
        interfaces=frozenset(line.split(": ")[1] for line in _lines("ip", "-o", "link")),
        addresses=frozenset(line.split()[3] for line in _lines("ip", "-o", "addr")),
        nft_tables=frozenset(_lines("nft", "list", "tables")),
        cgroups=_cgroups(),
        files=_files(),
        sysctls=frozenset(f"{key} = {value}" for key, value in host.sysctls().items()),
    )


def _cgroups() -> frozenset[str]:
    """Cgroups next to those of the system: in the one hierarchy of v2, or in each one of v1."""
    one_hierarchy = (host.CGROUPS / "cgroup.controllers").exists()
    found = host.CGROUPS.glob("*" if one_hierarchy else "*/*")
    return frozenset(str(path) for path in found if path.is_dir())


def _files() -> frozenset[str]:
    folders = [Path(place, name) for place in PLACES for name in NAMES]
    below = [path for folder in folders for path in folder.rglob("*")]
    return frozenset(str(path) for path in (*folders, *below) if path.exists())


def _processes(cluster: str) -> frozenset[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        pid = int(path.parent.name)
        try:
            name = path.read_text().strip()
        except OSError:
            continue  # it has ended meanwhile
        known = name in PROGRAMS or name.removesuffix("-runc-v2") in PROGRAMS
        owner = processes.mark_of(pid)
        ours = owner.name == cluster if owner else known
        if ours and processes.start_time(pid):
            found.add(f"{name} (pid {pid})")
    return frozenset(found)


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
