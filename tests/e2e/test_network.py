"""NetworkPolicies, proved by packets: what the local cluster enforces, and what engines get."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from endpoint_operator.names import ENGINE_PORT
from hack.cluster.state import LINK_LOCAL_ADDRESS
from hack.demo.deploy import NAMESPACE as RELEASE_NAMESPACE
from hack.demo.deploy import RELEASE
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


STRANGER, SCRAPER = "stranger", "scraper"
GATEWAYS = f"deployment/{RELEASE}-gateway"
DNS = "kube-dns.kube-system:53"


@pytest.fixture(scope="module")
def bystanders(demo: Demo) -> Iterator[str]:
    """The engine's address, beside pods that are no gateway."""
    names = (STRANGER, SCRAPER)
    demo.apply_all(packets.standing_pod(n, "default", labels={"app": n}) for n in names)
    for name in names:
        demo.session.call_kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    yield str(demo.engine_pods()[0]["status"]["podIP"])
    demo.session.call_kubectl("delete", "pod", *names, "--wait=false")


def test_the_gateway_reaches_an_engine_and_others_do_not(demo: Demo, bystanders: str) -> None:
    goal = f"{bystanders}:{ENGINE_PORT}"
    assert packets.reached(demo.session, GATEWAYS, [goal], namespace=RELEASE_NAMESPACE) == {goal}
    for name in (STRANGER, SCRAPER):
        assert packets.reached(demo.session, name, [goal], namespace="default") == set()


def test_a_scraper_that_the_chart_names_reaches_an_engine(demo: Demo, bystanders: str) -> None:
    (before,) = demo.engine_pods()
    goal = f"{bystanders}:{ENGINE_PORT}"
    space = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    peer = {"namespaceSelector": space, "podSelector": {"matchLabels": {"app": SCRAPER}}}

    def reached(name: str) -> bool:
        return bool(packets.reached(demo.session, name, [goal], namespace="default"))

    with demo.chart_values({"networkPolicy.scrapers": [peer]}):
        eventually(lambda: reached(SCRAPER), within_seconds=30, every_seconds=0.5)
        assert not reached(STRANGER)
    (after,) = demo.engine_pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_an_engine_reaches_others_but_no_link_local_address(demo: Demo, bystanders: str) -> None:
    assert bystanders
    stranger = demo.session.get("pod", STRANGER, namespace="default")["status"]["podIP"]
    with socket.create_server((LINK_LOCAL_ADDRESS, 0)) as metadata_service:
        link_local = f"{LINK_LOCAL_ADDRESS}:{metadata_service.getsockname()[1]}"
        goals = [link_local, DNS, f"{stranger}:9"]
        by_engine, by_stranger = (
            packets.reached(demo.session, pod, goals, namespace="default")
            for pod in ("deployment/tiny-engine", STRANGER)
        )
    assert by_stranger == set(goals)
    assert by_engine == {*goals} - {link_local}
