"""What is read of the cluster's objects."""

from __future__ import annotations

import json

import pytest

from endpoint_gateway.catalog import Replica
from endpoint_gateway.objects import engine_key, parse_endpoint, parse_keyring, parse_slice
from helpers.cluster_objects import ROOT_KEY, Object, address, engine_slice, iep

READY = {
    "ready": ({"ready": True}, True),
    "unknown": ({}, True),
    "null": ({"ready": None, "terminating": None}, True),
    "not ready": ({"ready": False}, False),
    "terminating": ({"ready": True, "terminating": True}, False),
    "serving while terminating": ({"ready": False, "serving": True, "terminating": True}, False),
}


@pytest.mark.parametrize(("conditions", "expected"), READY.values(), ids=READY)
def test_only_what_is_ready_and_stays_gets_requests(conditions: Object, expected: bool) -> None:
    parsed = parse_slice(engine_slice(address("10.0.0.1", **conditions)))
    assert parsed == (("team-a", "qwen"), (Replica("10.0.0.1", 8000),) if expected else ())


FOREIGN = {
    "another Service of the endpoint": {"kubernetes.io/service-name": "qwen"},
    "a Service of another endpoint": {"serving.vllm-endpoints.dev/endpoint": "other"},
}


def test_an_object_without_labels_is_nobodys() -> None:
    obj = engine_slice(address("10.0.0.1"))
    del obj["metadata"]["labels"]
    assert parse_slice(obj) is None


@pytest.mark.parametrize("labels", FOREIGN.values(), ids=FOREIGN)
def test_another_services_addresses_are_not_taken(labels: Object) -> None:
    obj = engine_slice(address("10.0.0.1"))
    obj["metadata"]["labels"] |= labels
    assert parse_slice(obj) is None


def test_addresses_without_our_port_are_not_taken() -> None:
    assert parse_slice(engine_slice(address("10.0.0.1"), ports=[{"name": "x", "port": 1}])) is None


@pytest.mark.parametrize("status", [{"conditions": []}, {"servedNames": []}])
def test_an_endpoint_that_was_never_accepted_is_not_routed(status: Object) -> None:
    assert parse_endpoint(iep(**status)) is None


def test_an_engines_key_is_what_the_operator_makes_it() -> None:
    # as openssl computes it: printf engine-key/u-1/1 | openssl dgst -sha256 -mac HMAC
    digest = "e7f2aa5f5a32645420c98c54cf568be880fca6d68129aa03eabf00509e0fd065"
    assert engine_key(ROOT_KEY, "u-1") == f"sk-engine-{digest}"


@pytest.mark.parametrize(
    ("namespace", "endpoints", "everywhere", "names"),
    [
        ("team-a", ["*"], False, None),
        ("team-a", ["qwen", "small"], False, {"qwen", "small"}),
        ("team-a", ["*/*"], False, {"*/*"}),
        ("system", ["*/*"], True, {"*/*"}),
    ],
)
def test_a_key_opens_what_its_entry_says(
    namespace: str, endpoints: list[str], everywhere: bool, names: set[str] | None
) -> None:
    entry = {"sha256": "00" * 32, "namespace": namespace, "name": "ci", "endpoints": endpoints}
    document = json.dumps({"version": 1, "keys": [entry]}).encode()
    (key,) = parse_keyring(document, release_namespace="system").values()
    assert (key.everywhere, key.endpoints) == (everywhere, names)
