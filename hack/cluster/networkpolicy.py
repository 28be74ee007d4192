"""NetworkPolicies of a cluster as one nftables table; pure. Called by ``enforcer``.

Addresses and ports are those of pods, since kube-proxy has put them in place of a Service's before
packets are filtered. The cluster has IPv4 alone, so an IPv6 block matches nothing here. What a
policy says of the node itself is ignored, as Kubernetes allows: the kubelet must reach every pod.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """One direction: where in a packet the selected pod is, where the other end, and its field."""

    name: str
    own: str
    other: str
    peers: str


INGRESS = Way("ingress", own="ip daddr", other="ip saddr", peers="from")
EGRESS = Way("egress", own="ip saddr", other="ip daddr", peers="to")


class Pods:
    """Pods with an address of their own, and how selectors choose among them."""

    def __init__(self, pods: Iterable[Object], namespaces: Iterable[Object]) -> None:
        self.all = [pod for pod in pods if _has_own_address(pod)]
        self._namespaces = {n["metadata"]["name"]: _labels(n) for n in namespaces}

    def chosen(self, selector: Object, spaces: Iterable[str]) -> list[Object]:
        """Those in the namespaces whose labels match."""
        among = set(spaces)
        return [
            pod
            for pod in self.all
            if pod["metadata"]["namespace"] in among and matches(selector, _labels(pod))
        ]

    def spaces(self, selector: Object) -> list[str]:
        """Namespaces whose labels match."""
        return [name for name, labels in self._namespaces.items() if matches(selector, labels)]


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    pairs = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", ())
    return all(labels.get(key) == value for key, value in pairs) and all(
        _holds(expression, labels.get(expression["key"])) for expression in expressions
    )


def _holds(expression: Object, value: str | None) -> bool:
    values = expression.get("values", ())
    verdicts = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return verdicts[expression["operator"]]


def ruleset(name: str, *, policies: Iterable[Object], pods: Pods) -> str:
    """The table of that name in nft's language, replacing the one before in a single step.

    In each direction a packet of a pod that some policy selects is dropped unless a rule takes it.
    """
    listed = list(policies)
    chains = "".join(_rules_of(way, listed, pods) for way in (EGRESS, INGRESS))
    to_egress, to_ingress = (_jump(way, listed, pods) for way in (EGRESS, INGRESS))
    # packets from a pod to the node are the node's input, all others are forwarded
    chains += _hook("forward", to_egress, to_ingress) + _hook("input", to_egress)
    return f"table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n{chains}}}\n"


def _rules_of(way: Way, policies: Iterable[Object], pods: Pods) -> str:
    accepted = [f"{rule} return" for p in policies for rule in _rules(way, p, pods)]
    return f"  chain {way.name} {{\n" + "".join(f"    {r}\n" for r in [*accepted, "drop"]) + "  }\n"


def _hook(name: str, *jumps: str) -> str:
    lines = [f"type filter hook {name} priority filter", "ct state established,related accept"]
    return f"  chain {name} {{\n" + "".join(f"    {x}\n" for x in [*lines, *jumps] if x) + "  }\n"


def _jump(way: Way, policies: Iterable[Object], pods: Pods) -> str:
    selected = [pod for p in policies if _governs(p, way) for pod in _selected(p, pods)]
    return f"{way.own} {_addresses(selected)} jump {way.name}" if selected else ""


def _governs(policy: Object, way: Way) -> bool:
    return way.name.title() in policy["spec"]["policyTypes"]


def _selected(policy: Object, pods: Pods) -> list[Object]:
    selector = policy["spec"].get("podSelector", {})
    return pods.chosen(selector, [policy["metadata"]["namespace"]])


def _rules(way: Way, policy: Object, pods: Pods) -> Iterator[str]:
    """One per combination of a rule's peers and ports; none lets nothing through."""
    selected = _selected(policy, pods)
    if not (selected and _governs(policy, way)):
        return
    own = f"{way.own} {_addresses(selected)}"
    for rule in policy["spec"].get(way.name, ()):
        for peer in _peers(way, rule.get(way.peers), policy, pods):
            for port in _ports(rule.get("ports"), selected if way is INGRESS else pods.all):
                yield " ".join(part for part in (own, peer, port) if part)


def _peers(way: Way, peers: list[Object] | None, policy: Object, pods: Pods) -> Iterator[str]:
    if not peers:
        yield ""
    for peer in peers or ():
        if block := peer.get("ipBlock"):
            yield from _block(way, block)
        elif found := _pods_meant(peer, policy, pods):
            yield f"{way.other} {_addresses(found)}"


def _pods_meant(peer: Object, policy: Object, pods: Pods) -> list[Object]:
    selector = peer.get("namespaceSelector")
    own = policy["metadata"]["namespace"]
    spaces = [own] if selector is None else pods.spaces(selector)
    return pods.chosen(peer.get("podSelector", {}), spaces)


def _block(way: Way, block: Object) -> Iterator[str]:
    network = ipaddress.ip_network(block["cidr"])
    if network.version == 4:
        # nft refuses a set in which one network holds another
        without = ipaddress.collapse_addresses(map(ipaddress.IPv4Network, block.get("except", ())))
        excluded = ", ".join(map(str, without))
        but = f" {way.other} != {{ {excluded} }}" if excluded else ""
        yield f"{way.other} {network}{but}"


def _ports(ports: list[Object] | None, targets: Iterable[Object]) -> Iterator[str]:
    if not ports:
        yield ""
    for port in ports or ():
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        if number is None:
            yield f"meta l4proto {protocol.lower()}"
        elif isinstance(number, int):
            yield f"{protocol.lower()} dport {number}-{port.get('endPort', number)}"
        else:
            yield from _named_port(number, protocol, targets)


def _named_port(name: str, protocol: str, targets: Iterable[Object]) -> Iterator[str]:
    for pod in targets:
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                if (port.get("name"), port.get("protocol", "TCP")) == (name, protocol):
                    dport = f"{protocol.lower()} dport {port['containerPort']}"
                    yield f"ip daddr {_addresses([pod])} {dport}"


def _has_own_address(pod: Object) -> bool:
    running = pod["status"].get("phase") in ("Pending", "Running")
    return running and bool(pod["status"].get("podIP")) and not pod["spec"].get("hostNetwork")


def _labels(found: Object) -> dict[str, str]:
    labels: dict[str, str] = found["metadata"].get("labels", {})
    return labels


def _addresses(pods: Iterable[Object]) -> str:
    return "{ " + ", ".join(sorted({pod["status"]["podIP"] for pod in pods})) + " }"
