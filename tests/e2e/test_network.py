"""NetworkPolicies, proved by packets: what the local cluster enforces, and what engines get."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import packets
from helpers.demo_cluster import Demo, eventually

pytestmark = pytest.mark.timeout(120, func_only=True)

NAMESPACE = "packets"
PORTS = (8000, 8001, 8005, 8006)
ALL, NONE = frozenset(PORTS), frozenset[int]()
MIDDLE, LAST = frozenset({8001, 8005}), frozenset({8006})
CLIENTS = {"front": "edge", "back": "inner"}
EDGE = {"key": "tier", "operator": "In", "values": ["edge"]}
NOT_EDGE = {"key": "tier", "operator": "NotIn", "values": ["edge"]}
PODS, HOLE = "10.244.0.0/16", "BACK/32"

# by the name of a server: what lets packets in, and the ports that front and back then reach
RULES: dict[str, tuple[list[dict[str, Any]], frozenset[int], frozenset[int]]] = {
    "nothing": ([], NONE, NONE),
    "everything": ([{}], ALL, ALL),
    "labels": ([{"from": [{"podSelector": {"matchLabels": {"tier": "edge"}}}]}], ALL, NONE),
    "in": ([{"from": [{"podSelector": {"matchExpressions": [EDGE]}}]}], ALL, NONE),
    "not-in": ([{"from": [{"podSelector": {"matchExpressions": [NOT_EDGE]}}]}], NONE, ALL),
    "range": ([{"ports": [{"port": 8001, "endPort": 8005}]}], MIDDLE, MIDDLE),
    "name": ([{"ports": [{"port": "port-8006"}]}], LAST, LAST),
    "except": ([{"from": [{"ipBlock": {"cidr": PODS, "except": [HOLE]}}]}], ALL, NONE),
}


@pytest.fixture(scope="module")
def addresses(demo: Demo) -> Iterator[dict[str, str]]:
    """The addresses of a server for each rule and of two clients, by name."""
    demo.session.call_kubectl("create", "namespace", NAMESPACE)
    pods = [
        packets.standing_pod(name, NAMESPACE, labels={"app": name}, ports=PORTS) for name in RULES
    ]
    for name, tier in CLIENTS.items():
        pods.append(packets.standing_pod(name, NAMESPACE, labels={"tier": tier}))
    demo.apply_all(pods)
    yield packets.addresses(demo.session, namespace=NAMESPACE)
    demo.session.call_kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def policy(server: str, back: str) -> dict[str, Any]:
    selector = {"matchLabels": {"app": server}}
    ingress = json.loads(json.dumps(RULES[server][0]).replace("BACK", back))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": server, "namespace": NAMESPACE},
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress},
    }


def test_the_local_cluster_enforces_policies(demo: Demo, addresses: dict[str, str]) -> None:
    goals = {f"{addresses[server]}:{port}": (server, port) for server in RULES for port in PORTS}

    def seen() -> dict[str, set[tuple[str, int]]]:
        return {
            client: {
                goals[g] for g in packets.reached(demo.session, client, goals, namespace=NAMESPACE)
            }
            for client in CLIENTS
        }

    everything = set(goals.values())
    assert seen() == {"front": everything, "back": everything}
    demo.apply_all([policy(server, addresses["back"]) for server in RULES])
    wanted = {
        client: {(server, port) for server, rule in RULES.items() for port in rule[column]}
        for column, client in enumerate(CLIENTS, 1)
    }
    with contextlib.suppress(AssertionError):  # the comparison below shows more
        eventually(lambda: seen() == wanted, within_seconds=10)
    assert seen() == wanted
