"""The operator's own life: killed, restarted, stopped; and what deletion leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.observed import restarted, written
from helpers.operator_process import OperatorProcess

Object = dict[str, Any]

COUNT = 12


def manifest(name: str, namespace: str, **spec: Any) -> Object:
    body = builders.endpoint(name, namespace, **spec)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def is_accepted(body: Object) -> bool:
    settled = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
    return settled and builders.condition_of(body, "Accepted").get("status") == "True"


def is_complete(body: Object) -> bool:
    return builders.condition_of(body, "Progressing").get("reason") == "Complete"


async def children(cluster: LiveCluster, namespace: str, name: str) -> list[Ref]:
    return builders.child_refs(
        await cluster.must_get(Ref("Deployment", namespace, f"{name}-engine"))
    )


async def create_many(cluster: LiveCluster, namespace: str) -> list[str]:
    endpoints = [f"e{number}" for number in range(COUNT)]
    await asyncio.gather(
        *(cluster.create(manifest(name, namespace, replicas=0)) for name in endpoints)
    )
    return endpoints


async def all_complete(cluster: LiveCluster, namespace: str, endpoints: list[str]) -> None:
    for name in endpoints:
        ref = Ref("InferenceEndpoint", namespace, name)
        await cluster.eventually(ref, is_accepted)
        await cluster.eventually(ref, is_complete)
        for child in await children(cluster, namespace, name):
            await cluster.must_get(child)


@pytest.mark.parametrize("moment", [0, 7, 23])
async def test_killed_while_it_creates_it_goes_on_where_it_was(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess, moment: int
) -> None:
    before = await cluster.writes()
    endpoints = await create_many(cluster, namespace)

    async def reached() -> bool:
        return await cluster.writes() - before >= moment

    await cluster.until(reached, what=f"{moment} writes")
    operator.kill()
    await operator.start()
    await all_complete(cluster, namespace, endpoints)


async def test_a_restart_on_a_settled_cluster_writes_nothing(
    plane: ControlPlane, cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    endpoints = await create_many(cluster, namespace)
    await all_complete(cluster, namespace, endpoints)
    async with restarted(plane, operator) as sent:
        await cluster.create(manifest("marker", namespace, replicas=0))
        await cluster.eventually(Ref("InferenceEndpoint", namespace, "marker"), is_complete)
    assert written(sent, namespace, "marker")
    assert [path for name in endpoints for path in written(sent, namespace, name)] == []


async def test_it_ends_at_once_and_well(operator: OperatorProcess) -> None:
    code, seconds = operator.stop()
    assert code == 0
    assert seconds < 10  # two on a machine that does nothing else


async def test_it_says_that_it_lives(operator: OperatorProcess) -> None:
    url = f"http://127.0.0.1:{operator.liveness_port}/healthz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200


async def test_a_deleted_endpoint_takes_its_children_along(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    assert operator.is_running()
    await cluster.create(manifest("qwen", namespace))
    ref = Ref("InferenceEndpoint", namespace, "qwen")
    created = await cluster.eventually(ref, is_accepted)
    assert "finalizers" not in created["metadata"]
    made = await children(cluster, namespace, "qwen")
    await cluster.delete(ref)
    for child in made:
        await cluster.gone(child)


async def test_what_was_deleted_while_it_was_away_stays_deleted(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    await cluster.create(manifest("qwen", namespace))
    ref = Ref("InferenceEndpoint", namespace, "qwen")
    await cluster.eventually(ref, is_accepted)
    made = await children(cluster, namespace, "qwen")
    operator.kill()
    await cluster.delete(ref)
    await operator.start()
    await cluster.create(manifest("marker", namespace, replicas=0))
    await cluster.eventually(Ref("InferenceEndpoint", namespace, "marker"), is_accepted)
    for child in made:
        await cluster.gone(child)


async def test_a_child_that_loses_its_owner_is_taken_back(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    assert operator.is_running()
    await cluster.create(manifest("qwen", namespace, replicas=0))
    owner = await cluster.eventually(Ref("InferenceEndpoint", namespace, "qwen"), is_complete)
    ref = Ref("Deployment", namespace, "qwen-engine")
    before = await cluster.must_get(ref)
    await cluster.patch(ref, {"metadata": {"ownerReferences": None}})
    after = await cluster.eventually(ref, lambda body: "ownerReferences" in body["metadata"])
    assert after["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_kept_claim_serves_the_next_endpoint_also_one_that_asks_for_less(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    assert operator.is_running()
    ref = Ref("InferenceEndpoint", namespace, "qwen")
    claim = Ref("PersistentVolumeClaim", namespace, "qwen-cache")
    engine = Ref("Deployment", namespace, "qwen-engine")
    model = builders.endpoint_spec()["model"]
    await cluster.create(manifest("qwen", namespace, model=model | {"cache": {"size": "80Gi"}}))
    await cluster.eventually(ref, is_accepted)
    kept = await cluster.must_get(claim)
    await cluster.delete(ref)
    await cluster.gone(engine)

    await cluster.create(manifest("qwen", namespace, model=model | {"cache": {"size": "50Gi"}}))
    await cluster.eventually(ref, is_accepted)
    await cluster.must_get(engine)
    found = await cluster.must_get(claim)
    assert found["metadata"]["uid"] == kept["metadata"]["uid"]
    assert found["spec"]["resources"]["requests"] == {"storage": "80Gi"}
