"""Good and bad input, as the API server judges it; and as kubectl shows it."""

from __future__ import annotations

import re

import pytest
import yaml

from endpoint_operator.live import Ref
from helpers import builders, verdicts
from helpers.live_cluster import ROOT, ControlPlane, LiveCluster


async def judged(cluster: LiveCluster, namespace: str, case: verdicts.Case) -> str:
    """Return why the API server refuses an object, or a change of it; empty if it does not."""
    body = case.object | {"metadata": case.object["metadata"] | {"namespace": namespace}}
    if case.before is None:
        return await cluster.refusal(body)
    await cluster.create(body | {"spec": case.before})
    try:
        return await cluster.refusal(body, exists=True)
    finally:
        await cluster.delete(Ref(body["kind"], namespace, body["metadata"]["name"]))


@pytest.mark.parametrize("case", verdicts.refused("cluster"))
async def test_the_api_server_refuses_it_and_names_field_and_remedy(
    cluster: LiveCluster, case: verdicts.Case
) -> None:
    refusal = await judged(cluster, "default", case)
    assert case.field in refusal
    assert re.search(case.cluster_says, refusal), refusal


@pytest.mark.parametrize("case", verdicts.accepted("cluster"))
async def test_the_api_server_accepts_it(cluster: LiveCluster, case: verdicts.Case) -> None:
    assert await judged(cluster, "default", case) == ""


def test_kubectl_applies_the_examples(plane: ControlPlane) -> None:
    applied = plane.kubectl("apply", "--dry-run=server", "-f", str(ROOT / "examples"))
    assert applied.returncode == 0, applied.stderr


async def test_scaling_beyond_what_can_mount_the_cache_is_refused(
    plane: ControlPlane, cluster: LiveCluster, namespace: str
) -> None:
    body = builders.endpoint(model={"source": "hf://org/name", "cache": {"size": "1Gi"}})
    await cluster.apply(body | {"metadata": {"name": "cached", "namespace": namespace}})
    scaled = plane.kubectl("scale", "-n", namespace, "iep/cached", "--replicas=2")
    assert "accessMode to ReadWriteMany" in scaled.stderr


def test_kubectl_shows_field_and_remedy(plane: ControlPlane) -> None:
    body = builders.endpoint(namespace="default", engine={"args": ["--port", "1"]})
    refused = plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
    assert refused.returncode != 0
    expected = r"spec\.engine\.args\[0\]: .*port is set by the operator: .*; remove it"
    assert re.search(expected, refused.stderr), refused.stderr


def test_kubectl_explains_the_fields(plane: ControlPlane) -> None:
    explained = plane.kubectl("explain", "inferenceendpoint.spec.engine.drainTimeout")
    assert "stopping pod" in explained.stdout
