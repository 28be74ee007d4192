"""ApiKeys on a real API server: their Secrets, and the keyring that the gateway reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from endpoint_operator import keyring, names
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.live_keys import RING, entries_of, in_force, key_of, lists, manifest, says
from helpers.operator_process import NAMESPACE, OperatorProcess

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


def has_scope(namespace: str, name: str, endpoints: tuple[str, ...]) -> Callable[[Object], bool]:
    """Return whether a keyring has a key of this scope."""

    def check(secret: Object) -> bool:
        listed = keyring.read_keyring(secret).of(namespace, name)
        return {entry.endpoints for entry in listed} == {endpoints}

    return check


async def test_a_new_key_has_a_secret_and_is_in_the_keyring(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("ci", namespace, endpoints=["qwen"]))
    key = await in_force(cluster, namespace)
    assert key.startswith("sk-")
    secret = await cluster.eventually(RING, lists(namespace, key))
    (entry,) = entries_of(secret, namespace)
    assert entry.endpoints == ("qwen",)
    assert key not in str(secret)


async def test_a_deleted_key_is_revoked_and_no_other(cluster: LiveCluster, namespace: str) -> None:
    texts = {}
    for name in ("a", "b", "c", "d", "e"):
        await cluster.create(manifest(name, namespace))
        texts[name] = await in_force(cluster, namespace, name)
    for name in list(texts):
        await cluster.delete(Ref("ApiKey", namespace, name))
        del texts[name]
        await cluster.eventually(RING, lists(namespace, *texts.values()))


async def test_a_lost_secret_is_made_again_and_the_lost_key_revoked(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("ci", namespace))
    lost = await in_force(cluster, namespace)
    ref = Ref("Secret", namespace, "ci-api-key")
    await cluster.delete(ref)
    secret = await cluster.eventually(ref, lambda body: key_of(body) != lost)
    await cluster.eventually(RING, lists(namespace, key_of(secret)))


async def test_a_restart_revokes_nobody_and_writes_nothing(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    await cluster.create(manifest("ci", namespace))
    key = await in_force(cluster, namespace)
    before = await cluster.versions(RING, Ref("Secret", namespace, "ci-api-key"))
    operator.kill()
    await operator.start()
    await cluster.create(manifest("later", namespace))
    later = await in_force(cluster, namespace, "later")
    await cluster.eventually(RING, lists(namespace, key, later))
    ring, secret = await cluster.versions(RING, Ref("Secret", namespace, "ci-api-key"))
    assert secret == before[1]
    assert ring != before[0]  # once, for the later key


async def test_a_secret_of_somebody_else_is_never_touched(
    cluster: LiveCluster, namespace: str
) -> None:
    foreign = builders.secret("ci-api-key", namespace, {"api-key": "bWluZQ=="})
    await cluster.create(foreign)
    before = await cluster.versions(Ref("Secret", namespace, "ci-api-key"))
    await cluster.create(manifest("ci", namespace))
    await cluster.eventually(
        Ref("ApiKey", namespace, "ci"),
        says("NameConflict"),
    )
    assert await cluster.versions(Ref("Secret", namespace, "ci-api-key")) == before


async def test_a_secret_that_claims_an_owner_elsewhere_replaces_no_key(
    cluster: LiveCluster, namespace: str
) -> None:
    owner = await cluster.create(manifest("boss", NAMESPACE, endpoints=["*/*"]))
    key = await in_force(cluster, NAMESPACE, "boss")
    forged = builders.secret("boss-api-key", namespace, {"api-key": "c2stZXZpbA=="})
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": "ApiKey",
        "name": "boss",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    labels = {names.MANAGED_BY: names.MANAGER}
    await cluster.create(
        forged
        | {"metadata": forged["metadata"] | {"labels": labels, "ownerReferences": [reference]}}
    )
    await cluster.patch(Ref("ApiKey", NAMESPACE, "boss"), {"spec": {"endpoints": ["*", "*/*"]}})
    ring = await cluster.eventually(RING, has_scope(NAMESPACE, "boss", ("*", "*/*")))
    assert lists(NAMESPACE, key)(ring)
    assert key_of(await cluster.must_get(Ref("Secret", NAMESPACE, "boss-api-key"))) == key
    await cluster.delete(Ref("ApiKey", NAMESPACE, "boss"))


@pytest.mark.parametrize(
    ("loss", "is_back"),
    [
        pytest.param(
            {"labels": None},
            lambda meta: names.MANAGED_BY in meta.get("labels", {}),
            id="its label",
        ),
        pytest.param(
            {"ownerReferences": None}, lambda meta: "ownerReferences" in meta, id="its owner"
        ),
    ],
)
async def test_a_secret_that_loses_something_gets_it_back_and_nobody_is_revoked(
    cluster: LiveCluster, namespace: str, loss: Object, is_back: Callable[[Object], bool]
) -> None:
    await cluster.create(manifest("ci", namespace))
    key = await in_force(cluster, namespace)
    before = await cluster.versions(RING)
    ref = Ref("Secret", namespace, "ci-api-key")
    await cluster.patch(ref, {"metadata": loss})
    secret = await cluster.eventually(ref, lambda body: is_back(body["metadata"]))
    assert key_of(secret) == key
    assert await cluster.versions(RING) == before


async def test_a_refused_scope_leaves_what_was_accepted_last_in_force(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("ci", namespace, endpoints=["qwen"]))
    key = await in_force(cluster, namespace)
    ref = Ref("ApiKey", namespace, "ci")
    await cluster.patch(ref, {"spec": {"endpoints": ["*/*"]}})
    body = await cluster.eventually(ref, says("ScopeNotAllowed"))
    assert "stays in force" in builders.condition_of(body, "Ready")["message"]
    ring = await cluster.must_get(RING)
    assert lists(namespace, key)(ring)
    assert has_scope(namespace, "ci", ("qwen",))(ring)


async def test_only_the_release_namespace_may_allow_every_endpoint(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("ci", namespace, endpoints=["*/*"]))
    await cluster.create(manifest("root", NAMESPACE, endpoints=["*/*"]))
    await cluster.eventually(
        Ref("ApiKey", namespace, "ci"),
        says("ScopeNotAllowed"),
    )
    await in_force(cluster, NAMESPACE, "root")
    await cluster.delete(Ref("ApiKey", NAMESPACE, "root"))


async def test_the_keyring_heals(cluster: LiveCluster, namespace: str) -> None:
    await cluster.create(manifest("ci", namespace))
    key = await in_force(cluster, namespace)
    await cluster.patch(RING, {"data": {"keyring.json": "e30="}})
    await cluster.eventually(RING, lists(namespace, key))
    await cluster.delete(RING)
    await cluster.eventually(RING, lists(namespace, key))
