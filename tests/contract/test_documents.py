"""The documents in which operator and gateway meet: one writes them, the other reads them.

Neither imports the other, so each has its own copy of every name and rule. These tests hand what
the operator makes to what the gateway reads it with.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from math import inf
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway import discovery, objects
from endpoint_gateway.catalog import Catalog, Endpoint, Key, Keyring, Limits, Timeouts
from endpoint_gateway.routing import by_host, find_model
from endpoint_operator import keyring, keys, names, status
from endpoint_operator.api.access import LimitsSpec
from endpoint_operator.api.v1alpha1 import ApiKey, ApiKeySpec, parse_endpoint
from endpoint_operator.claimants import EVERYWHERE, Claimants
from endpoint_operator.conditions import Finding
from endpoint_operator.desired import desired_objects
from endpoint_operator.errors import RootKeyError
from endpoint_operator.keys import Held, RootKey
from endpoint_operator.live import slim
from endpoint_operator.policy import policy
from endpoint_operator.settings import HostDomain, Settings
from helpers import builders, golden
from helpers.tree import ROOT

RELEASE_NAMESPACE = "vllm-system"


def api_key(namespace: str, endpoints: list[str]) -> ApiKey:
    return ApiKey(namespace, "ci", "uid", 1, ApiKeySpec(endpoints=endpoints))


def as_gateway_reads(*entries: keyring.Entry) -> Keyring:
    secret = keyring.keyring_secret(RELEASE_NAMESPACE, "keyring", entries)
    document = base64.b64decode(secret["data"]["keyring.json"])
    return objects.parse_keyring(document, release_namespace=RELEASE_NAMESPACE)


@given(
    root_key=st.binary(min_size=32, max_size=64),
    uid=st.text(min_size=1, max_size=40),
    generation=st.integers(min_value=1),
)
def test_both_derive_the_same_key_for_an_engine(root_key: bytes, uid: str, generation: int) -> None:
    operators = keys.engine_key(root_key, uid, generation)
    assert operators == objects.engine_key(root_key, uid, generation)


def test_the_key_of_an_engine_never_changes_with_a_release() -> None:
    # an operator that derives another one would restart every engine of every user
    key = keys.engine_key(bytes(range(32)), "5a3c6e1e-0000-4000-8000-000000000000", 1)
    assert key == "sk-engine-3ef1163ef63eb2b3201c11387ef6ab958e593cb72e0fca9b8be71ab8628c60e8"


@pytest.mark.parametrize(
    ("namespace", "scope", "opened"),
    [
        ("team-a", ["qwen"], {"team-a/qwen"}),
        ("team-a", ["*"], {"team-a/qwen", "team-a/llama"}),
        ("team-a", ["*/*"], set()),
        (RELEASE_NAMESPACE, ["*"], {f"{RELEASE_NAMESPACE}/own"}),
        (
            RELEASE_NAMESPACE,
            ["*/*"],
            {"team-a/qwen", "team-a/llama", "team-b/qwen", f"{RELEASE_NAMESPACE}/own"},
        ),
    ],
    ids=["by-name", "namespace", "cluster-from-elsewhere", "release-namespace", "cluster"],
)
def test_a_key_in_the_keyring_opens_what_its_object_says(
    namespace: str, scope: list[str], opened: set[str]
) -> None:
    listed = keyring.entries(api_key(namespace, scope), Held("sk-secret"), now=0)
    (key,) = as_gateway_reads(*listed).values()
    endpoints = [
        Endpoint("team-a", "qwen"),
        Endpoint("team-a", "llama"),
        Endpoint("team-b", "qwen"),
        Endpoint(RELEASE_NAMESPACE, "own"),
    ]
    assert {e.qualified_name for e in endpoints if key.may_use(e)} == opened


@pytest.mark.parametrize(
    ("expires_at", "previous_until", "ends"),
    [
        (None, 2000000000.0, {"sk-1": inf, "sk-0": 2000000000}),
        ("2027-01-01T00:00:00Z", 2000000000.0, {"sk-1": 1798761600, "sk-0": 1798761600}),
        ("2027-01-01T00:00:00Z", 1700000000.0, {"sk-1": 1798761600, "sk-0": 1700000000}),
        ("9999-12-31T23:59:59Z", inf, {"sk-1": 253402300799, "sk-0": 253402300799}),
    ],
)
def test_each_key_ends_at_the_gateway_when_its_object_says(
    expires_at: str | None, previous_until: float, ends: dict[str, float]
) -> None:
    spec = ApiKeySpec(endpoints=["*"], expires_at=expires_at)
    held = Held("sk-1", "sk-0", previous_until=previous_until)
    listed = keyring.entries(ApiKey("team-a", "ci", "uid", 1, spec), held, now=0)
    read = as_gateway_reads(*listed)
    assert {key: read[sha256(key.encode()).digest()].expires for key in ends} == ends
    assert len(read) == len(ends)


def test_a_key_has_the_limits_of_its_object_and_opens_what_it_opens_without() -> None:
    limits = LimitsSpec(requests_per_minute=60, tokens_per_minute=50000, max_in_flight=8)
    owner = ApiKey("team-a", "ci", "uid", 1, ApiKeySpec(endpoints=["qwen"], limits=limits))
    (key,) = as_gateway_reads(*keyring.entries(owner, Held("sk"), now=0)).values()
    assert key.limits == Limits(60, 50000, 8)
    assert key.may_use(Endpoint("team-a", "qwen"))
    assert not key.may_use(Endpoint("team-a", "llama"))


def test_an_empty_keyring_opens_nothing() -> None:
    assert as_gateway_reads() == {}


@pytest.mark.parametrize("before", [b"", b"o" * 32])
def test_the_root_keys_of_the_secret_are_those_that_the_gateway_takes(before: bytes) -> None:
    secret = keys.root_key_secret(RELEASE_NAMESPACE, "root-key", RootKey(b"n" * 32, before))
    assert objects.parse_root_keys(secret) == ((b"n" * 32, before) if before else (b"n" * 32,))


def encoded(**fields: bytes) -> dict[str, Any]:
    data = {k.replace("_", "-"): base64.b64encode(value).decode() for k, value in fields.items()}
    return {"metadata": {"namespace": "n", "name": "s"}, "data": data}


NEWEST = b"n" * 32


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (encoded(root_key=NEWEST), (NEWEST,)),
        (encoded(root_key=NEWEST, previous_root_key=b"o" * 33), (NEWEST, b"o" * 33)),
        (encoded(root_key=NEWEST, previous_root_key=b"o" * 31), (NEWEST,)),
        (encoded(root_key=NEWEST, previous_root_key=b""), (NEWEST,)),
        (encoded(root_key=b"n" * 31, previous_root_key=NEWEST), None),
        (encoded(root_key=b"xxx"), None),
        (encoded(previous_root_key=NEWEST), None),
        (encoded(root_key=NEWEST) | {"data": {"root-key": "%"}}, None),
    ],
)
def test_both_take_the_same_for_root_keys(
    secret: dict[str, Any], expected: tuple[bytes, ...] | None
) -> None:
    def operators() -> tuple[bytes, ...]:
        read = keys.read_root_key(secret)
        return (read.newest, read.before) if read.before else (read.newest,)

    if expected is None:
        with pytest.raises(RootKeyError):
            operators()
        with pytest.raises((ValueError, KeyError)):
            objects.parse_root_keys(secret)
    else:
        assert operators() == objects.parse_root_keys(secret) == expected


# -- endpoints and their replicas --------------------------------------------------------------


def endpoint() -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceEndpoint",
        "metadata": {
            "name": "qwen",
            "namespace": "team-a",
            "uid": "the-uid",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"model": {"source": "hf://Qwen/Qwen2.5-7B-Instruct", "servedNames": ["a", "b"]}},
    }


def with_status(accepted: Finding, facts: status.Facts | None) -> dict[str, Any]:
    body = endpoint()
    computed = status.endpoint_status(
        body, status.Observation(), accepted=accepted, facts=facts, now="now"
    )
    return body | {"status": computed}


def test_an_accepted_endpoint_is_routed_by_its_served_names() -> None:
    facts = status.Facts(url="u", served_names=["a", "b"], image="i")
    parsed = objects.parse_endpoint(with_status(status.ACCEPTANCE, facts))
    assert parsed is not None
    routed = parsed.endpoint
    assert (parsed.uid, routed.namespace, routed.name) == ("the-uid", "team-a", "qwen")
    assert routed.served_names == ("a", "b")


def test_an_endpoint_that_was_never_accepted_is_not_routed() -> None:
    refused = Finding(holds=False, reason=status.INVALID_SPEC, message="m")
    assert objects.parse_endpoint(with_status(refused, None)) is None


def children() -> dict[tuple[str, str], dict[str, Any]]:
    objects = desired_objects(parse_endpoint(endpoint()), golden.INPUTS)
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def test_engines_serve_the_name_that_is_sent_for_any_that_they_do_not_know() -> None:
    facts = status.Facts(url="u", served_names=["a", "b"], image="i")
    parsed = objects.parse_endpoint(with_status(status.ACCEPTANCE, facts))
    template = children()["Deployment", "qwen-engine"]["spec"]["template"]
    arguments = template["spec"]["containers"][0]["args"]
    served = arguments[arguments.index("--served-model-name") + 1 :]
    assert parsed is not None
    assert parsed.endpoint.engine_names == {"a", "b"}
    assert served[:3] == ["a", "b", parsed.endpoint.common_name]


ACCESS: dict[str, Any] = {
    "aliases": ["gpt-4o-mini"],
    "hosts": ["qwen.example.com", "qwen.example.org"],
    "modelField": "Match",
    "routes": ["score", "chat.completions"],
    "timeouts": {"connect": "5s", "firstByte": "10m", "total": "1h"},
    "limits": {"requestsPerMinute": 600, "maxInFlight": 64},
    "loadBalancing": {"strategy": "PrefixHash"},
}


def routed_by(access: dict[str, Any]) -> Endpoint:
    """Return what the gateway makes of what the operator says of a policy."""
    spec = parse_endpoint(builders.endpoint(access=access)).spec
    settings = Settings(
        release_namespace=RELEASE_NAMESPACE,
        keyring_secret="keyring",
        root_key_secret="root-key",
        gateway_service="gateway",
        host_domains=(HostDomain(domain="example.com"),),
    )
    told = policy(spec.access, "team-a", settings).access
    facts = status.Facts(url="u", served_names=["a"], image="i", access=told)
    parsed = objects.parse_endpoint(with_status(status.ACCEPTANCE, facts))
    assert parsed is not None
    return parsed.endpoint


def test_the_gateway_goes_by_the_policy_of_an_accepted_endpoint() -> None:
    routed = routed_by(ACCESS)
    assert (routed.aliases, routed.hosts) == (("gpt-4o-mini",), ("qwen.example.com",))
    assert routed.matches_model
    assert routed.by_prefix
    assert routed.routes == {"score", "chat.completions"}
    assert routed.timeouts == Timeouts(5, 600, None, 3600)
    assert routed.limits == Limits(requests_per_minute=600, in_flight=64)


def test_an_endpoint_without_a_policy_has_the_gateways_own() -> None:
    with_defaults = routed_by({"modelField": "Ignore", "timeouts": {}})
    assert with_defaults == routed_by({})
    assert not with_defaults.matches_model
    assert not with_defaults.by_prefix
    assert with_defaults.routes == frozenset()
    assert with_defaults.limits is None


def test_the_gateway_knows_the_generations_that_status_and_spec_name() -> None:
    facts = status.Facts(url="u", served_names=["a"], image="i", key_generation=2)
    body = with_status(status.ACCEPTANCE, facts)
    body["spec"]["engine"] = {"keyGeneration": 3}
    parsed = objects.parse_endpoint(body)
    assert parsed is not None
    assert parsed.generations == (2, 3)


def test_slices_of_the_engine_service_are_found_and_read() -> None:
    service = children()["Service", "qwen-engine"]
    # the controller copies the labels of the Service, adds its name, and takes names of ports
    slice_: dict[str, Any] = {
        "metadata": {
            "name": "qwen-engine-abc",
            "namespace": service["metadata"]["namespace"],
            "labels": service["metadata"]["labels"]
            | {"kubernetes.io/service-name": service["metadata"]["name"]},
        },
        "ports": [
            {"name": port["name"], "port": names.ENGINE_PORT} for port in service["spec"]["ports"]
        ],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
    }
    assert objects.ENDPOINT_LABEL in slice_["metadata"]["labels"]
    assert objects.parse_slice(slice_) == (("team-a", "qwen"), (("10.0.0.1", 8000),))


def test_slices_of_the_service_that_leads_to_the_gateway_are_not_replicas() -> None:
    service = children()["Service", "qwen"]
    labels = service["metadata"]["labels"] | {"kubernetes.io/service-name": "qwen"}
    slice_ = {"metadata": {"name": "s", "namespace": "team-a", "labels": labels}, "ports": []}
    assert objects.parse_slice(slice_) is None


def test_the_engine_service_publishes_ready_pods_only() -> None:
    assert "publishNotReadyAddresses" not in children()["Service", "qwen-engine"]["spec"]


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plural", ["inferenceendpoints", "apikeys"])
def test_kinds_are_called_as_their_definitions_say(plural: str) -> None:
    definition = yaml.safe_load((ROOT / f"crds/{names.GROUP}_{plural}.yaml").read_text())["spec"]
    assert definition["group"] == names.GROUP
    assert [version["name"] for version in definition["versions"]] == [names.VERSION]
    if plural == "inferenceendpoints":
        assert (discovery.ENDPOINTS.group, discovery.ENDPOINTS.version) == (
            names.GROUP,
            names.VERSION,
        )
        assert discovery.ENDPOINTS.plural == plural
        assert discovery.ENDPOINTS.kind == definition["names"]["kind"]


def test_no_endpoint_can_have_the_name_of_one_of_the_gateways_paths() -> None:
    # by path an endpoint's name is the first segment, so it must not hide a page of ours
    assert {"v1", "healthz", "readyz", "metrics"} <= set(names.RESERVED_NAMES)


def test_the_gateways_service_port_is_the_one_that_endpoints_lead_to() -> None:
    service = children()["Service", "qwen"]
    assert [port["port"] for port in service["spec"]["ports"]] == [names.GATEWAY_PORT] == [80]


NAMES = st.sampled_from(["qwen", "llama", "granite"])
STATUSES = st.fixed_dictionaries(
    {
        "servedNames": st.lists(NAMES, max_size=2),
        "adapters": st.lists(NAMES, max_size=1),
        "access": st.fixed_dictionaries({"aliases": st.lists(NAMES, max_size=1)}),
    }
)
FLEETS = st.dictionaries(NAMES, st.tuples(st.integers(1, 2), STATUSES), max_size=3)


@given(fleet=FLEETS, model=NAMES)
def test_a_name_leads_where_the_operator_says_that_it_leads(
    fleet: dict[str, tuple[int, dict[str, list[str]]]], model: str
) -> None:
    claimants, read = Claimants(), []
    for name, (day, said) in fleet.items():
        body = builders.endpoint(name) | {"status": said}
        body["metadata"]["creationTimestamp"] = f"2026-01-0{day}T00:00:00Z"
        claimants.replace(None, slim(body))
        if described := objects.parse_endpoint(body):
            read.append(described.endpoint)
    key = Key(b"", "team-a", "all")
    found = find_model(Catalog.of(read), key, model)
    holder = claimants.holder("team-a", model)
    assert (found and found.name) == (holder and holder.name)


AGES = st.lists(st.tuples(st.integers(1, 2), st.sampled_from(["a", "b"]), NAMES), unique=True)


@given(fleet=AGES)
def test_a_host_leads_where_the_operator_says_that_it_leads(
    fleet: list[tuple[int, str, str]],
) -> None:
    claimants, read, host = Claimants(), [], "llm.example.com"
    for day, namespace, name in {(each[1:]): each for each in fleet}.values():
        body = builders.endpoint(name, namespace)
        body["status"] = {"servedNames": ["x"], "access": {"hosts": [host]}}
        body["metadata"]["creationTimestamp"] = f"2026-01-0{day}T00:00:00Z"
        claimants.replace(None, slim(body))
        if described := objects.parse_endpoint(body):
            read.append(described.endpoint)
    everywhere = Key(b"", RELEASE_NAMESPACE, "all", everywhere=True)
    found = by_host(Catalog.of(read), everywhere, host.encode())
    holder = claimants.holder(EVERYWHERE, host)
    assert (found and (found.namespace, found.name)) == (holder and holder[1:])
