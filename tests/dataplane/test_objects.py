"""What is read of the cluster's objects."""

from __future__ import annotations

import json

import pytest

from endpoint_gateway.catalog import Limits, Replica
from endpoint_gateway.objects import (
    authorizations,
    engine_key,
    parse_endpoint,
    parse_keyring,
    parse_slice,
)
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
    assert engine_key(ROOT_KEY, "u-1", 1) == f"sk-engine-{digest}"


GENERATIONS = {
    "an endpoint without a status of it": (None, None, (1,)),
    "at rest": (2, [2], (2,)),
    "rolling": (2, [2, 1], (2, 1)),
    "before the operator has told": (2, [1], (1, 2)),
}


@pytest.mark.parametrize(("wanted", "running", "expected"), GENERATIONS.values(), ids=GENERATIONS)
def test_an_engine_may_have_a_key_of_status_or_spec(
    wanted: int | None, running: list[int] | None, expected: tuple[int, ...]
) -> None:
    obj = iep()
    obj["status"] |= {"engineKeys": running} if running else {}
    obj["spec"] |= {"engine": {"keyGeneration": wanted}} if wanted else {}
    described = parse_endpoint(obj)
    assert described is not None
    assert described.generations == expected


def test_each_root_key_makes_a_key_of_each_generation_the_likeliest_first() -> None:
    obj = iep(servedNames=["tiny"], engineKeys=[2, 1])
    described = parse_endpoint(obj | {"spec": {"engine": {"keyGeneration": 2}}})
    assert described is not None
    assert authorizations([b"new", b"old"], described) == tuple(
        f"Bearer {engine_key(root, 'uid-qwen', generation)}".encode()
        for root, generation in [(b"new", 2), (b"new", 1), (b"old", 2), (b"old", 1)]
    )


NAMES: dict[str, tuple[Object, set[str]]] = {
    "rolled": ({"engineNames": ["tiny", "new"]}, {"tiny", "new"}),
    "rolling": ({"engineNames": ["tiny"]}, {"tiny"}),
    "rolling, all names new": ({"engineNames": []}, set()),
    "not told": ({}, {"tiny", "new"}),
}


@pytest.mark.parametrize(("said", "expected"), NAMES.values(), ids=NAMES)
def test_what_engines_know_is_what_status_says(said: Object, expected: set[str]) -> None:
    described = parse_endpoint(iep(servedNames=["tiny", "new"], **said))
    assert described is not None
    assert described.endpoint.engine_names == expected
    assert described.endpoint.common_name == "qwen"


def test_adapters_are_those_of_status_with_the_sources_of_the_spec() -> None:
    obj = iep(servedNames=["tiny"], adapters=["sql", "gone"], engineNames=["tiny"])
    obj["spec"]["model"]["adapters"] = [
        {"name": "sql", "source": "hf://org/sql"},
        {"name": "soon", "source": "hf://org/soon"},
    ]
    described = parse_endpoint(obj)
    assert described is not None
    assert described.endpoint.adapters == (("sql", "hf://org/sql"), ("gone", ""))
    assert described.endpoint.engine_names == {"tiny", "sql", "gone"}


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
    assert key.owner == namespace


LIMITS = {
    "all": (
        {"requestsPerMinute": 60, "tokensPerMinute": 50000, "maxInFlight": 8},
        Limits(60, 50000, 8),
    ),
    "one": ({"maxInFlight": 8}, Limits(in_flight=8)),
    "none": (None, None),
}


@pytest.mark.parametrize(("given", "limits"), LIMITS.values(), ids=LIMITS)
def test_limits_are_those_that_are_written_down(
    given: Object | None, limits: Limits | None
) -> None:
    described = parse_endpoint(iep(servedNames=["tiny"], access={"limits": given}))
    assert described is not None
    assert described.endpoint.limits == limits
    entry: Object = {
        "sha256": "00",
        "namespace": "a",
        "name": "b",
        "endpoints": [],
        "limits": given,
    }
    document = json.dumps({"version": 1, "keys": [entry]}).encode()
    (key,) = parse_keyring(document, release_namespace="system").values()
    assert key.limits == limits


def test_a_limit_of_nothing_is_none_that_the_operator_writes() -> None:
    with pytest.raises(ValueError, match="requestsPerMinute"):
        parse_endpoint(iep(servedNames=["tiny"], access={"limits": {"requestsPerMinute": 0}}))
