"""The edges of the process: settings, logs, and which objects wake which story."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import aiohttp
import pytest

from endpoint_operator import names
from endpoint_operator.controller import concerned, longest_pause
from endpoint_operator.errors import SettingsError
from endpoint_operator.listing import KEYRING
from endpoint_operator.live import Live, Ref, slim
from endpoint_operator.process import alive, leaves
from endpoint_operator.rootkey import ROOT_KEY
from endpoint_operator.settings import Settings, load_settings
from endpoint_operator.telemetry import JsonFormatter, bound
from helpers import builders
from helpers.addresses import loopbacks
from helpers.operator_process import free_port
from kube_api import Invalid, Unavailable

GIVEN = {
    "VLLM_ENDPOINTS_RELEASE_NAMESPACE": "vllm-system",
    "VLLM_ENDPOINTS_KEYRING_SECRET": "keyring",
    "VLLM_ENDPOINTS_ROOT_KEY_SECRET": "root-key",
    "VLLM_ENDPOINTS_GATEWAY_SERVICE": "gateway",
}


def test_settings_come_from_the_environment() -> None:
    settings = load_settings({**GIVEN, "VLLM_ENDPOINTS_LIVENESS_PORT": "9000", "PATH": "/bin"})
    assert settings.liveness_port == 9000
    assert settings.gateway_host == "gateway.vllm-system.svc.cluster.local"


def test_every_wrong_variable_is_named_with_its_remedy() -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({"VLLM_ENDPOINTS_LOG_LEVEL": "loud", "VLLM_ENDPOINTS_LIVENESS_PORT": "0"})
    lines = str(refusal.value).splitlines()
    assert [line.split(":")[0].removeprefix("VLLM_ENDPOINTS_") for line in lines] == [
        "RELEASE_NAMESPACE",
        "KEYRING_SECRET",
        "ROOT_KEY_SECRET",
        "GATEWAY_SERVICE",
        "LOG_LEVEL",
        "LIVENESS_PORT",
    ]
    assert all("; set it to the " in line for line in lines)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ENGINE_NODE_SELECTOR", "gpu=yes"),
        ("ENGINE_NODE_SELECTOR", '{"gpu": true}'),
        ("METRICS_SCRAPERS", "{}"),
        ("GATEWAY_LABELS", "{}"),
        ("WATCH_NAMESPACES", "team-a,Team B"),
        ("ENGINE_CA_BUNDLE", "/etc/ca.pem"),
        ("NETWORK_POLICY", "perhaps"),
    ],
)
def test_a_list_or_an_object_that_is_none_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"VLLM_ENDPOINTS_{name}: .*; set it to the "):
        load_settings({**GIVEN, f"VLLM_ENDPOINTS_{name}": text})


@pytest.mark.parametrize("url", ["llm.example.com", "ftp://x", "https://a b"])
def test_an_external_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="VLLM_ENDPOINTS_EXTERNAL_URL"):
        load_settings({**GIVEN, "VLLM_ENDPOINTS_EXTERNAL_URL": url})


def record(**extra: Any) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, "f", 1, "did %s", ("it",), None, **extra)


@pytest.mark.parametrize(
    "domain",
    [
        "cluster.local",
        "team-a.svc.cluster.local",
        "local",
        "team-a.svc",
        "team-a",
        "svc",
        "localhost",
        "app.localhost",
        "10.0.0.1",
        "com",
        "gateway.vllm-system",
    ],
)
def test_no_domain_of_hosts_may_cover_names_of_the_cluster(domain: str) -> None:
    domains = json.dumps([{"domain": "example.com"}, {"domain": domain}])
    with pytest.raises(SettingsError) as refusal:
        load_settings({**GIVEN, "VLLM_ENDPOINTS_HOST_DOMAINS": domains})
    assert str(refusal.value).startswith(f"VLLM_ENDPOINTS_HOST_DOMAINS: {domain} has names of the")
    assert "take it out of gateway.hostDomains" in str(refusal.value)


@pytest.mark.parametrize("domain", ["example.com", "local.example", "cluster.local.example.com"])
def test_other_domains_may(domain: str) -> None:
    domains = json.dumps([{"domain": domain}])
    settings = load_settings({**GIVEN, "VLLM_ENDPOINTS_HOST_DOMAINS": domains})
    assert [each.domain for each in settings.host_domains] == [domain]


def test_a_log_line_is_json_and_names_its_object() -> None:
    with bound(kind="ApiKey", namespace="team-a", name="ci"):
        line = json.loads(JsonFormatter().format(record()))
    assert line["message"] == "did it"
    assert (line["level"], line["namespace"], line["name"]) == ("info", "team-a", "ci")
    assert "name" not in json.loads(JsonFormatter().format(record()))


def test_a_log_line_has_its_exception() -> None:
    made = record()
    try:
        raise ValueError("no")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert "ValueError: no" in json.loads(JsonFormatter().format(made))["exception"]


def owned(kind: str, owner_kind: str) -> Live:
    meta = {
        "namespace": "team-a",
        "name": "child",
        "resourceVersion": "1",
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": owner_kind,
                "name": "owner",
                "uid": "u",
                "controller": True,
            }
        ],
    }
    return slim({"kind": kind, "metadata": meta})


def secret(name: str, namespace: str) -> Live:
    body = builders.secret(name, namespace, {})
    return slim(body | {"metadata": body["metadata"] | {"resourceVersion": "1"}})


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(
            slim(builders.endpoint()), [Ref("InferenceEndpoint", "team-a", "qwen")], id="endpoint"
        ),
        pytest.param(
            slim(builders.api_key()), [Ref("ApiKey", "team-a", "ci"), KEYRING], id="api key"
        ),
        pytest.param(
            owned("Deployment", "InferenceEndpoint"),
            [Ref("InferenceEndpoint", "team-a", "owner")],
            id="child of an endpoint",
        ),
        pytest.param(
            owned("Secret", "ApiKey"),
            [Ref("ApiKey", "team-a", "owner"), KEYRING],
            id="secret of a key",
        ),
        pytest.param(secret("keyring", "vllm-system"), [KEYRING], id="the keyring"),
        pytest.param(secret("root-key", "vllm-system"), [ROOT_KEY], id="the root key"),
        pytest.param(owned("Service", "Other"), [], id="child of somebody else"),
        pytest.param(secret("x", "team-a"), [KEYRING], id="a secret that may be adopted"),
        pytest.param(
            owned("Secret", "InferenceEndpoint"),
            [Ref("InferenceEndpoint", "team-a", "owner")],
            id="of an engine",
        ),
    ],
)
def test_a_change_wakes_what_it_concerns(live: Live, expected: list[Ref]) -> None:
    settings: Settings = load_settings(GIVEN)
    assert concerned(live, settings) == expected


def test_what_an_outage_or_a_key_waits_for_is_looked_at_more_often_than_a_refusal() -> None:
    assert (
        longest_pause(Ref("InferenceEndpoint", "team-a", "qwen"), Unavailable(503, "later")) == 15
    )
    assert longest_pause(Ref("InferenceEndpoint", "team-a", "qwen"), Invalid(422, "no")) == 300
    assert longest_pause(Ref("ApiKey", "team-a", "ci"), Invalid(422, "no")) == 15


async def test_probes_are_answered_by_every_kind_of_address() -> None:
    port = free_port()
    async with alive(port), aiohttp.ClientSession() as session:
        for host in loopbacks():
            async with session.get(f"http://{host}:{port}/healthz") as response:
                assert response.status == 200


def test_errors_are_found_in_groups_of_groups() -> None:
    first, second = ValueError("a"), ValueError("b")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [first]), second])
    assert list(leaves(group)) == [first, second]
