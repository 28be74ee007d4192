"""The real cluster's cache, played against a scripted API server: what must never be hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from endpoint_operator import names
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.errors import OwnerGoneError
from endpoint_operator.live import Live, Ref
from helpers import builders
from helpers.scripted_api import Reply, ScriptedApi, answer, failure, scripted_api
from kube_api import Conflict

Object = dict[str, Any]

ENDPOINT = Ref("InferenceEndpoint", "team-a", "qwen")
CONFIG = Ref("ConfigMap", "team-a", "qwen-engine")


def endpoint(version: int, *, generation: int = 1) -> Object:
    body = builders.endpoint()
    meta = body["metadata"] | {"resourceVersion": str(version), "generation": generation}
    return body | {"metadata": meta}


OWNER = {
    "apiVersion": names.API_VERSION,
    "kind": "InferenceEndpoint",
    "name": "qwen",
    "uid": "uid-1",
    "controller": True,
}


def config(version: int, *, managed: bool = True, owner: Object | None = OWNER) -> Object:
    labels = {names.MANAGED_BY: names.MANAGER} if managed else {}
    meta = {
        "namespace": "team-a",
        "name": "qwen-engine",
        "uid": "c",
        "resourceVersion": str(version),
        "labels": labels,
        "ownerReferences": [owner] if owner else [],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}


@pytest.fixture
async def played() -> AsyncIterator[tuple[ScriptedApi, ApiCluster]]:
    async with scripted_api() as (script, client):
        yield script, ApiCluster(client, builders.RELEASE_NAMESPACE)


Played = tuple[ScriptedApi, ApiCluster]


def observed(cluster: ApiCluster, body: Object) -> Live:
    """Have the cluster see a new object, and return what it made of it."""
    live = cluster.observe("ADDED", body)
    assert live is not None
    return live


async def test_the_answer_to_a_status_write_is_known_before_its_event(played: Played) -> None:
    script, cluster = played
    live = observed(cluster, endpoint(10))
    script.others.append(answer(endpoint(11)))
    assert await cluster.write_status(live, {"url": "x"})
    assert script.bodies[-1] == {"metadata": {"resourceVersion": "10"}, "status": {"url": "x"}}
    assert cluster.observe("MODIFIED", endpoint(11)) is None


async def test_an_edit_seen_by_asking_is_still_news(played: Played) -> None:
    script, cluster = played
    cluster.observe("ADDED", endpoint(10))
    script.others.append(answer(endpoint(11, generation=2)))
    assert await cluster.read(ENDPOINT) is not None
    assert cluster.observe("MODIFIED", endpoint(11, generation=2)) is not None


async def test_what_is_gone_is_forgotten_when_asked_for(played: Played) -> None:
    script, cluster = played
    cluster.observe("ADDED", endpoint(10))
    script.others.append(failure(404))
    assert await cluster.read(ENDPOINT) is None
    assert cluster.get(ENDPOINT) is None


async def test_a_successor_that_comes_while_we_ask_stays(played: Played) -> None:
    script, cluster = played
    cluster.observe("ADDED", config(5))
    successor = config(9)
    successor["metadata"]["uid"] = "successor"

    async def too_late(request: web.Request) -> web.StreamResponse:
        cluster.observe("ADDED", successor)
        return await failure(404)(request)

    script.others.append(too_late)
    assert await cluster.read(CONFIG) is None
    kept = cluster.get(CONFIG)
    assert kept is not None
    assert kept.uid == "successor"


async def test_a_status_that_is_refused_is_said_and_not_tried_for_ever(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    script, cluster = played
    live = observed(cluster, endpoint(10))
    script.others.append(failure(422, "status.url: Too long"))
    assert not await cluster.write_status(live, {"url": "x"})
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "InferenceEndpoint team-a/qwen" in line.getMessage()
    assert "status.url: Too long" in line.getMessage()


async def test_a_status_for_what_changed_meanwhile_is_a_conflict(played: Played) -> None:
    script, cluster = played
    live = observed(cluster, endpoint(10))
    script.others.append(failure(409))
    with pytest.raises(Conflict):
        await cluster.write_status(live, {"url": "x"})


@pytest.mark.parametrize("managed", [True, False])
async def test_only_what_our_watch_will_report_is_remembered(
    played: Played, *, managed: bool
) -> None:
    script, cluster = played
    script.others.append(answer(config(5, managed=managed)))
    assert await cluster.read(CONFIG) is not None
    assert (cluster.get(CONFIG) is not None) is managed


async def test_a_status_of_something_deleted_makes_it_forgotten(played: Played) -> None:
    script, cluster = played
    live = observed(cluster, endpoint(10))
    script.others.append(failure(404))
    with pytest.raises(OwnerGoneError):
        await cluster.write_status(live, {"url": "x"})
    assert cluster.get(ENDPOINT) is None
    assert cluster.observe("DELETED", endpoint(12)) is not None


async def test_nothing_is_refused_where_the_namespace_is_going(played: Played) -> None:
    script, cluster = played
    going = "unable to create new content in namespace team-a because it is being terminated"
    script.others.append(failure(403, going))
    with pytest.raises(OwnerGoneError):
        await cluster.apply(config(5), over=None)


async def test_the_warnings_about_a_pod_are_asked_for_by_its_uid(played: Played) -> None:
    script, cluster = played
    warning = {"metadata": {"name": "w"}, "reason": "FailedMount"}
    script.lists.append(answer({"metadata": {"resourceVersion": "5"}, "items": [warning]}))
    (found,) = await cluster.warnings_of(builders.pod(status={}))
    assert found["reason"] == "FailedMount"
    assert script.requests[-1].path == "/api/v1/namespaces/team-a/events"
    selector = script.requests[-1].query["fieldSelector"]
    assert selector == "involvedObject.uid=uid-qwen-engine-1,type=Warning"


async def test_an_event_that_is_refused_keeps_none_of_the_others_back(played: Played) -> None:
    script, cluster = played
    second = asyncio.Event()

    async def created(request: web.Request) -> web.StreamResponse:
        second.set()
        return await answer({})(request)

    script.others += [failure(403), created]
    cluster.post({"metadata": {"namespace": "team-a"}, "note": "first"})
    cluster.post({"metadata": {"namespace": "team-a"}, "note": "second"})
    posting = asyncio.create_task(cluster.keep_posting())
    await second.wait()
    posting.cancel()
    assert [body["note"] for body in script.bodies] == ["first", "second"]
    assert script.requests[-1].path == "/apis/events.k8s.io/v1/namespaces/team-a/events"


async def test_a_deletion_is_guarded_by_the_uid(played: Played) -> None:
    script, cluster = played
    live = cluster.observe("ADDED", config(5))
    assert live is not None
    script.others.append(answer({}))
    await cluster.delete(live)
    assert script.bodies[-1]["preconditions"] == {"uid": "c"}
    assert cluster.get(CONFIG) is None


async def test_applying_sets_our_fields_under_our_name(played: Played) -> None:
    script, cluster = played
    over = observed(cluster, config(5))
    script.others.append(answer(config(6)))
    await cluster.apply(config(5), over=over)
    assert script.requests[-1].query["fieldManager"] == names.MANAGER
    assert script.requests[-1].query["force"] == "true"
    assert cluster.observe("ADDED", config(6)) is None


def unnumbered(body: Object) -> Object:
    """An object as we render it."""
    meta = {key: body["metadata"][key] for key in ("namespace", "name", "labels")}
    return body | {"metadata": meta}


async def test_a_new_child_takes_no_others_place(played: Played) -> None:
    script, cluster = played
    script.others.append(answer(config(6)))
    await cluster.apply(unnumbered(config(5)), over=None)
    assert script.bodies[-1]["metadata"]["resourceVersion"] == "1"
    assert "uid" not in script.bodies[-1]["metadata"]


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(failure(409, "uid mismatch: no existing object was found"), id="gone"),
        pytest.param(failure(422, "metadata.uid: Invalid value: immutable"), id="replaced"),
    ],
)
async def test_a_changed_child_takes_no_others_place(played: Played, refusal: Reply) -> None:
    script, cluster = played
    over = observed(cluster, config(5))
    script.others += [refusal, failure(404)]
    with pytest.raises(Conflict):
        await cluster.apply(unnumbered(config(5)), over=over)
    assert script.bodies[0]["metadata"]["uid"] == "c"
    assert cluster.get(CONFIG) is None  # its watch may never tell


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param(None, id="nobody"),
        pytest.param(OWNER | {"apiVersion": "apps/v1", "kind": "Deployment"}, id="a deployment"),
        pytest.param(OWNER | {"apiVersion": "example.dev/v1"}, id="a kind of the same name"),
        pytest.param(OWNER | {"controller": False}, id="an owner that is no controller"),
    ],
)
async def test_our_label_on_things_of_others_costs_no_memory(
    played: Played, owner: Object | None
) -> None:
    script, cluster = played
    assert cluster.observe("ADDED", config(5, owner=owner)) is None
    assert cluster.get(CONFIG) is None
    script.others.append(answer(config(5, owner=owner)))
    assert await cluster.read(CONFIG) is not None
    assert cluster.get(CONFIG) is None


async def test_a_child_that_lost_its_owner_is_forgotten_unless_we_know_better(
    played: Played,
) -> None:
    _, cluster = played
    observed(cluster, config(5))
    assert cluster.observe("MODIFIED", config(4, owner=None)) is None
    assert cluster.get(CONFIG) is not None
    assert cluster.observe("MODIFIED", config(6, owner=None)) is not None
    assert cluster.get(CONFIG) is None


async def test_a_secret_needs_no_owner_to_concern_us(played: Played) -> None:
    _, cluster = played
    secret = observed(cluster, config(5, owner=None) | {"kind": "Secret"})
    assert cluster.get(secret.ref) is secret
