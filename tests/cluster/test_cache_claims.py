"""How long the claim of a cache lives, and that it may grow by any hand."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")

LIVES = [["Delete"], ["Retain"], ["Retain", "Delete"], ["Delete", "Retain"]]
"""What is to become of a claim, as it is said one time after the other."""


def model(**cache: Any) -> Object:
    return {"source": "hf://org/model", "cache": {"size": "10Gi"} | cache}


def is_accepted(body: Object) -> bool:
    settled = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
    return settled and builders.condition_of(body, "Accepted").get("status") == "True"


async def create(cluster: LiveCluster, endpoint: Ref, **cache: Any) -> None:
    meta = {"namespace": endpoint.namespace, "name": endpoint.name}
    await cluster.create(builders.endpoint(model=model(**cache)) | {"metadata": meta})
    await cluster.eventually(endpoint, is_accepted)


async def edit(cluster: LiveCluster, endpoint: Ref, spec: Object) -> None:
    await cluster.patch(endpoint, {"spec": spec})
    await cluster.eventually(endpoint, is_accepted)


async def test_a_claim_goes_or_stays_as_was_said_last(cluster: LiveCluster, namespace: str) -> None:
    lives = {f"e{number}": said for number, said in enumerate(LIVES)}
    for name, (first, *others) in lives.items():
        endpoint = Ref("InferenceEndpoint", namespace, name)
        await create(cluster, endpoint, onDelete=first)
        for other in others:
            await edit(cluster, endpoint, {"model": model(onDelete=other)})
        await cluster.delete(endpoint)
    for name, said in lives.items():
        await cluster.gone(Ref("Deployment", namespace, f"{name}-engine"))
        claim = Ref("PersistentVolumeClaim", namespace, f"{name}-cache")
        if said[-1] == "Delete":
            await cluster.gone(claim)
        else:
            assert "ownerReferences" not in (await cluster.must_get(claim))["metadata"]


async def bound(cluster: LiveCluster, claim: Ref) -> None:
    """Wait until a claim has its volume."""
    await cluster.eventually(claim, lambda body: body.get("status", {}).get("phase") == "Bound")


async def volume_for(cluster: LiveCluster, claim: Ref) -> None:
    """Make a volume that a claim can have, of a class that lets it grow."""
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": claim.namespace},
        "provisioner": "example.com/nobody",
        "allowVolumeExpansion": True,
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": claim.namespace},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": claim.namespace,
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": claim.namespace, "name": claim.name},
        },
    }
    await cluster.api.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body=storage)
    await cluster.api.request("POST", "/api/v1/persistentvolumes", body=volume)


async def test_a_claim_that_somebody_enlarged_stays_so_and_its_endpoint_goes_on(
    cluster: LiveCluster, namespace: str
) -> None:
    endpoint = Ref("InferenceEndpoint", namespace, "qwen")
    claim = Ref("PersistentVolumeClaim", namespace, "qwen-cache")

    async def size() -> str:
        requests = (await cluster.must_get(claim))["spec"]["resources"]["requests"]
        return str(requests["storage"])

    await volume_for(cluster, claim)
    await create(cluster, endpoint, storageClassName=namespace)
    await bound(cluster, claim)
    grown = {"spec": {"resources": {"requests": {"storage": "40Gi"}}}}
    await cluster.patch(claim, grown)
    await edit(cluster, endpoint, {"engine": {"image": "vllm:1"}})
    assert await size() == "40Gi"

    cache = {"size": "20Gi", "storageClassName": namespace}
    await edit(cluster, endpoint, {"model": model(**cache), "engine": {"image": "vllm:2"}})
    assert await size() == "40Gi"
    await edit(cluster, endpoint, {"model": model(**cache | {"size": "60Gi"})})
    assert await size() == "60Gi"
    deployment = await cluster.must_get(Ref("Deployment", namespace, "qwen-engine"))
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm:2"
