"""What every path means: the routes there are, under each of the ways to name an endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway.catalog import Adapter, Endpoint
from endpoint_gateway.errors import UnknownUrl
from endpoint_gateway.routes import Kind, Target, find, see_that_it_takes
from helpers.fake_vllm import FakeVllm, answering, captured, response
from helpers.live_server import SECRET, endpoint, live_gateway

ROUTES = {
    "chat.completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "messages.count_tokens": "/v1/messages/count_tokens",
    "audio.transcriptions": "/v1/audio/transcriptions",
    "audio.translations": "/v1/audio/translations",
    "tokenize": "/tokenize",
    "detokenize": "/detokenize",
    "pooling": "/pooling",
    "classify": "/classify",
    "score": "/score",
    "rerank": "/rerank",
}
WRONG_KEY = "Incorrect API key provided. It is unknown, has expired or is suspended."
SHARED = {
    **{path: name for name, path in ROUTES.items()},
    **{f"/v1{path}": name for name, path in ROUTES.items() if not path.startswith("/v1")},
    "/v2/rerank": "rerank",
}


def found(path: str, method: str = "POST") -> Target:
    target = find(path)
    see_that_it_takes(target.route, method)
    return target


@pytest.mark.parametrize(("path", "name"), SHARED.items(), ids=SHARED)
def test_every_route_is_at_the_shared_address(path: str, name: str) -> None:
    target = found(path)
    assert (target.route.name, target.route.path) == (name, ROUTES[name])
    assert (target.segment, target.by_id) == (None, False)


@pytest.mark.parametrize(
    "path",
    ["/chat/completions", "/completions", "/models", "/v1/v1/messages", "/qwen/v1/v1/messages"],
)
def test_a_base_url_with_the_wrong_end_is_told_so(path: str) -> None:
    with pytest.raises(UnknownUrl, match="base URL that ends in /v1, Anthropic's"):
        found(path)


@pytest.mark.parametrize("prefix", ["/qwen", "/qwen/v1", "/a.qwen", "/a.qwen/v1"])
@pytest.mark.parametrize(("name", "path"), ROUTES.items(), ids=ROUTES)
def test_every_route_is_below_an_endpoint(name: str, path: str, prefix: str) -> None:
    target = found(prefix + path.removeprefix("/v1"))
    assert (target.route.name, target.segment) == (name, prefix.split("/")[1])
    assert not target.by_id


@pytest.mark.parametrize("prefix", ["/v2/qwen/openai", "/v2/qwen/openai/v1"])
@pytest.mark.parametrize(("name", "path"), ROUTES.items(), ids=ROUTES)
def test_every_route_is_below_an_endpoints_id(name: str, path: str, prefix: str) -> None:
    target = found(prefix + path.removeprefix("/v1"))
    assert (target.route.name, target.segment, target.by_id) == (name, "qwen", True)


def test_a_rerank_has_a_third_path_below_an_endpoint_too() -> None:
    assert found("/qwen/v2/rerank").route.name == "rerank"


@pytest.mark.parametrize("prefix", ["/v1", "/qwen", "/qwen/v1", "/v2/qwen/openai/v1"])
def test_models_are_listed_and_described_at_every_address(prefix: str) -> None:
    assert found(f"{prefix}/models", "GET").route.kind is Kind.LIST_MODELS
    target = found(f"{prefix}/models/org/tiny", "GET")
    assert (target.route.kind, target.model) == (Kind.DESCRIBE_MODEL, "org/tiny")


REFUSED = [
    "/v1/images/generations",
    "/v1/moderations",
    "/v1/files",
    "/v1/realtime",
    "/v1/audio/speech",
    "/v1/chat/completions/chatcmpl-1",
    "/v1/chat/completions/chatcmpl-1/messages",
    "/v1/skills",
    "/v1/responses/resp_1",
    "/v1/responses/resp_1/cancel",
    "/v1/messages/batches",
    "/qwen/v1/batches",
    "/v2/qwen/openai/v1/fine_tuning/jobs",
]


@pytest.mark.parametrize("path", REFUSED)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_is_known_and_not_served_is_refused(path: str, method: str) -> None:
    assert found(path, method).route.kind is Kind.REFUSE


UNKNOWN = ["/v2", "/v2/", "/v2/qwen", "/v2/qwen/run", "/v2/qwen/openai", "/v2//openai/v1/models"]


@pytest.mark.parametrize("path", UNKNOWN)
def test_any_other_path_does_not_exist(path: str) -> None:
    with pytest.raises(UnknownUrl):
        found(path)


def engine_paths() -> list[str]:
    """Return all that a real vLLM serves (its own OpenAPI document, and its development routes)."""
    text = (Path(__file__).parent / "captures" / "vllm-paths.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("prefix", ["", "/qwen", "/team-a.qwen", "/v2/qwen/openai", "/qwen/v1/.."])
async def test_of_an_engines_paths_only_the_tables_reach_it(prefix: str) -> None:
    async with (
        FakeVllm(answering(response(b"{}"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        for path in engine_paths():
            for method in ("GET", "POST"):
                await live.client.request(method, prefix + path, content=b'{"model":"tiny"}')
    assert {received.path for received in engine.requests} <= set(ROUTES.values())


SQL = Adapter("sql", "hf://org/sql")
PLAIN = {"served_names": ("tiny",), "adapters": (SQL,), "aliases": ("gpt-4o",)}
MATCHING = PLAIN | {"matches_model": True, "hosts": ("qwen.example.com",)}
CHAT = "/v1/chat/completions"
# fields of the endpoint, path, host, the model asked for: the model that the engine is asked for
MODELS: dict[str, tuple[dict[str, Any], str, str, Any, Any]] = {
    "shared, served": (PLAIN, CHAT, "g", "tiny", "tiny"),
    "shared, adapter": (PLAIN, CHAT, "g", "sql", "sql"),
    "shared, alias": (PLAIN, CHAT, "g", "gpt-4o", "qwen"),
    "shared, the endpoint's name": (PLAIN, CHAT, "g", "qwen", "qwen"),
    "shared, qualified": (PLAIN, CHAT, "g", "team-a/qwen", "qwen"),
    "shared, unknown": (PLAIN, CHAT, "g", "gpt-5", None),
    "by path, any": (PLAIN, "/qwen" + CHAT, "g", "gpt-5", "qwen"),
    "by path, empty": (PLAIN, "/qwen" + CHAT, "g", "", "qwen"),
    "by path, adapter": (PLAIN, "/qwen" + CHAT, "g", "sql", "sql"),
    "by path, to be matched": (MATCHING, "/qwen" + CHAT, "g", "gpt-5", None),
    "by path, empty where it is to be matched": (MATCHING, "/qwen" + CHAT, "g", "", "qwen"),
    "by path, matched": (MATCHING, "/qwen" + CHAT, "g", "gpt-4o", "qwen"),
    "by id, unknown": (PLAIN, "/v2/qwen/openai" + CHAT, "g", "gpt-5", None),
    "by id, empty": (PLAIN, "/v2/qwen/openai" + CHAT, "g", "", "qwen"),
    "by id, served": (PLAIN, "/v2/team-a.qwen/openai" + CHAT, "g", "tiny", "tiny"),
    "by id, alias": (PLAIN, "/v2/qwen/openai" + CHAT, "g", "gpt-4o", "qwen"),
    "by name in the cluster": (PLAIN, CHAT, "qwen.team-a", "gpt-5", "qwen"),
    "by host": (PLAIN | {"hosts": ("qwen.example.com",)}, CHAT, "QWEN.example.com:80", "x", "qwen"),
    "by host, to be matched": (MATCHING, CHAT, "qwen.example.com", "gpt-5", None),
    "by host, matched": (MATCHING, CHAT, "qwen.example.com", "tiny", "tiny"),
}


@pytest.mark.parametrize(
    ("fields", "path", "host", "model", "expected"), MODELS.values(), ids=MODELS
)
async def test_the_model_is_read_as_the_address_has_it(
    fields: dict[str, Any], path: str, host: str, model: str, expected: str | None
) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica, **fields)) as live,
    ):
        content = {"model": model, "messages": []}
        answer = await live.post(path, content, headers={"host": host})
    if expected is None:
        assert answer.json()["error"]["code"] == "model_not_found"
        assert engine.requests == []
    else:
        assert [received.json for received in engine.requests] == [content | {"model": expected}]


@pytest.mark.parametrize("path", ["/qwen" + CHAT, "/v2/qwen/openai" + CHAT])
async def test_where_the_address_names_the_endpoint_the_model_may_be_absent(path: str) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        assert (await live.post(path, {"messages": []})).status_code == 200
    assert [received.json for received in engine.requests] == [{"messages": []}]


def limited(*routes: str) -> Endpoint:
    return endpoint(routes=frozenset(routes))


@pytest.mark.parametrize("prefix", ["", "/qwen", "/v2/qwen/openai"])
async def test_an_endpoint_has_only_the_routes_that_it_lists(prefix: str) -> None:
    async with live_gateway(limited("embeddings", "messages")) as live:
        refused = await live.post(prefix + CHAT, {"model": "tiny"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_url")
        assert "embeddings, messages" in refused.json()["error"]["message"]
        for path in ("/v1/embeddings", "/v1/messages/count_tokens"):
            # served, but nothing is there to serve it
            assert (await live.post(prefix + path, {"model": "tiny"})).status_code == 503


STATE = {"previous_response_id": "resp_1", "conversation": "conv_1", "background": True}


@pytest.mark.parametrize(("member", "value"), STATE.items(), ids=STATE)
async def test_a_response_that_needs_another_one_is_a_501(member: str, value: Any) -> None:
    async with live_gateway(endpoint()) as live:
        answer = await live.post("/v1/responses", {"model": "tiny", "input": "x", member: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (501, "unsupported", member)


async def test_an_error_of_messages_is_told_as_anthropic_tells_it() -> None:
    async with live_gateway(endpoint(), keys=()) as live:
        answer = await live.client.post(
            "/v1/messages", content=json.dumps({"model": "tiny"}), headers={"x-api-key": SECRET}
        )
    assert answer.status_code == 401
    assert answer.json() == {
        "type": "error",
        "error": {"type": "authentication_error", "message": WRONG_KEY},
    }


SEGMENTS = ["v1", "v2", "openai", "chat", "completions", "rerank", "models", "qwen", "team-a.qwen"]
ODD_SEGMENTS = ["", ".", "..", "%2f", "\0", "é", "v1/", "metrics", "load_lora_adapter", "?x", "#"]


@given(st.lists(st.sampled_from(SEGMENTS + ODD_SEGMENTS)))
def test_no_path_of_a_client_becomes_one_of_an_engine(segments: list[str]) -> None:
    try:
        target = find("/" + "/".join(segments))
    except UnknownUrl:
        return
    path = target.route.path
    assert path in {"", "/v1/models", "/v1/chat/completions", "/v1/completions", "/rerank"}
