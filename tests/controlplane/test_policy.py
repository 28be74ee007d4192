"""What the gateway is told of ``spec.access``: what is set, ready for use, with allowed hosts."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.policy import Policy, allowed_domains, policy, still_allowed
from endpoint_operator.settings import HostDomain, Settings
from helpers import builders

Object = dict[str, Any]

FOR_A = HostDomain(domain="example.com", namespaces=("team-a", "team-c"))
FOR_ALL = HostDomain(domain="shared.example.org")


@pytest.fixture
def domains(settings: Settings) -> Settings:
    """Settings that allow one domain to two namespaces and one to all."""
    allowed = {"host_domains": (FOR_A, FOR_ALL), "gateway_hosts": ("llm.example.com",)}
    return settings.model_copy(update=allowed)


def told(access: Object, settings: Settings, namespace: str = "team-a") -> Policy:
    return policy(parse_endpoint(builders.endpoint(access=access)).spec.access, namespace, settings)


@pytest.mark.parametrize(
    "access",
    [
        {},
        {"aliases": [], "hosts": [], "routes": [], "timeouts": {}, "limits": {}},
        {"modelField": "Ignore", "loadBalancing": {"strategy": "LeastInFlight"}},
    ],
    ids=["nothing", "empty", "defaults"],
)
def test_what_is_not_set_is_not_told(access: Object, domains: Settings) -> None:
    assert told(access, domains) == Policy({}, [])


def test_all_that_is_set_is_told_ready_for_use(domains: Settings) -> None:
    access = {
        "aliases": ["gpt-4o-mini"],
        "hosts": ["qwen.example.com"],
        "modelField": "Match",
        "routes": ["score", "chat.completions"],
        "timeouts": {"connect": "5s", "firstByte": "1h30m", "idle": "2m", "total": "24h"},
        "limits": {"requestsPerMinute": 600, "tokensPerMinute": 200000, "maxInFlight": 64},
        "loadBalancing": {"strategy": "PrefixHash"},
    }
    seconds = {
        "connectSeconds": 5,
        "firstByteSeconds": 5400,
        "idleSeconds": 120,
        "totalSeconds": 86400,
    }
    assert told(access, domains) == Policy(access | {"timeouts": seconds}, [])


@pytest.mark.parametrize("timeout", ["connect", "firstByte", "idle", "total"])
def test_each_timeout_is_told_by_itself(timeout: str, domains: Settings) -> None:
    said = told({"timeouts": {timeout: "90s"}}, domains).access
    assert said == {"timeouts": {f"{timeout}Seconds": 90}}


@pytest.mark.parametrize("limit", ["requestsPerMinute", "tokensPerMinute", "maxInFlight"])
def test_each_limit_is_told_by_itself(limit: str, domains: Settings) -> None:
    assert told({"limits": {limit: 7}}, domains).access == {"limits": {limit: 7}}


@pytest.mark.parametrize(
    ("host", "namespace", "allowed"),
    [
        pytest.param("example.com", "team-a", True, id="the domain"),
        pytest.param("a.b.example.com", "team-c", True, id="below it"),
        pytest.param("a.example.com", "team-b", False, id="of another namespace"),
        pytest.param("badexample.com", "team-a", False, id="that only ends like it"),
        pytest.param("example.org", "team-a", False, id="above it"),
        pytest.param("llm.example.com", "team-a", False, id="the gateway's own"),
        pytest.param("x.llm.example.com", "team-a", True, id="below the gateway's own"),
        pytest.param("x.shared.example.org", "team-b", True, id="of all namespaces"),
    ],
)
def test_a_host_is_in_a_domain_that_the_namespace_may_have(
    host: str, namespace: str, *, allowed: bool, domains: Settings
) -> None:
    other = "x.shared.example.org"
    made = told({"hosts": list(dict.fromkeys([host, other]))}, domains, namespace)
    assert (host in made.access["hosts"], list(made.refused_hosts)) == (
        (True, []) if allowed else (False, [host])
    )
    assert other in made.access["hosts"]


def test_without_domains_no_host_is_allowed_and_the_rest_is_told(settings: Settings) -> None:
    made = told({"hosts": ["qwen.example.com"], "aliases": ["a"]}, settings)
    assert made == Policy({"aliases": ["a"]}, ["qwen.example.com"])


def test_a_namespace_is_told_of_its_own_domains_only(domains: Settings) -> None:
    assert allowed_domains("team-a", domains) == ["example.com", "shared.example.org"]
    assert allowed_domains("team-b", domains) == ["shared.example.org"]


def test_hosts_that_are_taken_back_go_from_a_status_and_nothing_else(domains: Settings) -> None:
    said = {"url": "u", "access": {"aliases": ["a"], "hosts": ["a.example.com", "a.other.org"]}}
    kept = still_allowed(said, "team-a", domains)
    assert kept == {"url": "u", "access": {"aliases": ["a"], "hosts": ["a.example.com"]}}
    assert still_allowed({"url": "u"}, "team-a", domains) == {"url": "u"}
