"""Whatever is written, moved or deleted in the namespaces that are served, somebody hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from endpoint_operator.cluster import ApiCluster
from endpoint_operator.errors import MissingKindError
from endpoint_operator.live import Live
from endpoint_operator.settings import Settings
from endpoint_operator.watches import REFUSALS, Watches
from helpers import builders
from helpers.scripted_api import (
    Reply,
    ScriptedApi,
    changes,
    failure,
    listing,
    scripted_api,
    silence,
)
from kube_api import Forbidden, Unavailable

Object = dict[str, Any]

KIND = "InferenceEndpoint"


def endpoint(name: str, version: int, *, namespace: str = "team-a", uid: str = "") -> Object:
    body = builders.endpoint(name, namespace)
    meta = {**body["metadata"], "resourceVersion": str(version), "uid": uid or f"uid-{name}"}
    return body | {"metadata": meta}


def child(version: int, owner: str) -> Object:
    reference = {
        "apiVersion": "serving.vllm-endpoints.dev/v1alpha1",
        "kind": KIND,
        "name": owner,
        "uid": f"uid-{owner}",
        "controller": True,
    }
    meta = {
        "namespace": "team-a",
        "name": "child",
        "uid": "uid-child",
        "resourceVersion": str(version),
        "ownerReferences": [reference],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}


def by_namespace(replies: Mapping[str, Reply]) -> Reply:
    """A reply that depends on the namespace that is asked about."""

    async def reply(request: web.Request) -> web.StreamResponse:
        namespace = request.path.split("/namespaces/")[1].split("/")[0]
        return await replies[namespace](request)

    return reply


class Heard:
    """What a watch tells."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[Live] = asyncio.Queue()
        self.synced = asyncio.Event()

    async def next(self, count: int) -> list[tuple[str, int]]:
        """Wait for so many; return names and versions."""
        async with asyncio.timeout(10):
            heard = [await self.news.get() for _ in range(count)]
        return [(live.ref.name, live.version) for live in heard]


@asynccontextmanager
async def following(watches: Watches, kind: str = KIND) -> AsyncIterator[Heard]:
    """Follow a kind while the context lasts."""
    heard = Heard()
    task = asyncio.create_task(
        watches.follow(kind, changed=heard.news.put_nowait, synced=heard.synced.set)
    )
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def played(settings: Settings) -> AsyncIterator[tuple[ScriptedApi, ApiCluster, Watches]]:
    async with scripted_api() as (script, client):
        cluster = ApiCluster(client, settings.release_namespace)
        yield script, cluster, Watches(client, cluster, settings)


async def test_all_objects_of_ours_are_watched_and_of_others_those_with_our_label(
    settings: Settings,
) -> None:
    async with played(settings) as (script, _, watches):
        for kind in (KIND, "ConfigMap"):
            script.lists.append(listing(version=5))
            async with following(watches, kind) as heard:
                await heard.synced.wait()
        ours, others = script.requests[0], script.requests[-1]
        assert "labelSelector" not in ours.query
        assert others.query["labelSelector"] == "app.kubernetes.io/managed-by=vllm-endpoints"


async def test_a_change_tells_what_was_and_what_is(settings: Settings) -> None:
    async with played(settings) as (script, _, watches):
        script.lists.append(listing(child(3, "a"), version=5))
        script.watches.append(changes(("MODIFIED", child(6, "b"))))
        async with following(watches, "ConfigMap") as heard:
            assert await heard.next(3) == [("child", 3), ("child", 3), ("child", 6)]


async def test_what_is_deleted_during_a_gap_is_told_as_it_was(settings: Settings) -> None:
    async with played(settings) as (script, cluster, watches):
        script.lists.append(listing(endpoint("a", 3), version=5))
        script.watches.append(failure(410))
        script.lists.append(listing(version=9))
        async with following(watches) as heard:
            before = await heard.news.get()
            as_it_was = await heard.news.get()
            assert as_it_was is before
            assert cluster.get(before.ref) is None


async def test_named_namespaces_are_watched_each_and_the_releases_with_them(
    settings: Settings,
) -> None:
    named = settings.model_copy(update={"watch_namespaces": ("team-a", "team-b")})
    slow = asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        await slow.wait()
        return await listing(endpoint("b", 4, namespace="team-b"), version=5)(request)

    lists = {
        "team-a": listing(endpoint("a", 3), version=5),
        "team-b": late,
        "vllm-system": listing(version=5),
    }
    async with played(named) as (script, _, watches):
        script.lists.extend([by_namespace(lists)] * 3)
        async with following(watches) as heard:
            assert await heard.next(1) == [("a", 3)]
            assert not heard.synced.is_set()
            slow.set()
            await heard.synced.wait()
            assert await heard.next(1) == [("b", 4)]
    asked = {request.path.split("/")[5] for request in script.requests}
    assert asked == {"team-a", "team-b", "vllm-system"}


