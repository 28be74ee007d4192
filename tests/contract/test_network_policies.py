"""What the local cluster makes of NetworkPolicies; that packets obey is seen in tests/e2e."""

from __future__ import annotations

from typing import Any

import pytest

from hack.cluster.networkpolicy import Pods, matches, ruleset

Object = dict[str, Any]

ENGINE, GATEWAY, CLIENT, DNS = "10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"


def pod(address: str, namespace: str, *, port_name: str = "", **fields: Any) -> Object:
    ports = [{"name": port_name, "containerPort": 8000}] if port_name else []
    return {
        "metadata": {"namespace": namespace, "labels": fields.pop("labels", {})},
        "spec": {"containers": [{"name": "main", "ports": ports}], **fields},
        "status": {"phase": "Running", "podIP": address},
    }


def namespace(name: str) -> Object:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}


WORLD = Pods(
    [
        pod(ENGINE, "team", port_name="http", labels={"app": "engine"}),
        pod(GATEWAY, "system", labels={"app": "gateway", "tier": "edge"}),
        pod(CLIENT, "team", labels={"app": "client"}),
        pod(DNS, "kube-system", labels={"k8s-app": "dns"}),
        pod("10.99.0.1", "team", labels={"app": "engine"}, hostNetwork=True),
    ],
    [namespace(name) for name in ("team", "system", "kube-system")],
)


def policy(**spec: Any) -> Object:
    selector = {"matchLabels": {"app": "engine"}}
    return {
        "metadata": {"namespace": "team", "name": "engine"},
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], **spec},
    }


def rules(chain: str, *policies: Object) -> list[str]:
    """The rules of one chain, without what begins each of them: the engine's own address."""
    table = ruleset("np", policies=policies, pods=WORLD)
    body = table.partition(f"chain {chain} {{\n")[2].partition("  }\n")[0]
    own = f"{'ip daddr' if chain == 'ingress' else 'ip saddr'} {{ {ENGINE} }}"
    return [line.strip().removeprefix(own).strip() for line in body.splitlines()]


@pytest.mark.parametrize(
    ("peer", "matched"),
    [
        ({"podSelector": {}}, f"ip saddr {{ {ENGINE}, {CLIENT} }}"),
        ({"podSelector": {"matchLabels": {"app": "client"}}}, f"ip saddr {{ {CLIENT} }}"),
        (
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "system"}}},
            f"ip saddr {{ {GATEWAY} }}",
        ),
        (
            {
                "namespaceSelector": {},
                "podSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
            },
            f"ip saddr {{ {GATEWAY} }}",
        ),
        ({"ipBlock": {"cidr": "192.0.2.0/24"}}, "ip saddr 192.0.2.0/24"),
        (
            {
                "ipBlock": {
                    "cidr": "0.0.0.0/0",
                    "except": ["10.0.0.0/8", "10.1.0.0/16", "169.254.0.0/16"],
                }
            },
            "ip saddr 0.0.0.0/0 ip saddr != { 10.0.0.0/8, 169.254.0.0/16 }",
        ),
    ],
    ids=["own namespace", "pods", "namespaces", "pods of namespaces", "block", "block with holes"],
)
def test_a_peer_becomes_its_addresses(peer: Object, matched: str) -> None:
    assert rules("ingress", policy(ingress=[{"from": [peer]}])) == [f"{matched} return", "drop"]


@pytest.mark.parametrize(
    ("port", "matched"),
    [
        ({"port": 8000}, "tcp dport 8000-8000"),
        ({"port": 8000, "endPort": 8010}, "tcp dport 8000-8010"),
        ({"port": 53, "protocol": "UDP"}, "udp dport 53-53"),
        ({"protocol": "SCTP"}, "meta l4proto sctp"),
        ({"port": "http"}, f"ip daddr {{ {ENGINE} }} tcp dport 8000"),
    ],
    ids=["number", "range", "udp", "any of a protocol", "name"],
)
def test_a_port_becomes_numbers(port: Object, matched: str) -> None:
    assert rules("ingress", policy(ingress=[{"ports": [port]}])) == [f"{matched} return", "drop"]


def test_what_matches_nobody_lets_nothing_through() -> None:
    nobody = {"podSelector": {"matchLabels": {"app": "nobody"}}}
    for peer in (nobody, {"ipBlock": {"cidr": "fd00::/8"}}):
        assert rules("ingress", policy(ingress=[{"from": [peer]}])) == ["drop"]
    assert rules("ingress", policy(ingress=[{"ports": [{"port": "grpc"}]}])) == ["drop"]


def test_each_peer_goes_with_each_port() -> None:
    peers = [{"ipBlock": {"cidr": f"192.0.2.{n}/32"}} for n in (1, 2)]
    found = rules("ingress", policy(ingress=[{"from": peers, "ports": [{"port": 1}, {"port": 2}]}]))
    assert found == [
        *(f"ip saddr 192.0.2.{n}/32 tcp dport {p}-{p} return" for n in (1, 2) for p in (1, 2)),
        "drop",
    ]


def test_an_empty_rule_allows_everything_in_its_direction() -> None:
    assert rules("ingress", policy(ingress=[{}])) == ["return", "drop"]
    assert rules("egress", policy(policyTypes=["Egress"], egress=[{}])) == ["return", "drop"]


def test_leaving_pods_are_asked_by_their_source_and_others_by_the_ports_of_the_goal() -> None:
    world = policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])
    assert rules("egress", world) == ["ip daddr 0.0.0.0/0 return", "drop"]
    table = ruleset("np", policies=[world], pods=WORLD)
    assert table.count(f"ip saddr {{ {ENGINE} }} jump egress\n") == 2, "forwarded, and to the node"
    assert "jump ingress" not in table


def test_policies_of_a_pod_add_up_and_other_pods_are_free() -> None:
    both = [policy(ingress=[{"ports": [{"port": n}]}]) for n in (1, 2)]
    assert rules("ingress", *both) == [*(f"tcp dport {n}-{n} return" for n in (1, 2)), "drop"]
    table = ruleset("np", policies=both, pods=WORLD)
    assert f"ip daddr {{ {ENGINE} }} jump ingress" in table
    assert CLIENT not in table


def test_without_policies_nothing_is_dropped() -> None:
    assert "jump" not in ruleset("np", policies=[], pods=WORLD)


@pytest.mark.parametrize(
    ("operator", "values", "on"),
    [
        ("In", ["a"], {"a"}),
        ("NotIn", ["a"], {"b", None}),
        ("Exists", None, {"a", "b"}),
        ("DoesNotExist", None, {None}),
    ],
)
def test_expressions_mean_what_kubernetes_says(
    operator: str, values: list[str] | None, on: set[str | None]
) -> None:
    expression = {"key": "tier", "operator": operator} | ({"values": values} if values else {})
    selector = {"matchExpressions": [expression]}
    labelled: dict[str | None, dict[str, str]] = {
        "a": {"tier": "a"},
        "b": {"tier": "b"},
        None: {"other": "a"},
    }
    assert {value for value, labels in labelled.items() if matches(selector, labels)} == on
