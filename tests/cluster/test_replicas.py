"""The number of replicas changes hands, and is at no moment one that nobody wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from endpoint_operator.kinds import RESOURCES
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.operator_process import OperatorProcess
from kube_api import watch

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


@asynccontextmanager
async def numbers(cluster: LiveCluster, ref: Ref) -> AsyncIterator[list[int]]:
    """Note each number of replicas that a Deployment ever has while the context lasts."""
    seen: list[int] = []

    async def follow() -> None:
        events = watch(
            cluster.api,
            RESOURCES[ref.kind],
            ref.namespace,
            field_selector=f"metadata.name={ref.name}",
        )
        async for event in events:
            if event.type in ("ADDED", "MODIFIED"):
                replicas = event.object["spec"]["replicas"]
                seen.extend([replicas] if seen[-1:] != [replicas] else [])

    following = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        following.cancel()


def in_force(phase: str) -> Any:
    """Hold for an endpoint whose present spec is in force, in this phase."""
    return lambda body: (
        body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
        and body["status"]["phase"] == phase
    )


async def test_no_replica_is_lost_by_whoever_changes_the_number(
    plane: ControlPlane, cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    ref = Ref("InferenceEndpoint", namespace, "qwen")
    workload = Ref("Deployment", namespace, "qwen-engine")
    body = builders.endpoint(replicas=3)

    async def edit(phase: str, **spec: Any) -> None:
        await cluster.patch(ref, {"spec": spec})
        await cluster.eventually(ref, in_force(phase))

    def template(value: str) -> Object:
        return {"metadata": {"annotations": {"example.com/of": value}}}

    async with numbers(cluster, workload) as seen:
        await cluster.create(body | {"metadata": {"name": "qwen", "namespace": namespace}})
        await cluster.eventually(ref, in_force("Pending"))
        await edit("Pending", podTemplate=template("a"))
        await edit("Suspended", suspended=True)
        await edit("Suspended", engine={"image": "vllm:1"})
        await edit("Suspended", replicas=5)
        await operator.restart()
        await edit("Suspended", podTemplate=template("b"))
        await edit("Pending", suspended=False)
        scaled = plane.kubectl("-n", namespace, "scale", "iep/qwen", "--replicas=2")
        assert scaled.returncode == 0, scaled.stderr
        await cluster.eventually(ref, in_force("Pending"))
        await edit("Pending", podTemplate=template("c"))
        await edit("Suspended", suspended=True, replicas=4, engine={"image": "vllm:2"})
        await edit("Pending", suspended=False, podTemplate=template("d"))
        await edit("Idle", replicas=0)
        await edit("Pending", replicas=1, engine={"image": "vllm:3"})

        async def all_seen() -> bool:
            return seen[-1] == 1

        await cluster.until(all_seen, what="the last number")
    assert seen == [3, 0, 5, 2, 0, 4, 0, 1]
    deployment = await cluster.must_get(workload)
    (engine,) = deployment["spec"]["template"]["spec"]["containers"]
    assert engine["image"] == "vllm:3"
    assert deployment["spec"]["template"]["metadata"]["annotations"]["example.com/of"] == "d"
