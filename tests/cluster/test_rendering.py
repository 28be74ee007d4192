"""What is rendered, in the eyes of the API server and of kubectl."""

from __future__ import annotations

import copy
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


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(patch=pod_patches.patches())
def test_a_pod_template_is_merged_as_kubectl_does(
    plane: ControlPlane, tmp_path: Path, patch: Object
) -> None:
    def deployed(template: Object) -> Path:
        path = tmp_path / "deployment.json"
        spec = {"selector": {"matchLabels": {"a": "1"}}, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
        path.write_text(json.dumps(body | {"spec": spec}))
        return path

    def patched(template: Object, change: Object) -> Object:
        text = json.dumps({"spec": {"template": change}})
        arguments = ("--local", "-f", str(deployed(template)), "-p", text, "-o", "json")
        done = plane.kubectl("patch", *arguments)
        assert done.returncode == 0, done.stderr
        found: Object = json.loads(done.stdout)["spec"]["template"]
        return found

    ours = merge(copy.deepcopy(pod_patches.TEMPLATE), patch)
    assert patched(ours, {}) == patched(pod_patches.TEMPLATE, patch)
