"""The root key, on a cluster in memory: put back where it is lost, never mixed with another one."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from endpoint_operator import keyring, names
from endpoint_operator.cache import Ref
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.errors import RootKeyError
from endpoint_operator.rootkey import ROOT_KEY, ensure_root_key, reconcile_root_key
from endpoint_operator.settings import Settings
from helpers import builders
from helpers.memory_cluster import MakeContext, MemoryCluster
from helpers.scripted_api import ScriptedApi, answer, failure, scripted_api

Object = dict[str, Any]
Played = tuple[ScriptedApi, ApiCluster]

SECRET = Ref("Secret", builders.RELEASE_NAMESPACE, "vllm-endpoints-root-key")
IN_USE = b"r" * 32  # as the context of the tests has it


def secret(key: bytes = IN_USE) -> Object:
    return keyring.root_key_secret(SECRET.namespace, SECRET.name, key)


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    async with scripted_api() as (script, client):
        yield script, ApiCluster(client)


async def test_a_root_key_as_it_should_be_costs_no_write(make_context: MakeContext) -> None:
    cluster = MemoryCluster(secret())
    await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert cluster.writes == []


async def test_a_deleted_root_key_comes_back_unchanged(make_context: MakeContext) -> None:
    cluster = MemoryCluster()
    await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert keyring.read_root_key(cluster.stored(SECRET)) == IN_USE


async def test_a_root_key_gets_its_label_back(make_context: MakeContext) -> None:
    cluster = MemoryCluster()
    cluster.put(builders.secret(SECRET.name, SECRET.namespace, secret()["data"]), seen=False)
    await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert cluster.stored(SECRET)["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER


@pytest.mark.parametrize("data", [secret(b"x" * 32)["data"], {"root-key": "eA=="}, {}])
async def test_another_root_key_ends_the_process(make_context: MakeContext, data: Object) -> None:
    cluster = MemoryCluster(secret() | {"data": data})
    with pytest.raises(RootKeyError, match="vllm-endpoints-root-key"):
        await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert cluster.writes == []


def stored(obj: Object) -> Object:
    return obj | {"metadata": obj["metadata"] | {"uid": "u", "resourceVersion": "7"}}


@pytest.mark.parametrize("known", [True, False])
async def test_a_new_root_key_beside_a_keyring_is_worth_a_warning(
    played: Played, settings: Settings, caplog: pytest.LogCaptureFixture, *, known: bool
) -> None:
    script, cluster = played
    ring = stored(keyring.keyring_secret("vllm-system", "ring", []))
    script.others += [
        failure(404),
        answer(ring) if known else failure(404),
        answer(stored(secret())),
    ]
    assert await ensure_root_key(cluster, settings) == IN_USE
    made = base64.b64decode(script.bodies[-1]["data"]["root-key"])
    assert len(made) == keyring.KEY_BYTES
    assert ("every engine restarts" in caplog.text) is known
