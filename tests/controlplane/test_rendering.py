"""Rendering: golden files for the whole, single tests for what must hold of any endpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.desired import (
    Inputs,
    Recorded,
    desired_objects,
    resolve_image,
    spec_hash,
)
from helpers import builders, golden

Object = dict[str, Any]


def children(inputs: Inputs = golden.INPUTS, **spec: Any) -> list[Object]:
    return desired_objects(parse_endpoint(builders.endpoint(**spec)), inputs)


def deployment(inputs: Inputs = golden.INPUTS, **spec: Any) -> Object:
    return children(inputs, **spec)[-1]


def pod(**spec: Any) -> Object:
    found: Object = deployment(**spec)["spec"]["template"]["spec"]
    return found


def container(**spec: Any) -> Object:
    found: Object = pod(**spec)["containers"][0]
    return found


def applied_hash(child: Object) -> str:
    return str(child["metadata"]["annotations"][names.APPLIED_HASH])


@pytest.mark.parametrize("source", golden.sources(), ids=lambda path: path.name.split(".")[0])
def test_it_renders_as_reviewed(source: Path) -> None:
    wanted = list(yaml.safe_load_all(golden.expected(source).read_text()))
    assert golden.rendered(source) == wanted, "if wanted: python tests/helpers/golden.py"


def test_the_same_input_gives_the_same_objects_in_fresh_data() -> None:
    first, second = children(), children()
    assert first == second
    labels = [child["metadata"]["labels"] for child in first]
    assert len({id(label) for label in labels}) == len(labels)


def test_children_come_after_what_they_refer_to() -> None:
    kinds = [child["kind"] for child in children()]
    assert kinds == ["Secret", "ConfigMap", "Service", "Service", "Deployment"]


def test_every_child_has_owner_labels_and_hash() -> None:
    for child in children():
        meta = child["metadata"]
        assert meta["ownerReferences"][0]["uid"] == "uid-1"
        assert meta["labels"] == names.child_labels("qwen")
        assert re.fullmatch("[0-9a-f]{16}", applied_hash(child))


def test_the_selector_is_the_two_labels_that_never_change() -> None:
    selector = {"app.kubernetes.io/name": "vllm", names.ENDPOINT: "qwen"}
    _, _, service, _, workload = children()
    assert service["spec"]["selector"] == selector
    assert workload["spec"]["selector"]["matchLabels"] == selector
    assert selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def test_the_number_of_replicas_is_no_part_of_the_hash() -> None:
    assert applied_hash(deployment(replicas=1)) == applied_hash(deployment(replicas=5))


def test_a_changed_configuration_makes_other_pods() -> None:
    def template(**config: Any) -> Object:
        found: Object = deployment(engine={"config": config})["spec"]["template"]
        return found

    assert template(seed=1) != template(seed=2)
    assert template(seed=1, dtype="x") == template(dtype="x", seed=1)


def test_a_configuration_never_changes_under_the_pods_that_read_it() -> None:
    _, config, _, _, workload = children(engine={"config": {"seed": 1}})
    assert config["immutable"] is True
    (volume, *_) = workload["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert (
        children(engine={"config": {"seed": 2}})[1]["metadata"]["name"]
        != config["metadata"]["name"]
    )


def test_no_name_is_longer_than_the_api_server_takes() -> None:
    longest = parse_endpoint(builders.endpoint("a" * names.LONGEST_ENDPOINT_NAME))
    found = [child["metadata"]["name"] for child in desired_objects(longest, golden.INPUTS)]
    assert max(map(len, found)) <= 64
    assert max(len(name) for name in found[2:]) <= 63  # Services and the Deployment


def test_the_engines_key_is_in_no_log() -> None:
    assert golden.INPUTS.engine_key not in repr(golden.INPUTS)


def test_another_engine_key_makes_other_pods_and_is_nowhere_in_their_template() -> None:
    other = Inputs(golden.INPUTS.image, "sk-engine-other", golden.INPUTS.gateway_host)
    ours, theirs = deployment(), deployment(other)
    assert ours["spec"]["template"] != theirs["spec"]["template"]
    assert "sk-engine" not in str(ours) + str(theirs)


@pytest.mark.parametrize(
    ("gpus", "config", "expected"),
    [
        (0, {}, None),
        (1, {}, None),
        (4, {}, "4"),
        (4, {"tensor-parallel-size": 2}, None),
        (4, {"pipeline_parallel_size": 4}, None),
        (4, {"data-parallel-size": 4}, None),
    ],
)
def test_several_gpus_are_used_in_parallel_unless_the_user_says_how(
    gpus: int, config: Object, expected: str | None
) -> None:
    arguments = container(gpu={"count": gpus}, engine={"config": config})["args"]
    option = "--tensor-parallel-size"
    found = arguments[arguments.index(option) + 1] if option in arguments else None
    assert found == expected


def test_gpus_are_requested_limited_and_tolerated() -> None:
    resources = container(gpu={"count": 2})["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == "2"
    assert resources["limits"]["nvidia.com/gpu"] == "2"
    assert pod(gpu={"count": 2})["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "tolerations" not in pod(gpu={"count": 0})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"requests": {"memory": "1Gi"}}),
        ({"requests": {"memory": "7Gi"}}, {"requests": {"memory": "8Gi"}}),
        ({"limits": {"memory": "7Gi"}}, {"limits": {"memory": "8Gi"}}),
        (
            {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1024Mi"}},
            {"requests": {"cpu": "500m", "memory": "1536Mi"}, "limits": {"memory": "2Gi"}},
        ),
    ],
)
def test_shared_memory_is_counted_as_memory(given: Object, expected: Object) -> None:
    assert container(gpu={"count": 0}, resources=given)["resources"] == expected


def test_shared_memory_grows_with_the_gpus() -> None:
    sizes = {
        count: pod(gpu={"count": count})["volumes"][-1]["emptyDir"]["sizeLimit"]
        for count in (0, 1, 8)
    }
    assert sizes == {0: "1Gi", 1: "1Gi", 8: "8Gi"}


def test_stopping_has_time_for_prestop_drain_and_exit() -> None:
    rendered = pod(engine={"drainTimeout": "10m"})
    arguments = rendered["containers"][0]["args"]
    assert arguments[arguments.index("--shutdown-timeout") + 1] == "600"
    assert rendered["terminationGracePeriodSeconds"] == 5 + 600 + 30


def test_the_startup_probe_gives_up_after_the_startup_timeout() -> None:
    probe = container(startupTimeout="1m32s")["startupProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) < 92
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 92
    assert deployment(startupTimeout="1m32s")["spec"]["progressDeadlineSeconds"] == 92 + 600


def test_every_cache_is_on_a_writable_volume() -> None:
    rendered = container()
    mounts = [mount["mountPath"] for mount in rendered["volumeMounts"]]
    paths = [
        variable["value"]
        for variable in rendered["env"]
        if str(variable.get("value", "")).startswith("/")
    ]
    assert paths
    assert [path for path in paths if not any(path.startswith(mount) for mount in mounts)] == []


def test_the_pod_is_restricted() -> None:
    rendered = pod()
    assert rendered["securityContext"]["runAsNonRoot"] is True
    assert rendered["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert rendered["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert rendered["automountServiceAccountToken"] is False


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


def test_scaling_is_no_change_of_the_spec() -> None:
    def digest(**spec: Any) -> str:
        return spec_hash(parse_endpoint(builders.endpoint(**spec)).spec)

    assert digest(replicas=1) == digest(replicas=7) == digest(startupTimeout="30m")
    assert digest(startupTimeout="31m") != digest()


@given(text=st.text())
def test_every_option_reaches_vllm_as_the_user_wrote_it(text: str) -> None:
    config = children(engine={"config": {"k": text}})[1]
    assert yaml.safe_load(config["data"]["config.yaml"]) == {"k": text}
