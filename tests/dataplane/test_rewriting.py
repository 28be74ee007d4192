"""What is changed of a body on its way, and that no other byte is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from endpoint_gateway.errors import InvalidRequest
from endpoint_gateway.peek import peek
from endpoint_gateway.rewriting import Rewritten, Rules, rewrite
from helpers.fake_vllm import DONE, FakeVllm, answering, captured, delta, event, stream
from helpers.live_server import endpoint, live_gateway

COUNTING = Rules(counts=True)


def rewritten(body: bytes, rules: Rules = COUNTING, *, model: str | None = None) -> Rewritten:
    return rewrite(body, peek(body), rules, model=model)


ADDED = {
    "absent": (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
    "space before": (
        b' {\n"stream" : true}',
        b' {"stream_options":{"include_usage":true},\n"stream" : true}',
    ),
    "null": (
        b'{"stream_options": null , "stream":true}',
        b'{"stream_options": {"include_usage":true}, "stream":true}',
    ),
    "switched off": (
        b'{"stream":true,"stream_options":{"include_usage":false,"x":1}}',
        b'{"stream":true,"stream_options":{"include_usage":true,"x":1}}',
    ),
    "only in every event, which vLLM takes for switched off": (
        b'{"stream":true,"stream_options":{"continuous_usage_stats":true}}',
        b'{"stream":true,"stream_options":{"include_usage":true}}',
    ),
    "spelt out": (
        b'{"stream":true,"stream\\u005foptions":null}',
        b'{"stream":true,"stream\\u005foptions":{"include_usage":true}}',
    ),
    "in a message": (
        b'{"messages":[{"stream_options":{}}],"stream":true}',
        b'{"stream_options":{"include_usage":true},"messages":[{"stream_options":{}}],"stream":true}',
    ),
}


@pytest.mark.parametrize(("body", "expected"), ADDED.values(), ids=ADDED)
def test_a_stream_is_made_to_tell_its_usage(body: bytes, expected: bytes) -> None:
    assert rewritten(body) == (expected, True)


def test_options_that_nobody_writes_are_refused_before_they_are_built() -> None:
    with pytest.raises(InvalidRequest) as refused:
        rewritten(b'{"stream":true,"stream_options":{"x":[%s1]}}' % (b"[]," * 2000))
    assert refused.value.param == "stream_options"


LEFT = {
    "no stream": b'{"model":"tiny"}',
    "no stream, with options": b'{"stream":false,"stream_options":{"include_usage":false}}',
    "asked for": b'{"stream":true,"stream_options":{"include_usage":true}}',
    "asked for in every event": (
        b'{"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'
    ),
    "what the engine refuses": b'{"stream":true,"stream_options":7}',
}


@pytest.mark.parametrize("body", LEFT.values(), ids=LEFT)
def test_any_other_body_is_the_same_bytes(body: bytes) -> None:
    assert rewritten(body) == (body, False)


def test_a_route_without_rules_changes_nothing() -> None:
    body = b'{"stream":true,"suffix":"x"}'
    assert rewritten(body, Rules()).body is body


SUFFIXES = {
    "a text": (b'{"suffix": "a\\"b" ,"prompt":"x"}', b'{"suffix": null ,"prompt":"x"}'),
    "twice": (b'{"suffix":"a","suffix":1}', b'{"suffix":null,"suffix":null}'),
    "in a prompt": (b'{"prompt":"\\"suffix\\":1"}', b'{"prompt":"\\"suffix\\":1"}'),
}


@pytest.mark.parametrize(("body", "expected"), SUFFIXES.values(), ids=SUFFIXES)
def test_a_suffix_is_taken_for_absent(body: bytes, expected: bytes) -> None:
    assert rewritten(body, Rules(drops_suffix=True)).body == expected


def test_several_changes_go_together() -> None:
    body = b'{"suffix":"x","stream":true,"stream_options":null,"model":"a"}'
    expected = (
        b'{"suffix":null,"stream":true,"stream_options":{"include_usage":true},"model":"tiny"}'
    )
    assert rewritten(body, Rules(counts=True, drops_suffix=True), model="tiny").body == expected


USAGE = event({"choices": [], "usage": {"prompt_tokens": 1, "total_tokens": 2}})
WITHHELD: dict[str, tuple[dict[str, Any], bytes]] = {
    "unasked": ({}, b""),
    "asked": ({"stream_options": {"include_usage": True}}, USAGE),
}


@pytest.mark.parametrize(("asked", "told"), WITHHELD.values(), ids=WITHHELD)
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
async def test_only_who_asks_for_the_usage_of_a_stream_is_told(
    route: str, asked: dict[str, Any], told: bytes
) -> None:
    async with (
        FakeVllm(answering(stream([delta("a"), USAGE, DONE]))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(route, {"model": "tiny", "stream": True} | asked)
    assert answer.content == delta("a") + told + DONE
    assert engine.requests[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("route", ["/v1/responses", "/v1/messages", "/v1/chat/completions"])
async def test_the_body_of_a_plain_request_reaches_the_engine_byte_for_byte(route: str) -> None:
    body = b'{ "model" : "tiny","x":1e2, "messages":[] ,"suffix":"s"}\n'
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.post(route, body)
    assert engine.requests[0].body == body
    assert json.loads(body)["suffix"] == "s"
