"""A watch reports every difference exactly once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from helpers.scripted_api import (
    WIDGETS,
    answer,
    changes,
    deep,
    failure,
    listing,
    scripted_api,
    silence,
    text,
    widget,
)
from kube_api import Forbidden, KubeClient, Limits, Unauthorized, watch


async def collect(client: KubeClient, count: int) -> list[tuple[str, str]]:
    """Return (type, name) of the first events."""
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(10):
        async for event in watch(client, WIDGETS):
            seen.append((event.type, event.object["metadata"]["name"] if event.object else ""))
            if len(seen) == count:
                break
    return seen


async def test_first_comes_what_there_is_then_synced_then_changes() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 1), version=5))
        script.watches.append(changes(("ADDED", widget("b", 6)), ("DELETED", widget("a", 7))))
        assert await collect(client, 4) == [
            ("ADDED", "a"),
            ("SYNCED", ""),
            ("ADDED", "b"),
            ("DELETED", "a"),
        ]
        assert script.requests[1].query["resourceVersion"] == "5"
        assert script.requests[1].query["allowWatchBookmarks"] == "true"


async def test_listed_objects_carry_their_kind() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 1), version=5))
        async for event in watch(client, WIDGETS):
            assert (event.object["apiVersion"], event.object["kind"]) == (
                "example.dev/v1",
                "Widget",
            )
            break


@pytest.mark.parametrize("cut", [1, 7, 64])
async def test_events_may_be_cut_anywhere(cut: int) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.append(
            changes(("ADDED", widget("a", 6)), ("ADDED", widget("b", 7)), cut=cut)
        )
        assert await collect(client, 3) == [("SYNCED", ""), ("ADDED", "a"), ("ADDED", "b")]


async def test_an_event_may_be_longer_than_any_buffer() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.append(changes(("ADDED", widget("a", 6, spec="x" * 1_000_000))))
        assert await collect(client, 2) == [("SYNCED", ""), ("ADDED", "a")]


@pytest.mark.parametrize("levels", [300, 2000, 9000])
async def test_an_object_of_any_depth_is_delivered_and_keeps_nobody_from_others(
    levels: int,
) -> None:
    async with scripted_api() as (script, client):
        items = b",".join([deep("a", 1, levels), deep("b", 2, levels)])
        script.lists.append(text(b'{"metadata":{"resourceVersion":"5"},"items":[%s]}' % items))
        line = b'{"type":"ADDED","object":%s}' % deep("c", 6, levels)
        script.watches.append(changes(then=line))
        script.watches.append(changes(("ADDED", widget("d", 7, spec="x"))))
        events = await collect(client, 5)
        assert [name for _, name in events] == ["a", "b", "", "c", "d"]


@pytest.mark.parametrize("reset", [False, True], ids=["server ends it", "connection lost"])
async def test_an_interrupted_watch_goes_on_where_it_was(reset: bool) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        bookmark = {"metadata": {"resourceVersion": "9"}}
        script.watches.append(
            changes(("ADDED", widget("a", 6)), ("BOOKMARK", bookmark), reset=reset)
        )
        script.watches.append(changes(("ADDED", widget("b", 10))))
        assert await collect(client, 3) == [("SYNCED", ""), ("ADDED", "a"), ("ADDED", "b")]
        assert [r.query.get("resourceVersion") for r in script.requests] == [None, "5", "9"]


@pytest.mark.parametrize(
    "gone",
    [failure(410), changes(("ERROR", {"code": 410, "message": "too old"}))],
    ids=["as a status", "as an event"],
)
async def test_after_a_gap_the_differences_are_reported(gone: object) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(
            listing(widget("same", 1), widget("changed", 2), widget("lost", 3), version=5)
        )
        script.watches.append(gone)  # type: ignore[arg-type]
        script.lists.append(
            listing(widget("same", 1), widget("changed", 8), widget("new", 9), version=9)
        )
        events = await collect(client, 8)
        assert events[4:] == [
            ("MODIFIED", "changed"),
            ("ADDED", "new"),
            ("DELETED", "lost"),
            ("SYNCED", ""),
        ]


async def test_a_list_is_read_page_by_page_and_begun_again_when_its_token_expires() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 1), version=5, token="t1"))
        script.lists.append(failure(410))
        script.lists.append(listing(widget("a", 1), version=6, token="t2"))
        script.lists.append(listing(widget("b", 2), version=6))
        assert [o["metadata"]["name"] for o in await client.list(WIDGETS)] == ["a", "b"]
        assert [r.query.get("continue") for r in script.requests] == [None, "t1", None, "t2"]


async def test_a_list_that_breaks_off_is_not_reported_twice() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 1), version=5, token="t1"))
        script.lists.append(failure(410))
        script.lists.append(listing(widget("a", 1), version=6, token="t2"))
        script.lists.append(listing(widget("b", 2), version=6))
        assert await collect(client, 3) == [("ADDED", "a"), ("ADDED", "b"), ("SYNCED", "")]


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (403, Forbidden)])
async def test_a_permission_missing_from_the_start_is_an_error(
    status: int, error: type[Exception]
) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(failure(status, "widgets is forbidden"))
        with pytest.raises(error, match="widgets is forbidden"):
            await collect(client, 1)


async def test_a_permission_that_stays_away_is_an_error_for_who_says_how_long() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.extend([failure(403), failure(403), failure(503), failure(403)])
        script.watches.extend([failure(403), changes(("ADDED", widget("a", 6)))])
        script.watches.extend([failure(403)] * 3)
        events = watch(client, WIDGETS, limits=Limits(refusals=3))
        assert [(await anext(events)).type for _ in range(2)] == ["SYNCED", "ADDED"]
        with pytest.raises(Forbidden):
            await anext(events)
        assert not script.watches


async def test_a_version_that_the_server_has_not_reached_is_given_up() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 7), version=50))
        script.watches.append(failure(504, "Too large resource version"))
        script.lists.append(listing(widget("a", 3), version=4))
        assert (await collect(client, 4))[2:] == [("MODIFIED", "a"), ("SYNCED", "")]


async def test_later_failures_are_logged_once_and_waited_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "kube_api")
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 1), version=5))
        script.watches.extend([failure(500, "etcd is away"), failure(503), failure(403)])
        script.watches.append(changes(("ADDED", widget("b", 6))))
        assert (await collect(client, 3))[2:] == [("ADDED", "b")]
        assert len([r for r in script.requests if "watch" not in r.query]) == 1
    assert [r.message for r in caplog.records] == [
        "watch of widgets interrupted, will go on: etcd is away"
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"<html>bad gateway</html>",
        b"null",
        b'"ADDED"',
        b"{}",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": {}}',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "7"}}}',
        b'{"type": "GREETED", "object": {"metadata": {"name": "a", "resourceVersion": "7"}}}',
        b'{"type": "ERROR", "object": "no"}',
        b'{"type": "ERROR", "object": {"code": 500, "message": "etcdserver: no leader"}}',
        b'{"type": "ERROR", "object": {}}',
    ],
)
async def test_whatever_a_watch_says_it_goes_on_where_it_was(line: bytes) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.append(changes(("ADDED", widget("a", 6)), then=line))
        script.watches.append(changes(("ADDED", widget("b", 7))))
        assert await collect(client, 3) == [("SYNCED", ""), ("ADDED", "a"), ("ADDED", "b")]
        assert [r.query.get("resourceVersion") for r in script.requests] == [None, "5", "6"]


async def test_a_line_that_is_cut_off_is_asked_for_again() -> None:
    whole = json.dumps({"type": "ADDED", "object": widget("a", 6)}).encode()
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.append(changes(then=whole[:-5], ended=False))
        script.watches.append(changes(("ADDED", widget("a", 6))))
        assert await collect(client, 2) == [("SYNCED", ""), ("ADDED", "a")]


@pytest.mark.parametrize("begins", [False, True], ids=["no answer", "no event"])
async def test_a_silent_connection_is_given_up(begins: bool) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.extend([silence(begins=begins), changes(("ADDED", widget("a", 6)))])
        seen = []
        async with asyncio.timeout(10):
            async for event in watch(client, WIDGETS, limits=Limits(silence=0.2)):
                seen.append(event.type)
                if event.type == "ADDED":
                    break
        assert seen == ["SYNCED", "ADDED"]
        assert len([r for r in script.requests if "watch" not in r.query]) == 1


async def test_a_server_that_hangs_up_at_once_is_asked_less_and_less_often() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.extend([changes()] * 5)
        script.watches.append(changes(("ADDED", widget("a", 6))))
        begun = asyncio.get_running_loop().time()
        assert await collect(client, 2) == [("SYNCED", ""), ("ADDED", "a")]
        assert asyncio.get_running_loop().time() - begun >= 0.7


async def test_a_busy_server_is_left_alone_for_as_long_as_it_says() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.append(failure(429, "busy", **{"Retry-After": "1"}))
        script.watches.append(changes(("ADDED", widget("a", 6))))
        begun = asyncio.get_running_loop().time()
        assert await collect(client, 2) == [("SYNCED", ""), ("ADDED", "a")]
        assert asyncio.get_running_loop().time() - begun >= 1


async def test_a_proxy_that_gives_up_is_no_reason_to_list_everything_again() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(version=5))
        script.watches.append(failure(504, "upstream request timeout"))
        script.watches.append(changes(("ADDED", widget("a", 6))))
        assert await collect(client, 2) == [("SYNCED", ""), ("ADDED", "a")]
        assert len(script.lists) == 0


async def test_what_was_lost_in_a_gap_is_told_by_name_and_identity() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 3), version=5))
        script.watches.append(failure(410))
        script.lists.append(listing(version=9))
        async with asyncio.timeout(10):
            async for event in watch(client, WIDGETS):
                if event.type == "DELETED":
                    break
        meta = {"namespace": "default", "name": "a", "uid": "a", "resourceVersion": "9"}
        assert event.object == {"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": meta}


async def test_an_answer_that_is_no_list_deletes_nothing() -> None:
    async with scripted_api() as (script, client):
        script.lists.append(listing(widget("a", 3), version=5))
        script.watches.append(failure(410))
        script.lists.append(answer({"items": None}))
        script.lists.append(listing(widget("a", 3), version=9))
        assert await collect(client, 3) == [("ADDED", "a"), ("SYNCED", ""), ("SYNCED", "")]
