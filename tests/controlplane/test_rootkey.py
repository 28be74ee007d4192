"""The root key, on a cluster in memory: put back where it is lost, and changed without a gap."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from endpoint_operator import keyring, keys, names
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.context import DONE
from endpoint_operator.errors import RootKeyError
from endpoint_operator.keys import RootKey
from endpoint_operator.live import Ref
from endpoint_operator.rootkey import ROOT_KEY, ensure_root_key, reconcile_root_key
from endpoint_operator.settings import Settings
from helpers import builders
from helpers.memory_cluster import MakeContext, MemoryCluster
from helpers.scripted_api import ScriptedApi, answer, failure, scripted_api
from kube_api import Conflict

Object = dict[str, Any]
Played = tuple[ScriptedApi, ApiCluster]

SECRET = Ref("Secret", builders.RELEASE_NAMESPACE, "vllm-endpoints-root-key")
IN_USE = b"r" * 32  # as the context of the tests has it
NEW = b"n" * 32


def secret(key: bytes = IN_USE, before: bytes = b"") -> Object:
    return keys.root_key_secret(SECRET.namespace, SECRET.name, RootKey(key, before))


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    async with scripted_api() as (script, client):
        yield script, ApiCluster(client, builders.RELEASE_NAMESPACE)


async def test_a_root_key_as_it_should_be_costs_no_write(make_context: MakeContext) -> None:
    cluster = MemoryCluster(secret())
    await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert cluster.writes == []


async def test_a_deleted_root_key_comes_back_unchanged(make_context: MakeContext) -> None:
    cluster = MemoryCluster()
    await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert keys.read_root_key(cluster.stored(SECRET)) == RootKey(IN_USE)


async def test_a_root_key_gets_its_label_back(make_context: MakeContext) -> None:
    cluster = MemoryCluster()
    cluster.put(builders.secret(SECRET.name, SECRET.namespace, secret()["data"]), seen=False)
    await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert cluster.stored(SECRET)["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER


@pytest.mark.parametrize("data", [{"root-key": "eA=="}, {}])
async def test_a_root_key_that_is_none_ends_the_process(
    make_context: MakeContext, data: Object
) -> None:
    cluster = MemoryCluster(secret() | {"data": data})
    with pytest.raises(RootKeyError, match="vllm-endpoints-root-key"):
        await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert cluster.writes == []


async def test_another_root_key_is_taken_up_and_every_endpoint_looked_at(
    make_context: MakeContext,
) -> None:
    endpoints = [builders.endpoint("a"), builders.endpoint("b", "team-b", uid="uid-2")]
    cluster = MemoryCluster(secret(NEW, IN_USE), *endpoints)
    context = make_context(cluster)
    outcome = await reconcile_root_key(context, ROOT_KEY)
    assert context.root_key == NEW
    assert {(ref.kind, ref.name) for ref in outcome.then} == {
        ("InferenceEndpoint", "a"),
        ("InferenceEndpoint", "b"),
    }
    assert cluster.writes == []
    assert await reconcile_root_key(context, ROOT_KEY) == DONE


async def test_the_key_before_is_put_beside_a_new_one_that_comes_alone(
    make_context: MakeContext,
) -> None:
    cluster = MemoryCluster(secret(NEW))
    context = make_context(cluster)
    await reconcile_root_key(context, ROOT_KEY)
    assert keys.read_root_key(cluster.stored(SECRET)) == RootKey(NEW, IN_USE)
    assert context.root_key == NEW


@pytest.mark.parametrize(("before", "cut_off"), [(NEW, True), (IN_USE, False)])
async def test_a_second_root_key_before_the_first_got_everywhere_is_an_error(
    make_context: MakeContext, caplog: pytest.LogCaptureFixture, before: bytes, *, cut_off: bool
) -> None:
    cluster = MemoryCluster(secret(NEW, IN_USE))
    context = make_context(cluster)
    await reconcile_root_key(context, ROOT_KEY)
    cluster.put(secret(b"3" * 32, before))
    await reconcile_root_key(context, ROOT_KEY)
    assert ("was changed twice" in caplog.text) is cut_off
    assert context.root_key == b"3" * 32


async def test_a_root_key_that_changes_while_the_one_before_is_taken_up_stays(
    make_context: MakeContext,
) -> None:
    cluster = MemoryCluster(secret(NEW))
    cluster.put(secret(b"l" * 32), seen=False)
    with pytest.raises(Conflict):
        await reconcile_root_key(make_context(cluster), ROOT_KEY)
    assert keys.read_root_key(cluster.stored(SECRET)) == RootKey(b"l" * 32)


async def test_the_key_before_is_not_put_back_where_it_is_taken_away(
    make_context: MakeContext,
) -> None:
    cluster = MemoryCluster(secret(NEW, IN_USE))
    context = make_context(cluster)
    await reconcile_root_key(context, ROOT_KEY)
    cluster.put(secret(NEW))
    await reconcile_root_key(context, ROOT_KEY)
    assert keys.read_root_key(cluster.stored(SECRET)) == RootKey(NEW)
    cluster.remove(SECRET)
    await reconcile_root_key(context, ROOT_KEY)
    assert keys.read_root_key(cluster.stored(SECRET)) == RootKey(NEW)


async def test_a_root_key_deleted_while_it_changes_comes_back_with_the_one_before(
    make_context: MakeContext,
) -> None:
    cluster = MemoryCluster(secret(NEW, IN_USE))
    context = make_context(cluster)
    await reconcile_root_key(context, ROOT_KEY)
    cluster.remove(SECRET)
    await reconcile_root_key(context, ROOT_KEY)
    assert keys.read_root_key(cluster.stored(SECRET)) == RootKey(NEW, IN_USE)


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
    assert await ensure_root_key(cluster, settings) == RootKey(IN_USE)
    made = base64.b64decode(script.bodies[-1]["data"]["root-key"])
    assert len(made) == keys.KEY_BYTES
    assert ("every engine restarts" in caplog.text) is known
