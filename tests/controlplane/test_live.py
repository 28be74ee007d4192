"""What is kept of an object."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.errors import InvalidObjectError
from endpoint_operator.live import Live, slim
from helpers import builders

Object = dict[str, Any]


def service(version: int = 1, **fields: Any) -> Live:
    meta = {"namespace": "team-a", "name": "qwen", "uid": "s", "resourceVersion": str(version)}
    return slim({"kind": "Service", "metadata": meta, **fields})


def test_an_object_that_is_changed_by_a_reader_stays_as_it_was_seen() -> None:
    seen = service()
    seen.object["metadata"]["name"] = "changed"
    assert seen.object["metadata"]["name"] == "qwen"
    assert seen.object["metadata"]["resourceVersion"] == "1"


def test_what_is_wanted_is_the_same_bytes_when_only_the_status_changed() -> None:
    before, after = service(1), service(2, status={"replicas": 1})
    assert before.wanted == after.wanted
    assert before != after
    assert after.status == {"replicas": 1}


def test_managed_fields_are_dropped_but_for_who_owns_replicas() -> None:
    entry = {
        "manager": names.MANAGER,
        "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    meta = {"name": "d", "resourceVersion": "1", "uid": "u"}
    kept = slim({"kind": "Deployment", "metadata": meta | {"managedFields": [entry]}})
    assert kept.owns_replicas
    assert kept.applied
    assert "managedFields" not in kept.object["metadata"]
    scaled = entry | {"operation": "Update", "subresource": "scale"}
    written = slim({"kind": "Deployment", "metadata": meta | {"managedFields": [scaled]}})
    assert not written.owns_replicas
    assert not written.applied


def test_of_a_pod_only_what_a_diagnosis_reads_is_kept() -> None:
    container = {"name": "engine", "env": [{"name": "HF_TOKEN", "value": "secret"}]}
    pod = builders.pod(status={"phase": "Pending", "podIP": "10.0.0.1"})
    pod["spec"] = {"nodeName": "n", "containers": [container]}
    kept = slim(pod)
    assert kept.endpoint == "qwen"
    assert kept.object["spec"] == {"nodeName": "n"}
    assert kept.object["status"] == {"phase": "Pending"}
    assert kept.object["metadata"]["annotations"] == {names.REVISION: "r"}
    assert b"secret" not in kept.wanted


def test_of_a_large_secret_only_keys_are_kept() -> None:
    large = "eA==" * 5000
    data = {"api-key": "eA==", "next-api-key": large, "x": large, names.KEYRING_FIELD: large}
    body = builders.secret("mine", "team-a", data)
    body["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    # who applies it can say that they are we
    body["metadata"]["managedFields"] = [{"manager": names.MANAGER, "operation": "Apply"}]
    body["metadata"]["labels"] = {names.MANAGED_BY: names.MANAGER, "x": large}
    body["metadata"]["annotations"] = {names.ROTATION: "r", names.NEXT_FROM: large, "x": large}
    kept = slim(body, release_namespace="vllm-system")
    assert len(kept.wanted) < 500
    assert kept.object["data"] == {"api-key": "eA=="}
    assert kept.object["metadata"]["labels"] == {names.MANAGED_BY: names.MANAGER}
    assert kept.object["metadata"]["annotations"] == {names.ROTATION: "r"}
    assert slim(body, release_namespace="team-a").object["data"] == data


def test_an_endpoint_is_called_by_what_its_status_says() -> None:
    access = {"aliases": ["d", "a"], "hosts": ["a.example.com"]}
    said = {"servedNames": ["a", "b"], "adapters": ["c"], "access": access}
    live = slim(builders.endpoint() | {"status": said})
    assert (live.calls, live.hosts) == (("qwen", "a", "b", "c", "d"), ("a.example.com",))
    before = slim(builders.endpoint())
    assert (before.calls, before.hosts) == ((), ())


def test_what_is_too_deep_to_be_written_is_cut() -> None:
    nested: Any = "x"
    for _ in range(600):
        nested = {"a": [nested]}
    kept = slim(builders.endpoint(podTemplate={"spec": nested}, replicas=3) | {"status": nested})
    assert kept.object["spec"]["replicas"] == 3
    with pytest.raises(InvalidObjectError, match="podTemplate: is nested more than 64 levels deep"):
        parse_endpoint(kept.object)