async def test_a_named_namespace_that_is_closed_does_not_close_the_others(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    named = settings.model_copy(update={"watch_namespaces": ("team-a", "gone")})
    lists = {
        "team-a": listing(endpoint("a", 3), version=5),
        "gone": failure(403, "endpoints is forbidden"),
        "vllm-system": listing(version=5),
    }
    async with played(named) as (script, cluster, watches):
        script.lists.extend([by_namespace(lists)] * 3)
        async with following(watches) as heard:
            await heard.synced.wait()
            assert await heard.next(1) == [("a", 3)]
        assert [cluster.is_closed(name) for name in ("team-a", "gone")] == [False, True]
    assert "of namespace gone is seen: endpoints is forbidden" in caplog.text


@pytest.mark.parametrize("gone", ["aaa-gone", "gone"])
async def test_a_named_namespace_that_is_closed_stops_neither_a_start_nor_a_new_leader(
    settings: Settings, gone: str
) -> None:
    named = settings.model_copy(update={"watch_namespaces": ("team-a", gone)})
    lists = {
        "team-a": listing(endpoint("a", 3), version=5),
        gone: failure(403, "endpoints is forbidden"),
        "vllm-system": listing(version=5),
    }
    async with played(named) as (script, cluster, watches):
        script.lists.extend([by_namespace(lists)] * 4)
        await watches.require(KIND)
        await watches.refresh(KIND)
        assert [live.ref.name for live in cluster.of_kind(KIND)] == ["a"]


async def test_a_new_leader_must_be_able_to_list_the_namespace_of_the_release(
    settings: Settings,
) -> None:
    async with played(settings) as (script, _, watches):
        script.lists.append(failure(403))
        with pytest.raises(Forbidden):
            await watches.refresh(KIND)


async def test_of_a_named_namespace_that_is_closed_later_nothing_is_known_any_more(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    named = settings.model_copy(update={"watch_namespaces": ("team-a", "gone")})
    lists = {
        "team-a": listing(endpoint("a", 3), version=5),
        "gone": listing(endpoint("b", 4, namespace="gone"), version=5),
        "vllm-system": listing(version=5),
    }
    open_watches = {"team-a": silence(begins=True), "vllm-system": silence(begins=True)}
    refused = by_namespace(open_watches | {"gone": failure(403, "endpoints is forbidden")})
    async with played(named) as (script, cluster, watches):
        script.lists.extend([by_namespace(lists)] * 3)
        script.watches.extend([refused] * (2 + REFUSALS))
        async with following(watches) as heard:
            assert sorted(await heard.next(2)) == [("a", 3), ("b", 4)]
            assert await heard.next(1) == [("b", 4)]  # it is no longer there
        assert [live.ref.name for live in cluster.of_kind(KIND)] == ["a"]
        assert [cluster.is_closed(name) for name in ("team-a", "gone")] == [False, True]
        async with following(watches) as heard:
            script.lists.extend([by_namespace(lists)] * 3)
            assert await heard.next(1) == [("b", 4)]
            await heard.synced.wait()
        assert not cluster.is_closed("gone")
    assert "of namespace gone is seen: endpoints is forbidden" in caplog.text


async def test_secrets_are_listed_a_few_at_a_time(settings: Settings) -> None:
    async with played(settings) as (script, _, watches):
        script.lists.extend([listing(version=5)] * 2)
        for kind in ("Secret", "ConfigMap"):
            async with following(watches, kind) as heard:
                await heard.synced.wait()
        limits = [r.query["limit"] for r in script.requests if "limit" in r.query]
        assert limits == ["20", "100"]


@pytest.mark.parametrize("namespaces", [(), ("team-a",)], ids=["all", "the release's"])
async def test_a_namespace_that_is_needed_must_not_be_closed(
    settings: Settings, namespaces: tuple[str, ...]
) -> None:
    named = settings.model_copy(update={"watch_namespaces": namespaces})
    refusal = failure(403, "endpoints is forbidden")

    async def reply(request: web.Request) -> web.StreamResponse:
        is_ours = "/namespaces/team-a/" not in request.path
        return await (refusal if is_ours else listing(version=5))(request)

    async with played(named) as (script, _, watches):
        script.lists.extend([reply] * 2)
        with pytest.raises(ExceptionGroup) as caught:
            await watches.follow(KIND, changed=lambda _: None, synced=lambda: None)
        assert caught.group_contains(Forbidden, match="endpoints is forbidden")


async def test_listing_again_makes_known_what_was_written_before(settings: Settings) -> None:
    async with played(settings) as (script, cluster, watches):
        for name in ("changed", "deleted", "newer", "new-one"):
            cluster.observe("ADDED", endpoint(name, 99 if name.startswith("new") else 3))
        script.lists.append(listing(endpoint("changed", 7), endpoint("newer", 5), version=50))
        await watches.refresh(KIND)
        known = {live.ref.name: live.version for live in cluster.of_kind(KIND)}
        # what a watch has brought meanwhile is newer than the list
        assert known == {"changed": 7, "newer": 99, "new-one": 99}


async def test_listing_named_namespaces_again_leaves_others_alone(settings: Settings) -> None:
    named = settings.model_copy(update={"watch_namespaces": ("team-a",)})
    async with played(named) as (script, cluster, watches):
        cluster.observe("ADDED", endpoint("a", 3))
        cluster.observe("ADDED", endpoint("s", 3, namespace="vllm-system"))
        lists = {
            "team-a": listing(version=50),
            "vllm-system": listing(endpoint("s", 3, namespace="vllm-system"), version=50),
        }
        script.lists.extend([by_namespace(lists)] * 2)
        await watches.refresh(KIND)
        assert [live.ref.name for live in cluster.of_kind(KIND)] == ["s"]


async def test_a_cluster_without_our_kinds_is_told_what_to_install(settings: Settings) -> None:
    async with played(settings) as (script, _, watches):
        script.lists.append(failure(404))
        with pytest.raises(MissingKindError, match=r"InferenceEndpoints .*: install the CRDs"):
            await watches.require(KIND)
        script.lists.append(failure(503))
        with pytest.raises(Unavailable):
            await watches.require(KIND)
        script.lists.append(listing(version=5))
        await watches.require(KIND)
