"""Requests carry what the API server expects, and failures become errors with a meaning."""

from __future__ import annotations

import base64
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from helpers.scripted_api import WIDGETS, answer, failure, scripted_api, silence, widget
from kube_api import (
    ApiError,
    Config,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeClient,
    NotFound,
    Resource,
    Unauthorized,
    Unavailable,
)
from kube_api.config import Bearer, from_kubeconfig


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (WIDGETS, ("ns", "a"), "/apis/example.dev/v1/namespaces/ns/widgets/a"),
        (WIDGETS, (None,), "/apis/example.dev/v1/widgets"),
        (WIDGETS, ("ns", "a", "status"), "/apis/example.dev/v1/namespaces/ns/widgets/a/status"),
        (Resource("", "v1", "pods", "Pod"), ("ns",), "/api/v1/namespaces/ns/pods"),
        (Resource("", "v1", "nodes", "Node", namespaced=False), ("ns", "n"), "/api/v1/nodes/n"),
    ],
)
def test_paths(resource: Resource, arguments: tuple[str, ...], path: str) -> None:
    assert resource.path(*arguments) == path


async def test_apply_sends_the_object_with_manager_force_and_strict_validation() -> None:
    async with scripted_api() as (script, client):
        script.others.append(answer(widget("a", 2)))
        assert await client.apply(WIDGETS, widget("a", 1), field_manager="me") == widget("a", 2)
        request = script.requests[0]
        assert request.method == "PATCH"
        assert request.content_type == "application/apply-patch+yaml"
        assert dict(request.query) == {
            "fieldManager": "me",
            "force": "true",
            "fieldValidation": "Strict",
        }
        assert script.bodies == [widget("a", 1)]


async def test_merge_patch_reaches_the_subresource() -> None:
    async with scripted_api() as (script, client):
        script.others.append(answer(widget("a", 2)))
        await client.merge_patch(
            WIDGETS, "ns", "a", patch={"status": {}}, subresource="status", field_manager="me"
        )
        assert script.requests[0].path.endswith("/namespaces/ns/widgets/a/status")
        assert script.requests[0].content_type == "application/merge-patch+json"


async def test_delete_guards_against_another_object_of_that_name() -> None:
    async with scripted_api() as (script, client):
        script.others.append(answer({}))
        await client.delete(WIDGETS, "ns", "a", uid="u1")
        assert script.bodies == [
            {"propagationPolicy": "Background", "preconditions": {"uid": "u1"}}
        ]


