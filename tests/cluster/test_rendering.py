"""What is rendered, in the eyes of the API server and of kubectl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from endpoint_operator.desired.merging import merge
from endpoint_operator.drift import covers
from helpers import golden, pod_patches
from helpers.live_cluster import ControlPlane, LiveCluster

Object = dict[str, Any]


def orphaned(child: Object, namespace: str) -> Object:
    """Return a child as an object of nobody, which no garbage collector takes away."""
    meta = child["metadata"] | {"namespace": namespace}
    meta.pop("ownerReferences", None)
    return child | {"metadata": meta}


@pytest.mark.parametrize("source", golden.sources(), ids=lambda path: path.name.split(".")[0])
async def test_the_api_server_takes_every_child_and_keeps_what_we_wrote(
    cluster: LiveCluster, namespace: str, source: Path
) -> None:
    for child in golden.rendered(source):
        wanted = orphaned(child, namespace)
        stored = await cluster.apply(wanted)
        assert covers(stored, wanted)


def without_rest(value: Any) -> Any:
    """Return what kubectl prints without nulls and directives that it leaves in what is new."""
    if isinstance(value, dict):
        return {
            key: without_rest(item)
            for key, item in value.items()
            if item is not None and not key.startswith("$")
        }
    if isinstance(value, list):
        kept = [each for each in value if not (isinstance(each, dict) and "$patch" in each)]
        return [without_rest(each) for each in kept]
    return value


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(patch=pod_patches.patches())
def test_a_pod_template_is_merged_as_kubectl_does(
    plane: ControlPlane, tmp_path: Path, patch: Object
) -> None:
    spec = {"selector": {"matchLabels": {"a": "1"}}, "template": pod_patches.TEMPLATE}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps(body))
    text = json.dumps({"spec": {"template": patch}})
    done = plane.kubectl("patch", "--local", "-f", str(file), "-p", text, "-o", "json")
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["spec"]["template"]
    assert merge(pod_patches.TEMPLATE, patch) == without_rest(theirs)
