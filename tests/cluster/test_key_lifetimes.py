"""ApiKeys that end, rest, rotate and are adopted, on a real API server."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.api.values import since_1970
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.live_keys import (
    RING,
    entries_of,
    in_force,
    in_seconds,
    key_of,
    lists,
    manifest,
    says,
)
from helpers.operator_process import OperatorProcess

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


def given(namespace: str, key: str, **more: str) -> Object:
    """Return a Secret that a user made for an ApiKey to have."""
    texts = {"api-key": key, **more}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    secret = builders.secret("mine", namespace, data)
    secret["metadata"]["labels"] = {names.MANAGED_BY: names.MANAGER}
    return secret


async def test_a_key_ends_at_its_time(cluster: LiveCluster, namespace: str) -> None:
    ref, ends_at = Ref("ApiKey", namespace, "ci"), in_seconds(3600)
    await cluster.create(manifest("ci", namespace, expiresAt=ends_at))
    await in_force(cluster, namespace)
    (entry,) = entries_of(await cluster.must_get(RING), namespace)
    assert entry.expires == since_1970(ends_at)
    ends_at = in_seconds(5)
    await cluster.patch(ref, {"spec": {"expiresAt": ends_at}})
    await cluster.eventually(ref, says("Expired"))
    assert since_1970(ends_at) <= time.time()
    await cluster.eventually(RING, lists(namespace))


async def test_a_suspended_key_comes_back_as_it_was(cluster: LiveCluster, namespace: str) -> None:
    ref = Ref("ApiKey", namespace, "ci")
    await cluster.create(manifest("ci", namespace))
    key = await in_force(cluster, namespace)
    await cluster.patch(ref, {"spec": {"suspended": True}})
    await cluster.eventually(ref, says("Suspended"))
    await cluster.eventually(RING, lists(namespace))
    await cluster.patch(ref, {"spec": {"suspended": None}})
    assert await in_force(cluster, namespace) == key
    await cluster.eventually(RING, lists(namespace, key))


async def test_a_key_is_replaced_without_a_gap(cluster: LiveCluster, namespace: str) -> None:
    ref, secret = Ref("ApiKey", namespace, "ci"), Ref("Secret", namespace, "ci-api-key")
    await cluster.create(manifest("ci", namespace))
    old = await in_force(cluster, namespace)
    await cluster.patch(ref, {"spec": {"rotation": {"id": "2", "overlap": "1h"}}})
    body = await cluster.eventually(secret, lambda body: key_of(body) != old)
    ring = await cluster.must_get(RING)
    assert lists(namespace, old, key_of(body))(ring)
    assert key_of(body, "previous-api-key") == old
    assert body["metadata"]["annotations"][names.ROTATION] == "2"


async def test_an_overlap_ends(cluster: LiveCluster, namespace: str) -> None:
    ref, secret = Ref("ApiKey", namespace, "ci"), Ref("Secret", namespace, "ci-api-key")
    await cluster.create(manifest("ci", namespace))
    old = await in_force(cluster, namespace)
    await cluster.patch(secret, {"data": {"note": "bWluZQ=="}})
    await cluster.patch(ref, {"spec": {"rotation": {"id": "2", "overlap": "2s"}}})
    body = await cluster.eventually(
        secret, lambda body: key_of(body) != old and "previous-api-key" not in body["data"]
    )
    await cluster.eventually(RING, lists(namespace, key_of(body)))
    assert body["data"].keys() == {"api-key", "note"}
    assert names.PREVIOUS_UNTIL not in body["metadata"]["annotations"]


async def test_an_overlap_ends_also_if_the_operator_was_down(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    ref, secret = Ref("ApiKey", namespace, "ci"), Ref("Secret", namespace, "ci-api-key")
    await cluster.create(manifest("ci", namespace))
    old = await in_force(cluster, namespace)
    await cluster.patch(ref, {"spec": {"rotation": {"id": "2", "overlap": "1h"}}})
    body = await cluster.eventually(secret, lambda body: key_of(body) != old)
    operator.kill()
    # an hour later
    await cluster.patch(
        secret, {"metadata": {"annotations": {names.PREVIOUS_UNTIL: in_seconds(-1)}}}
    )
    await operator.start()
    await cluster.eventually(secret, lambda body: "previous-api-key" not in body["data"])
    await cluster.eventually(RING, lists(namespace, key_of(body)))


async def test_a_secret_with_our_label_is_adopted_and_never_written(
    cluster: LiveCluster, namespace: str
) -> None:
    secret = Ref("Secret", namespace, "mine")
    await cluster.create(given(namespace, "sk-mine"))
    before = await cluster.versions(secret)
    await cluster.create(manifest("ci", namespace, secretName="mine"))
    assert await in_force(cluster, namespace) == "sk-mine"
    await cluster.eventually(RING, lists(namespace, "sk-mine"))
    assert await cluster.versions(secret) == before
    await cluster.apply(given(namespace, "sk-new", **{"previous-api-key": "sk-mine"}))
    await cluster.eventually(RING, lists(namespace, "sk-new", "sk-mine"))
    before = await cluster.versions(secret)
    await cluster.delete(Ref("ApiKey", namespace, "ci"))
    await cluster.eventually(RING, lists(namespace))
    assert await cluster.versions(secret) == before


async def test_an_adopted_secret_without_a_key_says_so(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(given(namespace, "sk-mine"))
    await cluster.create(manifest("ci", namespace, secretName="mine"))
    await in_force(cluster, namespace)
    await cluster.patch(Ref("Secret", namespace, "mine"), {"data": {"api-key": None}})
    await cluster.eventually(Ref("ApiKey", namespace, "ci"), says("KeyMissing"))
    await cluster.eventually(RING, lists(namespace))


async def test_a_key_of_another_api_key_is_not_taken_over(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("zz", namespace))
    key = await in_force(cluster, namespace, "zz")
    await cluster.create(given(namespace, key))
    await cluster.create(manifest("aa", namespace, secretName="mine"))
    await cluster.eventually(Ref("ApiKey", namespace, "aa"), says("KeyInUse"))
    (entry,) = entries_of(await cluster.must_get(RING), namespace)
    assert entry.name == "zz"