async def test_what_may_change_something_can_be_prevented_at_the_last_moment() -> None:
    def prevent() -> None:
        raise PermissionError("no longer")

    async with scripted_api() as (script, _):
        async with KubeClient(
            Config(script.url, None), user_agent="t", before_write=prevent
        ) as client:
            script.others.append(answer(widget("a", 1)))
            await client.get(WIDGETS, "ns", "a")
            writes = [
                client.create(WIDGETS, widget("a", 1)),
                client.apply(WIDGETS, widget("a", 1), field_manager="me"),
                client.merge_patch(WIDGETS, "ns", "a", patch={}, field_manager="me"),
                client.delete(WIDGETS, "ns", "a"),
            ]
            for write in writes:
                with pytest.raises(PermissionError, match="no longer"):
                    await write
        assert [request.method for request in script.requests] == ["GET"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (418, ApiError),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_failures_have_a_class_by_status(status: int, error: type[ApiError]) -> None:
    async with scripted_api() as (script, client):
        script.others.append(failure(status, "the reason", **{"Retry-After": "3"}))
        with pytest.raises(ApiError, match="the reason") as caught:
            await client.get(WIDGETS, "ns", "a")
        assert type(caught.value) is error
        assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (
            status,
            "R",
            3,
        )


async def test_a_field_that_is_in_no_schema_is_a_refusal_whatever_the_status() -> None:
    async with scripted_api() as (script, client):
        said = "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.x: field"
        script.others.append(failure(500, said))
        with pytest.raises(Invalid, match=r"\.spec\.x"):
            await client.get(WIDGETS, "ns", "a")


async def test_a_body_that_is_no_status_object_is_not_repeated() -> None:
    async def proxy_page(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>secret token</html>")

    async with scripted_api() as (script, client):
        script.others.append(proxy_page)
        with pytest.raises(Unavailable) as caught:
            await client.get(WIDGETS, "ns", "a")
        assert "secret" not in str(caught.value)


async def test_no_answer_is_unavailable() -> None:
    async with scripted_api() as (_, client):
        pass
    async with KubeClient(Config("http://127.0.0.1:1", None), user_agent="t") as client:
        with pytest.raises(Unavailable, match=r"GET /apis/example\.dev/v1/widgets"):
            await client.list(WIDGETS)


async def test_a_refused_token_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with scripted_api() as (script, _):
        config = Config(script.url, None, token_file=token)
        async with KubeClient(config, user_agent="t") as client:
            for text, reply in (
                ("first\n", answer({})),
                ("second\n", failure(401)),
                ("third\n", answer({})),
            ):
                token.write_text(text)
                script.others.append(reply)
                with contextlib.suppress(Unauthorized):
                    await client.get(WIDGETS, "ns", "a")
        assert [r.headers["Authorization"] for r in script.requests] == [
            "Bearer first",
            "Bearer first",
            "Bearer third",
        ]


def test_a_token_file_is_read_every_minute_and_the_last_token_outlives_it(tmp_path: Path) -> None:
    token, seconds = tmp_path / "token", 0.0
    token.write_text("first")
    bearer = Bearer(Config("http://h", None, token_file=token), clock=lambda: seconds)
    assert bearer.token() == "first"
    token.write_text("second")
    seconds = 59
    assert bearer.token() == "first"
    seconds = 60
    assert bearer.token() == "second"
    token.unlink()
    seconds = 200
    assert bearer.token() == "second"


def test_a_token_file_that_never_was_is_named(tmp_path: Path) -> None:
    bearer = Bearer(Config("http://h", None, token_file=tmp_path / "token"))
    with pytest.raises(ConfigError, match=r"cannot read the token file .*/token"):
        bearer.token()


async def test_a_connection_notices_that_its_peer_is_gone() -> None:
    async with scripted_api() as (script, client):
        script.others.append(silence(begins=True))
        async with client.open("GET", "/") as response:
            used = response.transport.get_extra_info("socket")
            assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            between = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            count = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + between * count <= 25
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 25_000


async def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/login"})

    async with scripted_api() as (script, client):
        script.others.append(elsewhere)
        with pytest.raises(ApiError, match="Found"):
            await client.get(WIDGETS, "ns", "a")
        assert len(script.requests) == 1


@pytest.mark.parametrize("text", ["<html>", "", '{"items": ', "[]", "null"])
async def test_an_answer_that_is_no_object_is_no_answer(text: str) -> None:
    async def garbage(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    async with scripted_api() as (script, client):
        script.others.append(garbage)
        with pytest.raises(Unavailable, match="the answer is no object"):
            await client.get(WIDGETS, "ns", "a")


@pytest.mark.parametrize(
    "page",
    [{}, {"items": []}, {"items": [], "metadata": {}}, {"metadata": {"resourceVersion": ""}}],
)
async def test_an_answer_that_is_no_list_is_not_an_empty_one(page: dict[str, Any]) -> None:
    async with scripted_api() as (script, client):
        script.lists.append(answer(page))
        with pytest.raises(Unavailable, match="the answer is no list"):
            await client.list(WIDGETS)


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        ("7", None, 7),
        ("", {"retryAfterSeconds": 5}, 5),
        ("7", {"retryAfterSeconds": 5}, 7),
        ("86400", None, 60),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, 0),
        ("-1", "later", 0),
    ],
    ids=["header", "body", "both", "too long", "a date", "nonsense"],
)
async def test_a_busy_server_says_when_to_come_back(header: str, body: Any, seconds: float) -> None:
    status = {"kind": "Status", "message": "busy", "details": body}
    async with scripted_api() as (script, client):
        script.others.append(answer(status, 429, {"Retry-After": header}))
        with pytest.raises(Unavailable) as caught:
            await client.get(WIDGETS, "ns", "a")
        assert caught.value.retry_after == seconds


def kubeconfig(**user: Any) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:8080/"}}],
        "users": [{"name": "u", "user": user}],
    }


def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    config = from_kubeconfig(kubeconfig(token="t"), base=tmp_path)
    assert (config.server, Bearer(config).token(), config.tls) == (
        "http://127.0.0.1:8080",
        "t",
        None,
    )


def test_file_names_count_from_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from file")
    config = from_kubeconfig(kubeconfig(tokenFile="token"), base=tmp_path)
    assert Bearer(config).token() == "from file"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": [{"name": "u", "user": {"exec": {}}}]}, "kubectl create token"),
        ({"current-context": "other"}, "lacks 'other'"),
        ({"clusters": []}, "lacks 'k'"),
        ({"contexts": None}, "check its current-context"),
    ],
)
def test_an_unusable_kubeconfig_says_why(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        from_kubeconfig(kubeconfig() | change, base=tmp_path)


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    content = kubeconfig(**{"client-certificate": "gone.crt"})
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1"
    with pytest.raises(ConfigError, match=r"gone\.crt"):
        from_kubeconfig(content, base=tmp_path)


def test_secrets_are_not_in_the_representation() -> None:
    assert "hunter2" not in repr(Config("http://h", None, token="hunter2"))
    assert base64.b64encode(b"hunter2").decode() not in repr(Config("http://h", None))
