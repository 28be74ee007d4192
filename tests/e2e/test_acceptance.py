"""Specs that are not taken, or taken with a word of warning; none of it needs an engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster.processes import ClusterError
from helpers.builders import condition_of
from helpers.demo_cluster import Demo, eventually
from helpers.small_endpoints import small_endpoint

pytestmark = pytest.mark.timeout(400, func_only=True)

NAMESPACE = "acceptance"


@pytest.fixture(scope="module")
def place(demo: Demo) -> Iterator[Demo]:
    """The cluster, with a namespace for this."""
    demo.session.call_kubectl("create", "namespace", NAMESPACE)
    yield demo
    demo.session.call_kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def idle(name: str, **changes: Any) -> dict[str, Any]:
    return small_endpoint(name, NAMESPACE, replicas=0, **changes)


def events(demo: Demo, name: str) -> str:
    described = demo.session.call_kubectl("describe", "iep", name, "-n", NAMESPACE)
    return described.partition("\nEvents:")[2]


def config_map(name: str, **data: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def test_an_endpoint_without_replicas_is_idle(place: Demo) -> None:
    place.apply_all([idle("idle")])
    found = place.wait_for("idle", NAMESPACE, Accepted="Valid", Ready="NoReplicas")
    assert found["status"]["phase"] == "Idle"
    assert condition_of(found, "Routed")["reason"] == "InCatalog"


def test_an_image_without_a_version_is_taken_with_a_warning(place: Demo) -> None:
    place.apply_all([idle("latest", engine={"image": "vllm/vllm-openai:latest"})])
    found = place.wait_for("latest", NAMESPACE, Accepted="UnpinnedImage")
    assert condition_of(found, "Accepted")["status"] == "True"
    assert "vllm/vllm-openai:v" in condition_of(found, "Accepted")["message"]


def test_what_only_the_operator_sees_is_refused_with_the_field_to_use(place: Demo) -> None:
    place.apply_all([idle("owned", engine={"config": {"por": 9}})])
    found = place.wait_for("owned", NAMESPACE, Accepted="InvalidSpec", Ready="InvalidSpec")
    assert "spec.engine.config.por" in condition_of(found, "Accepted")["message"]
    assert found["status"]["phase"] == "Invalid"
    # Events are written behind the status
    eventually(lambda: "InvalidSpec" in events(place, "owned"), within_seconds=60)


def test_what_the_api_server_sees_is_refused_at_once(place: Demo) -> None:
    with pytest.raises(ClusterError, match=r"spec\.model\.source.*write hf://ORG/NAME"):
        place.apply_all([idle("typo", model={"source": "s3:/typo"})])


def test_what_stands_in_the_way_is_named_and_looked_for_again(place: Demo) -> None:
    meta = {"name": "theirs-engine", "namespace": NAMESPACE}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta}
    hard = {"hard": {"count/deployments.apps": "0"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": hard}
    theirs = [service | {"spec": {"ports": [{"port": 80}]}}, quota]
    place.apply_all([*theirs, idle("theirs"), idle("counted")])
    found = place.wait_for("theirs", NAMESPACE, Accepted="NameConflict")
    assert "theirs-engine" in condition_of(found, "Accepted")["message"]
    found = place.wait_for("counted", NAMESPACE, Accepted="QuotaExceeded")
    assert "count/deployments.apps" in condition_of(found, "Accepted")["message"]
    obstacles = ["service/theirs-engine", "resourcequota/theirs-engine"]
    place.session.call_kubectl("delete", "-n", NAMESPACE, *obstacles)
    for name in ("theirs", "counted"):
        place.wait_for(name, NAMESPACE, Accepted="Valid")


def test_a_template_that_is_not_there_is_waited_for(place: Demo) -> None:
    reference = {"configMapRef": {"name": "template", "key": "chat.jinja"}}
    place.apply_all([idle("templated", model={"chatTemplate": reference})])
    place.wait_for("templated", NAMESPACE, Accepted="ReferenceNotFound")
    place.apply_all([config_map("template", **{"chat.jinja": "{{ messages }}"})])
    place.wait_for("templated", NAMESPACE, Accepted="Valid")


def test_the_older_endpoint_keeps_a_name_that_two_claim(place: Demo) -> None:
    same = {"servedNames": ["same"]}
    place.apply_all([idle("older", model=same)])
    place.wait_for("older", NAMESPACE, Routed="InCatalog")
    place.apply_all([idle("younger", model=same)])
    found = place.wait_for("younger", NAMESPACE, Routed="NameTaken")
    assert "older" in condition_of(found, "Routed")["message"]
    place.session.call_kubectl("delete", "iep", "older", "-n", NAMESPACE)
    place.wait_for("younger", NAMESPACE, Routed="InCatalog")


def test_scale_and_suspension_leave_each_other_alone(place: Demo) -> None:
    # no node has so many, so nothing is started
    place.apply_all([small_endpoint("scaled", NAMESPACE, gpu={"count": 64}, replicas=2)])
    place.wait_for("scaled", NAMESPACE, Ready="InsufficientGpu")
    scale = ["scale", "iep/scaled", "-n", NAMESPACE]
    place.session.call_kubectl(*scale, "--replicas=3")
    wait = ["wait", "deployment/scaled-engine", "-n", NAMESPACE, "--timeout=60s"]
    place.session.call_kubectl(*wait, "--for=jsonpath={.spec.replicas}=3")
    place.change("scaled", NAMESPACE, {"suspended": True})
    assert place.wait_for("scaled", NAMESPACE, Ready="Suspended")["status"]["phase"] == "Suspended"
    place.session.call_kubectl(*wait, "--for=jsonpath={.spec.replicas}=0")
    place.change("scaled", NAMESPACE, {"suspended": False})
    place.session.call_kubectl(*wait, "--for=jsonpath={.spec.replicas}=3")
    place.session.call_kubectl(*scale, "--replicas=0")
    assert place.wait_for("scaled", NAMESPACE, Ready="NoReplicas")["status"]["phase"] == "Idle"
