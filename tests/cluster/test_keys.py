"""ApiKeys on a real API server: their Secrets, and the keyring that the gateway reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from endpoint_operator import keyring, names
from endpoint_operator.cache import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.operator_process import NAMESPACE, OperatorProcess

Object = dict[str, Any]

RING = Ref("Secret", NAMESPACE, "vllm-endpoints-keyring")
ROOT_KEY = Ref("Secret", NAMESPACE, "vllm-endpoints-root-key")

pytestmark = pytest.mark.usefixtures("operator")


def manifest(name: str, namespace: str, **spec: Any) -> Object:
    body = builders.api_key(name, namespace, **spec)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def key_of(secret: Object) -> str:
    return keyring.read_field(secret, "api-key")


def lists(namespace: str, *texts: str) -> Any:
    """Return whether a keyring has exactly these keys of a namespace."""
    wanted = {hashlib.sha256(text.encode()).hexdigest() for text in texts}

    def check(secret: Object) -> bool:
        entries = keyring.read_keyring(secret)
        return {entry.sha256 for entry in entries if entry.namespace == namespace} == wanted

    return check


def has_scope(namespace: str, name: str, endpoints: tuple[str, ...]) -> Callable[[Object], bool]:
    """Return whether a keyring has a key of this scope."""

    def check(secret: Object) -> bool:
        entry = keyring.listed(secret, namespace, name)
        return entry is not None and entry.endpoints == endpoints

    return check


async def in_force(cluster: LiveCluster, namespace: str, name: str = "ci") -> str:
    """Wait until a key is in force; return it."""
    await cluster.eventually(
        Ref("ApiKey", namespace, name),
        lambda body: builders.condition_of(body, "Ready").get("status") == "True",
    )
    return key_of(await cluster.must_get(Ref("Secret", namespace, f"{name}-api-key")))


async def test_a_new_key_has_a_secret_and_is_in_the_keyring(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("ci", namespace, endpoints=["qwen"]))
    key = await in_force(cluster, namespace)
    assert key.startswith("sk-")
    secret = await cluster.eventually(RING, lists(namespace, key))
    (entry,) = [entry for entry in keyring.read_keyring(secret) if entry.namespace == namespace]
    assert entry.endpoints == ("qwen",)
    assert key not in str(secret)


async def test_a_deleted_key_is_revoked_within_two_seconds(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("ci", namespace))
    await cluster.create(manifest("other", namespace))
    await in_force(cluster, namespace)
    other = await in_force(cluster, namespace, "other")
    await cluster.delete(Ref("ApiKey", namespace, "ci"))
    await cluster.eventually(RING, lists(namespace, other), within=2)


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
        lambda body: builders.condition_of(body, "Ready").get("reason") == "NameConflict",
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
    body = await cluster.eventually(
        ref, lambda body: builders.condition_of(body, "Ready").get("reason") == "ScopeNotAllowed"
    )
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
        lambda body: builders.condition_of(body, "Ready").get("reason") == "ScopeNotAllowed",
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


async def test_a_deleted_root_key_comes_back_unchanged(cluster: LiveCluster) -> None:
    before = await cluster.must_get(ROOT_KEY)
    await cluster.delete(ROOT_KEY)
    after = await cluster.eventually(
        ROOT_KEY, lambda body: body["metadata"]["uid"] != before["metadata"]["uid"]
    )
    assert after["data"] == before["data"]


async def test_another_root_key_ends_the_operator_with_a_line(
    cluster: LiveCluster, operator: OperatorProcess
) -> None:
    before = await cluster.must_get(ROOT_KEY)
    await cluster.patch(ROOT_KEY, {"data": {"root-key": "eHh4" * 12}})

    async def has_ended() -> bool:
        return not operator.is_running()

    try:
        await cluster.until(has_ended, what="the operator to end")
    finally:
        await cluster.patch(ROOT_KEY, {"data": before["data"]})
    assert "Traceback" not in operator.log()[-1000:]
    assert operator.log().splitlines()[-1].startswith("Secret vllm-system/vllm-endpoints-root-key")
    await operator.start()
