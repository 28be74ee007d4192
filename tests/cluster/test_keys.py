"""ApiKeys on a real API server: their Secrets, and the keyring that the gateway reads."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from endpoint_operator import keyring
from endpoint_operator.cache import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.operator_process import NAMESPACE, OperatorProcess

Object = dict[str, Any]

RING = Ref("Secret", NAMESPACE, "vllm-endpoints-keyring")

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
