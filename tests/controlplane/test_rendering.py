"""Rendering: golden files for the whole, single tests for what must hold of any endpoint."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpointSpec, parse_endpoint
from endpoint_operator.desired import Recorded, desired_objects, resolve_image, spec_hash
from helpers import builders, golden
from helpers.kubernetes_schema import kubernetes_faults
from helpers.rendering import child, children, children_of_kind, deployment

Object = dict[str, Any]
SOURCES = pytest.mark.parametrize(
    "source", golden.sources(), ids=lambda path: path.name.split(".")[0]
)


def applied_hash(child: Object) -> str:
    return str(child["metadata"]["annotations"][names.APPLIED_HASH])


@SOURCES
def test_it_renders_as_reviewed(source: Path) -> None:
    wanted = list(yaml.safe_load_all(golden.expected(source).read_text()))
    assert golden.rendered(source) == wanted, "if wanted: python tests/helpers/golden.py"


@SOURCES
def test_every_child_is_of_its_kubernetes_type(source: Path) -> None:
    faults = [fault for each in golden.rendered(source) for fault in kubernetes_faults(each)]
    assert faults == []


def test_the_same_input_gives_the_same_objects_in_fresh_data() -> None:
    first, second = children(), children()
    assert first == second
    labels = [child["metadata"]["labels"] for child in first]
    assert len({id(label) for label in labels}) == len(labels)


def test_services_come_first_and_the_deployment_after_all_it_refers_to() -> None:
    everything: dict[str, Any] = {
        "model": {
            "source": "s3://bucket/m",
            "cache": {"size": "1Gi", "accessMode": "ReadWriteMany"},
        },
        "replicas": 2,
    }
    assert [each["kind"] for each in children(**everything)] == [
        "Service",
        "Service",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Secret",
        "ConfigMap",
        "PodDisruptionBudget",
        "Deployment",
    ]


def test_every_child_has_owner_labels_and_hash() -> None:
    for each in children():
        meta = each["metadata"]
        assert meta["ownerReferences"][0]["uid"] == "uid-1"
        assert meta["labels"] == names.child_labels("qwen")
        assert re.fullmatch("[0-9a-f]{16}", applied_hash(each))


def test_the_selector_is_the_two_labels_that_never_change() -> None:
    selector = {"app.kubernetes.io/name": "vllm", names.ENDPOINT: "qwen"}
    service = children_of_kind("Service")[1]
    assert service["spec"]["selector"] == selector
    assert deployment()["spec"]["selector"]["matchLabels"] == selector
    assert child("PodDisruptionBudget", replicas=2)["spec"]["selector"]["matchLabels"] == selector
    assert child("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == selector
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()


def test_the_number_of_replicas_is_no_part_of_the_hash() -> None:
    assert applied_hash(deployment(replicas=1)) == applied_hash(deployment(replicas=5))


def test_the_order_of_options_makes_no_other_pods() -> None:
    def template(**config: Any) -> Object:
        found: Object = deployment(engine={"config": config})["spec"]["template"]
        return found

    assert template(seed=1) != template(seed=2)
    assert template(seed=1, dtype="x") == template(dtype="x", seed=1)


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_what_pods_read_never_changes_under_them(kind: str) -> None:
    before = child(kind)
    other = replace(golden.INPUTS, engine_key="sk-engine-other")
    after = child(kind, other, engine={"config": {"seed": 2}})
    assert before["immutable"] is after["immutable"] is True
    assert before["metadata"]["name"] != after["metadata"]["name"]
    assert before["metadata"]["name"] in str(deployment()["spec"]["template"])


def test_no_name_is_longer_than_the_api_server_takes() -> None:
    longest = parse_endpoint(
        builders.endpoint("a" * names.LONGEST_ENDPOINT_NAME, model={"source": "s3://bucket/m"})
    )
    for each in desired_objects(longest, golden.INPUTS):
        assert len(each["metadata"]["name"]) <= (64 if each.get("immutable") else 63)


def test_the_engines_key_is_in_no_log() -> None:
    assert golden.INPUTS.engine_key not in repr(golden.INPUTS)


def test_another_engine_key_makes_other_pods_and_is_nowhere_in_their_template() -> None:
    ours, theirs = deployment(), deployment(replace(golden.INPUTS, engine_key="sk-engine-other"))
    assert ours["spec"]["template"] != theirs["spec"]["template"]
    assert "sk-engine" not in str(ours) + str(theirs)


def test_pods_carry_the_digest_of_their_template() -> None:
    def revision(**spec: Any) -> str:
        template = deployment(**spec)["spec"]["template"]
        return str(template["metadata"]["annotations"][names.REVISION])

    assert revision() == revision(replicas=7) == revision(startupTimeout="30m")
    assert revision() != revision(podTemplate={"spec": {"priorityClassName": "high"}})
    assert revision() != revision(engine={"config": {"seed": 1}})


def test_a_suspended_endpoint_starts_with_no_replica() -> None:
    assert deployment(replicas=3, suspended=True)["spec"]["replicas"] == 0


PLAIN = parse_endpoint(builders.endpoint())
APPLIED = {names.SPEC_HASH: spec_hash(PLAIN.spec), names.DEFAULT_IMAGE: "applied:1"}
REPORTED = {"observedGeneration": 1, "image": "reported:1"}


@pytest.mark.parametrize(
    ("annotations", "status", "expected"),
    [
        pytest.param(None, {}, "default:2", id="new"),
        pytest.param(APPLIED, REPORTED, "applied:1", id="running, and applied counts"),
        pytest.param({**APPLIED, names.SPEC_HASH: "x"}, REPORTED, "default:2", id="changed"),
        pytest.param({}, REPORTED, "default:2", id="annotations taken away"),
        pytest.param(None, REPORTED, "reported:1", id="deployment deleted by hand"),
        pytest.param(
            None, {**REPORTED, "observedGeneration": 0}, "default:2", id="deleted and changed"
        ),
    ],
)
def test_a_defaulted_image_is_kept_until_the_spec_changes(
    annotations: dict[str, str] | None, status: Object, expected: str
) -> None:
    recorded = Recorded(annotations, status)
    assert resolve_image(PLAIN, recorded, default="default:2") == expected


def test_an_image_that_the_user_names_is_taken_and_not_recorded_as_a_default() -> None:
    named = parse_endpoint(builders.endpoint(engine={"image": "mine:1"}))
    assert resolve_image(named, Recorded(APPLIED, REPORTED), default="default:2") == "mine:1"
    annotations = desired_objects(named, golden.INPUTS)[-1]["metadata"]["annotations"]
    assert names.DEFAULT_IMAGE not in annotations


CHANGES: dict[str, Any] = {
    "model": {"source": "file:///other"},
    "engine": {"keyGeneration": 2},
    "gpu": {"count": 2},
    "resources": {"requests": {"cpu": "1"}},
    "pod_template": {"spec": {"priorityClassName": "high"}},
    "rollout": {"strategy": "Replace"},
    "startup_timeout": "31m",
}


def digest_of(**spec: Any) -> str:
    return spec_hash(parse_endpoint(builders.endpoint(**spec)).spec)


def test_neither_scaling_nor_suspending_nor_a_default_is_a_change_of_the_spec() -> None:
    assert digest_of() == digest_of(replicas=7) == digest_of(suspended=True)
    assert digest_of() == digest_of(startupTimeout="30m")


def test_another_policy_at_the_gateway_is_no_change_of_the_spec() -> None:
    assert digest_of() == digest_of(access={"aliases": ["a"], "limits": {"maxInFlight": 1}})


@pytest.mark.parametrize(
    "field", sorted(InferenceEndpointSpec.model_fields.keys() - {"replicas", "suspended", "access"})
)
def test_every_other_field_is_part_of_the_spec(field: str) -> None:
    alias = InferenceEndpointSpec.model_fields[field].alias or field
    assert digest_of(**{alias: CHANGES[field]}) != digest_of()


@given(text=st.text().filter(lambda text: not re.match("--?[A-Za-z]", text)))
def test_every_option_reaches_vllm_as_the_user_wrote_it(text: str) -> None:
    config = child("ConfigMap", engine={"config": {"k": text}})
    assert yaml.safe_load(config["data"]["config.yaml"]) == {"k": text}
