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

pytestmark = pytest.mark.timeout(300, func_only=True)

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


@pytest.fixture(scope="module", autouse=True)
def place(demo: Demo) -> Iterator[None]:
    """A namespace for pods that are neither engine nor gateway."""
    demo.session.call_kubectl("create", "namespace", NAMESPACE)
    yield
    demo.session.call_kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def addresses(demo: Demo) -> dict[str, str]:
    """The addresses of a server for each rule and of two clients, by name."""
    pods = [
        packets.standing_pod(name, NAMESPACE, labels={"app": name}, ports=PORTS) for name in RULES
    ]
    for name, tier in CLIENTS.items():
        pods.append(packets.standing_pod(name, NAMESPACE, labels={"tier": tier}))
    demo.apply_all(pods)
    return packets.addresses(demo.session, namespace=NAMESPACE)


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
        eventually(lambda: seen() == wanted, within_seconds=60)
    assert seen() == wanted


STRANGER, SCRAPER = "stranger", "scraper"
GATEWAYS = f"deployment/{RELEASE}-gateway"
DNS = "kube-dns.kube-system:53"


@pytest.fixture(scope="module")
def bystanders(demo: Demo) -> dict[str, str]:
    """The addresses of pods that are no gateway, by name."""
    names = (STRANGER, SCRAPER)
    demo.apply_all(packets.standing_pod(n, NAMESPACE, labels={"app": n}) for n in names)
    return packets.addresses(demo.session, namespace=NAMESPACE)


@pytest.fixture
def engine(demo: Demo, bystanders: dict[str, str]) -> str:
    """An engine's address and port, beside pods that are no gateway."""
    assert bystanders
    return f"{demo.engine_pods()[0]['status']['podIP']}:{ENGINE_PORT}"


def test_the_gateway_reaches_an_engine_and_others_do_not(demo: Demo, engine: str) -> None:
    goal = {engine}
    assert packets.reached(demo.session, GATEWAYS, goal, namespace=RELEASE_NAMESPACE) == goal
    for name in (STRANGER, SCRAPER):
        assert packets.reached(demo.session, name, goal, namespace=NAMESPACE) == set()


def test_a_scraper_that_the_chart_names_reaches_an_engine(demo: Demo, engine: str) -> None:
    (before,) = demo.engine_pods()
    space = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    peer = {"namespaceSelector": space, "podSelector": {"matchLabels": {"app": SCRAPER}}}

    def reached(name: str) -> bool:
        return bool(packets.reached(demo.session, name, [engine], namespace=NAMESPACE))

    with demo.chart_values({"networkPolicy.scrapers": [peer]}):
        eventually(lambda: reached(SCRAPER), within_seconds=60, every_seconds=0.5)
        assert not reached(STRANGER)
    (after,) = demo.engine_pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_an_engine_reaches_others_but_no_link_local_address(
    demo: Demo, bystanders: dict[str, str]
) -> None:
    with socket.create_server((LINK_LOCAL_ADDRESS, 0)) as metadata_service:
        link_local = f"{LINK_LOCAL_ADDRESS}:{metadata_service.getsockname()[1]}"
        goals = [link_local, DNS, f"{bystanders[STRANGER]}:9"]
        by_engine, by_stranger = (
            packets.reached(demo.session, pod, goals, namespace=namespace)
            for pod, namespace in (("deployment/tiny-engine", "default"), (STRANGER, NAMESPACE))
        )
    assert by_stranger == set(goals)
    assert by_engine == {*goals} - {link_local}
