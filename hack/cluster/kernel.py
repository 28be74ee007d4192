"""What a node needs of the kernel and the network of this machine, found out by trying it.

Called by ``prerequisites``. Configuration files do not tell what a container lets its processes
do, so each feature is used once in a throwaway namespace. What only a program can try is left out
while that program is not installed.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import host
from hack.cluster.processes import run
from hack.cluster.state import LINK_LOCAL_ADDRESS, NODE_ADDRESS, POD_CIDR, SERVICE_CIDR

ADDRESSES = (NODE_ADDRESS, LINK_LOCAL_ADDRESS, SERVICE_CIDR, POD_CIDR)
NETWORKS = tuple(map(ipaddress.IPv4Network, ADDRESSES))
KIND = "or use kind (make demo RUNTIME=kind) where Docker is installed"
MODULES = ("overlay", "veth", "nf_tables", "nft_masq")
# nft 1.0.6 wants each brace on a line of its own
MASQUERADING = """table ip probe {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    masquerade
  }
}
"""


@dataclass(frozen=True)
class Feature:
    """Something that a node uses; ``programs`` are those that try it."""

    what: str
    works: Callable[[Path], bool]
    programs: tuple[str, ...]


def faults(cache_root: Path) -> Iterator[str]:
    """What is missing, as far as it can be tried with the programs that are there; as root."""
    if shutil.which("modprobe"):  # a kernel with modules may not have loaded them yet
        run(["modprobe", "-a", *MODULES], check=False)
    for feature in FEATURES:
        if all(map(shutil.which, feature.programs)) and not feature.works(cache_root):
            advice = f"use a kernel that has it, and in a container run privileged; {KIND}"
            yield f"{feature.what}: {advice}"
    if shutil.which("ip") and not host.is_used():  # else the addresses in use are the cluster's
        yield from _faults_of_addresses()
    if shutil.which("nft"):
        yield from _faults_of_firewall()


def _faults_of_addresses() -> Iterator[str]:
    listed = run(["ip", "-o", "-4", "route", "show", "table", "all"]).stdout
    if clashes := clashing_routes(listed):
        yield (
            f"addresses for itself ({', '.join(map(str, NETWORKS))}), which this machine uses:"
            f" `{'`, `'.join(clashes)}`. Stop what made these routes, {KIND}"
        )


def clashing_routes(listed: str) -> list[str]:
    """Routes, as ``ip -o route`` lists them, to or by way of an address of the cluster's.

    A route to a network around ours is none: those of the cluster are more specific.
    """
    return [line.strip() for line in listed.splitlines() if any(map(_is_ours, _networks(line)))]


def _networks(route: str) -> Iterator[ipaddress.IPv4Network]:
    # the first one is where it leads, the ones after `via` how
    for destination in re.findall(r"^(?:[a-z]+ )?([\d./]+)|via ([\d.]+)", route):
        yield ipaddress.IPv4Network("".join(destination), strict=False)


def _is_ours(network: ipaddress.IPv4Network) -> bool:
    return any(network.subnet_of(ours) for ours in NETWORKS)


def _faults_of_firewall() -> Iterator[str]:
    for chain in dropping_chains(run(["nft", "list", "ruleset"], check=False).stdout):
        rule = f"nft insert rule {chain} ip"
        yield (
            f"a firewall that lets pods talk: the chain `{chain}` drops what it does not know, as"
            f" Docker and ufw set it up. Run `{rule} saddr {POD_CIDR} accept; {rule} daddr"
            f" {POD_CIDR} accept`, which `make demo-down` does not take back (the next start of"
            f" the firewall does), {KIND}"
        )


def dropping_chains(ruleset: str) -> list[str]:
    """Chains in front of the host or of pods that drop by default, in tables that name no pods."""
    dropping: list[tuple[str, str]] = []
    for_pods, table, chain = set(), "", ""
    for line in ruleset.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif re.search(r"hook (input|forward) .*policy drop", line):
            dropping.append((table, chain))
        elif POD_CIDR in line and "accept" in words:
            for_pods.add(table)
    return [f"{table} {chain}" for table, chain in dropping if table not in for_pods]


def _has_namespaces(_: Path) -> bool:
    return _succeeds("unshare", "--net", "--mount", "--pid", "--fork", "true")


def _has_veth(_: Path) -> bool:
    add = "ip link add probe0 type veth peer name probe1"
    return _succeeds("unshare", "--net", "sh", "-c", add)


def _has_nftables(_: Path) -> bool:
    return _succeeds("unshare", "--net", "nft", "-f", "-", stdin=MASQUERADING)


def _has_cgroups(_: Path) -> bool:
    base = host.CGROUPS
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


FEATURES = (
    Feature("network, mount and process namespaces", _has_namespaces, ("unshare",)),
    Feature("virtual Ethernet pairs (CONFIG_VETH)", _has_veth, ("unshare", "ip")),
    Feature(
        "nftables with NAT (CONFIG_NF_TABLES, CONFIG_NFT_MASQ)", _has_nftables, ("unshare", "nft")
    ),
    Feature("control groups that may be written (/sys/fs/cgroup)", _has_cgroups, ()),
    Feature("overlay file systems on the disk of the cache", _has_overlay, ("unshare", "mount")),
)
