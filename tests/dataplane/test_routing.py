"""Which endpoint a request means, for whom."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from endpoint_gateway import routing
from endpoint_gateway.catalog import Adapter, Catalog, Endpoint, Key
from endpoint_gateway.errors import EndpointNotFound, GatewayError, ModelNotFound
from helpers.fake_vllm import FakeVllm, answering, captured, response
from helpers.live_server import endpoint, key, live_gateway

A_QWEN = endpoint(name="qwen", served_names=("tiny", "org/tiny"), created=10)
A_SMALL = endpoint(name="small", served_names=("small", "tiny"), created=20)
B_QWEN = endpoint(namespace="team-b", name="qwen", served_names=("tiny",), created=5)
B_ONLY = endpoint(namespace="team-b", name="only", served_names=("only-model",), created=6)
A_GREEDY = endpoint(name="greedy", served_names=("team-a/small", "team-b/only"), created=1)
CATALOG = Catalog.of([A_SMALL, A_QWEN, B_QWEN, B_ONLY])
CONTESTED = Catalog.of([A_SMALL, A_GREEDY, B_ONLY])

SQL = Adapter("sql", "hf://org/sql")

A = key()
B = key("sk-b", namespace="team-b")
A_LIMITED = key("sk-l", endpoints=frozenset({"small"}))
ADMIN = key("sk-admin", namespace="system", everywhere=True)
ADMIN_OF_A = key("sk-admin-a", everywhere=True)

BY_MODEL: dict[str, tuple[Key, str, Endpoint | None]] = {
    "served": (A, "org/tiny", A_QWEN),
    "claimed twice: the oldest": (A, "tiny", A_QWEN),
    "claimed twice, of which one is open to the key": (A_LIMITED, "tiny", A_SMALL),
    "of the key's own namespace first": (ADMIN_OF_A, "tiny", A_QWEN),
    "for a key without endpoints of its own: the oldest": (ADMIN, "tiny", B_QWEN),
    "endpoint's name": (A, "small", A_SMALL),
    "qualified": (A, "team-a/qwen", A_QWEN),
    "qualified, by a key for everything": (ADMIN, "team-b/qwen", B_QWEN),
    "bare and unique": (ADMIN, "only", B_ONLY),
    "bare and not unique": (ADMIN, "qwen", None),
    "somebody else's, qualified": (A, "team-b/qwen", None),
    "somebody else's model": (A, "only-model", None),
    "not in the key's scope": (A_LIMITED, "qwen", None),
    "no such": (A, "gpt-4", None),
    "empty": (A, "", None),
}


@pytest.mark.parametrize(("who", "model", "expected"), BY_MODEL.values(), ids=BY_MODEL)
def test_a_model_leads_to_its_endpoint(who: Key, model: str, expected: Endpoint | None) -> None:
    if expected is not None:
        assert routing.by_model(CATALOG, who, model) is expected
        return
    with pytest.raises(ModelNotFound):
        routing.by_model(CATALOG, who, model)


def test_a_served_name_takes_no_qualified_name_away() -> None:
    assert routing.by_model(CONTESTED, A, "team-a/small") is A_SMALL
    assert routing.by_model(CONTESTED, ADMIN, "team-b/only") is B_ONLY


def test_a_qualified_name_that_is_closed_to_the_key_is_not_there_to_be_taken_away() -> None:
    assert routing.by_model(CONTESTED, A, "team-b/only") is A_GREEDY


BY_SEGMENT: dict[str, tuple[Key, str, Endpoint | None]] = {
    "bare": (A, "qwen", A_QWEN),
    "bare, in another namespace of the same name": (B, "qwen", B_QWEN),
    "qualified": (A, "team-a.qwen", A_QWEN),
    "somebody else's": (A, "team-b.qwen", None),
    "not in the key's scope": (A_LIMITED, "qwen", None),
    "not unique": (ADMIN, "qwen", None),
    "too many dots": (A, "team-a.qwen.x", None),
    "a served name is no endpoint": (A, "tiny", None),
}


@pytest.mark.parametrize(("who", "segment", "expected"), BY_SEGMENT.values(), ids=BY_SEGMENT)
def test_a_path_leads_to_its_endpoint(who: Key, segment: str, expected: Endpoint | None) -> None:
    if expected is not None:
        assert routing.by_segment(CATALOG, who, segment) is expected
        return
    with pytest.raises(EndpointNotFound):
        routing.by_segment(CATALOG, who, segment)


BY_HOST: dict[str, tuple[bytes | None, Endpoint | None]] = {
    "short": (b"qwen.team-a", A_QWEN),
    "with port": (b"qwen.team-a:80", A_QWEN),
    "in capitals": (b"Qwen.Team-A", A_QWEN),
    "service": (b"qwen.team-a.svc", A_QWEN),
    "whole": (b"qwen.team-a.svc.cluster.local", A_QWEN),
    "with the root's dot": (b"qwen.team-a.svc.cluster.local.", A_QWEN),
    "another domain": (b"qwen.team-a.example.com", None),
    "somebody else's": (b"qwen.team-b", None),
    "the gateway's own": (b"vllm-endpoints-gateway.vllm-endpoints.svc", None),
    "an address": (b"10.0.0.1:8080", None),
    "a name": (b"localhost", None),
    "empty": (b"", None),
    "a dot": (b".", None),
    "absent": (None, None),
}


def test_hosts_that_are_too_long_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(50):
            assert routing.by_host(CATALOG, A, b"%d." % number + b"ab." * 20_000) is None
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("host", "expected"), BY_HOST.values(), ids=BY_HOST)
def test_a_host_leads_to_its_endpoint(host: bytes | None, expected: Endpoint | None) -> None:
    assert routing.by_host(CATALOG, A, host) is expected


def refusal(who: Key, model: str) -> str:
    with pytest.raises(GatewayError) as caught:
        routing.by_model(CATALOG, who, model)
    return caught.value.message


def test_what_a_key_may_not_use_answers_as_if_it_did_not_exist() -> None:
    hidden, absent = refusal(A, "only-model"), refusal(A, "none-model")
    assert hidden == absent.replace("none-model", "only-model")


def test_the_message_lists_what_would_be_right_and_nobody_elses() -> None:
    assert refusal(A, "gpt-4").endswith("Available models: `tiny`, `org/tiny`, `small`.")
    assert refusal(B, "gpt-4").endswith("Available models: `tiny`, `only-model`.")
    assert refusal(key("sk-c", namespace="team-c"), "gpt-4").endswith("Available models: none.")


def test_the_endpoint_that_takes_every_model_takes_none_of_a_key_that_may_not_use_it() -> None:
    catalog = Catalog.of([A_QWEN], catch_all=A_QWEN)
    assert routing.by_model(catalog, key(), "anything") is A_QWEN
    with pytest.raises(ModelNotFound):
        routing.by_model(catalog, key(namespace="elsewhere"), "anything")


def test_a_long_list_is_cut() -> None:
    many = Catalog.of(endpoint(name=f"e{n}", served_names=(f"m{n}",)) for n in range(30))
    with pytest.raises(ModelNotFound) as caught:
        routing.by_model(many, A, "x")
    assert caught.value.message.count("`m") == 20


@pytest.mark.parametrize(
    ("path", "sent", "upstream"),
    [
        ("/v1/chat/completions", {"model": "tiny"}, {"model": "tiny"}),
        ("/v1/chat/completions", {"model": "other"}, {"model": "other"}),
        ("/v1/chat/completions", {"model": "new"}, {"model": "qwen"}),
        ("/v1/chat/completions", {"model": "sql"}, {"model": "sql"}),
        ("/v1/chat/completions", {"model": "qwen"}, {"model": "qwen"}),
        ("/v1/chat/completions", {"model": "team-a/qwen"}, {"model": "qwen"}),
        ("/qwen/v1/chat/completions", {"model": "gpt-4"}, {"model": "qwen"}),
        ("/qwen/v1/chat/completions", {"model": "other"}, {"model": "other"}),
        ("/qwen/v1/chat/completions", {"model": "sql"}, {"model": "sql"}),
        ("/qwen/v1/chat/completions", {"model": ""}, {"model": "qwen"}),
        ("/qwen/v1/chat/completions", {"model": None}, {"model": None}),
        ("/qwen/v1/chat/completions", {}, {}),
        ("/qwen/chat/completions", {"model": "gpt-4"}, {"model": "qwen"}),
        ("/team-a.qwen/v1/chat/completions", {"model": "gpt-4"}, {"model": "qwen"}),
        ("/team-a.qwen/chat/completions", {"model": "gpt-4"}, {"model": "qwen"}),
    ],
)
async def test_the_engine_gets_a_model_that_it_serves(
    path: str, sent: dict[str, Any], upstream: dict[str, Any]
) -> None:
    async with FakeVllm(answering(captured("chat"))) as engine:
        rolling = endpoint(
            engine.replica,
            served_names=("tiny", "other", "new"),
            adapters=(SQL,),
            engine_names=frozenset({"tiny", "other", "sql"}),
        )
        async with live_gateway(rolling) as live:
            answer = await live.post(path, {**sent, "seed": 7})
    assert answer.status_code == 200
    assert engine.requests[0].json == {**upstream, "seed": 7}
    assert engine.requests[0].path == "/v1/chat/completions"


async def test_a_body_with_a_served_model_is_not_touched() -> None:
    body = b'{ "model" :"tiny",\n"temperature":1.0e0,"x":"\\u00e9","big":12345678901234567890}'
    async with (
        FakeVllm(answering(captured("completion"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.post("/v1/completions", body)
    assert engine.requests[0].body == body
    assert engine.requests[0].path == "/v1/completions"


async def test_a_request_to_an_endpoints_host_goes_there_whatever_its_model() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(
            "/v1/chat/completions", {"model": "gpt-4"}, headers={"host": "qwen.team-a:80"}
        )
    assert answer.status_code == 200
    assert engine.requests[0].json["model"] == "qwen"


async def test_an_unknown_endpoint_is_a_404_that_lists_the_right_ones() -> None:
    async with live_gateway(endpoint()) as live:
        answer = await live.post("/other/v1/chat/completions", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "endpoint_not_found")
    assert "`team-a.qwen`" in answer.json()["error"]["message"]


async def test_models_lists_what_the_key_may_use_in_vllms_shape() -> None:
    ours = endpoint(served_names=("tiny", "org/tiny"))
    async with live_gateway(ours, endpoint(namespace="team-b")) as live:
        answer = await live.client.get("/v1/models")
    vllms = json.loads(captured("models").partition(b"\r\n\r\n")[2])
    assert answer.json()["object"] == "list"
    assert [model["id"] for model in answer.json()["data"]] == ["tiny", "org/tiny"]
    assert answer.json()["data"][0].keys() == vllms["data"][0].keys()
    assert (
        answer.json()["data"][0]["permission"][0].keys() == vllms["data"][0]["permission"][0].keys()
    )
    assert answer.json()["data"][0]["created"] == ours.created


async def test_an_adapter_is_listed_as_vllm_lists_it() -> None:
    ours = endpoint(served_names=("tiny", "org/tiny"), adapters=(SQL,))
    async with live_gateway(ours) as live:
        listed = (await live.client.get("/v1/models")).json()["data"]
        for path in ("/v1/models/sql", "/qwen/v1/models/sql"):
            assert (await live.client.get(path)).json() == listed[-1]
    assert [model["id"] for model in listed] == ["tiny", "org/tiny", "sql"]
    assert (listed[-1]["root"], listed[-1]["parent"]) == ("hf://org/sql", "tiny")
    assert (listed[0]["root"], listed[0]["parent"]) == ("hf://org/tiny", None)


async def test_models_of_one_endpoint_are_its_own() -> None:
    other = endpoint(name="other", served_names=("other",))
    async with live_gateway(endpoint(), other) as live:
        for path in ("/qwen/v1/models", "/qwen/models", "/team-a.qwen/v1/models"):
            answer = await live.client.get(path)
            assert [model["id"] for model in answer.json()["data"]] == ["tiny"], path


@pytest.mark.parametrize("path", ["/v1/models/org/tiny", "/v1/models/org%2Ftiny"])
async def test_one_model_is_described(path: str) -> None:
    async with live_gateway(endpoint(served_names=("org/tiny",))) as live:
        answer = await live.client.get(path)
    assert (answer.json()["id"], answer.json()["object"]) == ("org/tiny", "model")


@pytest.mark.parametrize("path", ["/v1/models/nope", "/qwen/v1/models/nope", "/qwen/models/other"])
async def test_a_model_that_is_not_there_is_a_404(path: str) -> None:
    other = endpoint(name="other", served_names=("other",))
    async with live_gateway(endpoint(), other) as live:
        answer = await live.client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_an_endpoint_whose_names_lead_elsewhere_is_listed_by_its_own() -> None:
    older = endpoint(name="older", created=1)
    newer = endpoint(name="newer", created=2)
    listed = [name for name, _ in routing.models(Catalog.of([newer, older]), A)]
    assert listed == ["tiny", "team-a/newer"]


class Counting(dict[str, tuple[Endpoint, ...]]):
    """An index that counts how often a name is looked up."""

    def __init__(self, content: Mapping[str, tuple[Endpoint, ...]]) -> None:
        super().__init__(content)
        self.asked: Counter[str] = Counter()

    def get(self, name: str, default: Any = None) -> Any:
        """Return what is there, and count."""
        self.asked[name] += 1
        return super().get(name, default)


def test_a_name_that_many_claim_is_resolved_once() -> None:
    many = Catalog.of(
        endpoint(namespace=f"team-{n}", name="qwen", served_names=("tiny", f"tiny-{n}"))
        for n in range(20)
    )
    served = Counting(many.served)
    listed = [name for name, _ in routing.models(replace(many, served=served), ADMIN)]
    assert listed.count("tiny") == 1
    assert set(served.asked.values()) == {1}


def test_an_adapter_whose_name_leads_elsewhere_is_not_listed() -> None:
    older = endpoint(name="older", created=1, served_names=("sql",))
    newer = endpoint(name="newer", created=2, adapters=(SQL,))
    listed = [name for name, _ in routing.models(Catalog.of([newer, older]), A)]
    assert listed == ["sql", "tiny"]


async def test_asking_for_models_asks_no_engine() -> None:
    async with (
        FakeVllm(answering(response(b"{}"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.client.get("/v1/models")
        await live.client.get("/v1/models/tiny")
    assert engine.connections == 0
