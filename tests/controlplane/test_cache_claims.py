"""The claim of an endpoint's cache: it grows, never shrinks, and lives as long as it was told."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.live import Ref
from endpoint_operator.reconcile import reconcile_endpoint
from helpers import builders
from helpers.memory_cluster import MakeContext, MemoryCluster

Object = dict[str, Any]

ENDPOINT = Ref("InferenceEndpoint", "team-a", "qwen")
DEPLOYMENT = Ref("Deployment", "team-a", "qwen-engine")
CLAIM = Ref("PersistentVolumeClaim", "team-a", "qwen-cache")


def model(**cache: str) -> Object:
    return {"source": "hf://org/tiny", "cache": {"size": "50Gi", "onDelete": "Retain"} | cache}


class Fleet:
    """One endpoint with a cache, on a cluster in memory."""

    def __init__(self, make_context: MakeContext) -> None:
        self.cluster = MemoryCluster()
        self.context = make_context(self.cluster)

    async def create(self, uid: str = "uid-1", **cache: str) -> None:
        self.cluster.put(builders.endpoint(uid=uid, model=model(**cache)))
        await self.reconcile()

    async def edit(self, **cache: str) -> None:
        self.cluster.edit(ENDPOINT, model=model(**cache))
        await self.reconcile()

    async def reconcile(self) -> None:
        self.cluster.writes.clear()
        await reconcile_endpoint(self.context, ENDPOINT)
        accepted = builders.condition_of(self.cluster.stored(ENDPOINT), "Accepted")
        assert accepted["status"] == "True", accepted

    def delete(self) -> None:
        """Delete the endpoint and, as the garbage collector does, what it owns."""
        uid = self.cluster.stored(ENDPOINT)["metadata"]["uid"]
        self.cluster.remove(ENDPOINT)
        for kind in ("Service", "NetworkPolicy", "Secret", "ConfigMap", "Deployment", CLAIM.kind):
            for obj in self.cluster.of_this_kind(kind):
                owners = obj["metadata"].get("ownerReferences", ())
                if any(owner["uid"] == uid for owner in owners):
                    self.cluster.remove(Ref(kind, "team-a", obj["metadata"]["name"]))

    @property
    def claims(self) -> list[Object]:
        return self.cluster.of_this_kind(CLAIM.kind)

    @property
    def size(self) -> str:
        claim = self.cluster.stored(CLAIM)
        return str(claim["spec"]["resources"]["requests"]["storage"])

    def grow(self, size: str) -> None:
        """Have somebody else give the claim another size."""
        self.cluster.edit(CLAIM, resources={"requests": {"storage": size}})


@pytest.fixture
def fleet(make_context: MakeContext) -> Fleet:
    return Fleet(make_context)


@pytest.mark.parametrize("size", ["80Gi", "85899345920", "1Pi"])
async def test_a_claim_that_somebody_made_larger_stays_so(fleet: Fleet, size: str) -> None:
    await fleet.create()
    fleet.grow(size)
    await fleet.reconcile()
    assert fleet.cluster.writes == []

    await fleet.edit(size="40Gi")
    assert fleet.size == size
    assert ("apply", DEPLOYMENT) in fleet.cluster.writes


async def test_a_claim_grows_with_the_spec(fleet: Fleet) -> None:
    await fleet.create()
    fleet.grow("80Gi")
    await fleet.edit(size="100Gi")
    assert fleet.size == "100Gi"


async def test_a_claim_that_was_kept_serves_the_next_endpoint_of_that_name(fleet: Fleet) -> None:
    await fleet.create(size="80Gi")
    kept = fleet.cluster.stored(CLAIM)["metadata"]["uid"]
    fleet.delete()
    assert len(fleet.claims) == 1
    await fleet.create(uid="uid-2", size="50Gi")
    assert fleet.cluster.stored(CLAIM)["metadata"]["uid"] == kept
    assert fleet.size == "80Gi"
    assert fleet.cluster.stored(DEPLOYMENT)


async def test_a_claim_that_is_to_be_deleted_goes_with_its_endpoint(fleet: Fleet) -> None:
    await fleet.create(onDelete="Delete")
    fleet.delete()
    assert fleet.claims == []


@pytest.mark.parametrize(
    ("before", "after", "left"), [("Retain", "Delete", 0), ("Delete", "Retain", 1)]
)
async def test_what_becomes_of_a_claim_can_be_changed(
    fleet: Fleet, before: str, after: str, left: int
) -> None:
    await fleet.create(onDelete=before)
    await fleet.edit(onDelete=after)
    fleet.delete()
    assert len(fleet.claims) == left


@pytest.mark.parametrize(
    ("said", "left"), [(["Retain"], 1), (["Delete"], 0), (["Delete", "Retain"], 1)], ids=str
)
async def test_a_claim_that_the_spec_gives_up_goes_after_the_rollout_if_it_was_to_be_deleted(
    fleet: Fleet, said: list[str], left: int
) -> None:
    await fleet.create(onDelete=said[0])
    for word in said[1:]:
        await fleet.edit(onDelete=word)
    fleet.cluster.edit(ENDPOINT, model={"source": "hf://org/tiny"})
    await fleet.reconcile()
    assert len(fleet.claims) == 1
    deployment = fleet.cluster.stored(DEPLOYMENT)
    generation = deployment["metadata"]["generation"]
    fleet.cluster.put(deployment | {"status": builders.rolled_out(1, generation=generation)})
    await fleet.reconcile()
    assert len(fleet.claims) == left


async def test_a_claim_that_was_kept_can_be_given_to_the_next_endpoint_for_good(
    fleet: Fleet,
) -> None:
    await fleet.create()
    fleet.delete()
    await fleet.create(uid="uid-2", onDelete="Delete")
    fleet.delete()
    assert fleet.claims == []


async def test_a_claim_that_was_kept_can_not_become_another(fleet: Fleet) -> None:
    await fleet.create()
    fleet.cluster.edit(ENDPOINT, model=model(accessMode="ReadWriteMany"))
    await reconcile_endpoint(fleet.context, ENDPOINT)
    accepted = builders.condition_of(fleet.cluster.stored(ENDPOINT), "Accepted")
    assert accepted["reason"] == "InvalidSpec"
    assert (
        "spec.model.cache.accessMode: PersistentVolumeClaim team-a/qwen-cache was kept"
        in (accepted["message"])
    )


async def test_a_claim_that_lost_its_label_is_still_ours(fleet: Fleet) -> None:
    await fleet.create()
    claim = fleet.cluster.stored(CLAIM)
    del claim["metadata"]["labels"][names.ENDPOINT]
    fleet.cluster.put(claim)
    await fleet.edit(size="60Gi")
    assert fleet.cluster.stored(CLAIM)["metadata"]["labels"][names.ENDPOINT] == "qwen"
    assert fleet.size == "60Gi"


async def test_a_claim_of_somebody_else_is_never_touched(fleet: Fleet) -> None:
    foreign = fleet.cluster.put(
        {
            "apiVersion": "v1",
            "kind": CLAIM.kind,
            "metadata": {"namespace": "team-a", "name": CLAIM.name},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
        }
    )
    fleet.cluster.put(builders.endpoint(model=model()))
    await reconcile_endpoint(fleet.context, ENDPOINT)
    accepted = builders.condition_of(fleet.cluster.stored(ENDPOINT), "Accepted")
    assert accepted["reason"] == "NameConflict"
    assert fleet.cluster.stored(CLAIM) == foreign
