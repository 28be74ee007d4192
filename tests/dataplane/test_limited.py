"""Limits and the counting of tokens, in a whole gateway over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from endpoint_gateway.catalog import Limits
from helpers.fake_vllm import (
    DONE,
    STREAM_HEAD,
    Connection,
    FakeVllm,
    Script,
    answering,
    captured,
    chunk,
    delta,
    event,
    response,
    stream,
)
from helpers.live_server import SECRET, Live, endpoint, key, live_gateway, raw_request

USAGE = event({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 30}})


def limited(**limits: int) -> Any:
    return (key(limits=Limits(**limits)),)


def counted(live: Live, metric: str, **labels: str) -> float | None:
    """Return a counter of the endpoint and the key that there are."""
    labels = {"endpoint": "team-a/qwen", "key": "team-a/ci", **labels}
    return live.gateway.metrics.registry.get_sample_value(
        f"vllm_endpoints_gateway_{metric}", labels
    )


def tokens(live: Live, *, estimated: bool = False) -> tuple[float | None, float | None]:
    """Return the tokens that went in and came out; None where none were counted."""
    told = {"estimated": str(estimated).lower()}
    return (
        counted(live, "tokens_total", direction="input", **told),
        counted(live, "tokens_total", direction="output", **told),
    )


LARGE = b"y" * (5 << 20)
LARGE_ANSWERS = {
    "at its end": (b'{"data":"%s","usage":{"prompt_tokens":80,"total_tokens":80}}' % LARGE, False),
    "before what is large": (b'{"usage":{"prompt_tokens":80},"data":"%s"}' % LARGE, True),
}


@pytest.mark.parametrize(("body", "estimated"), LARGE_ANSWERS.values(), ids=LARGE_ANSWERS)
async def test_an_answer_too_large_to_be_held_is_counted(body: bytes, estimated: bool) -> None:
    async with (
        FakeVllm(answering(response(body))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post("/v1/embeddings", {"model": "tiny", "input": "x" * 200})
        assert answer.content == body
        assert tokens(live, estimated=estimated) == (57 if estimated else 80, 0)


async def test_an_engines_own_limits_are_not_told_beside_ours() -> None:
    own = "x-ratelimit-limit-requests: 9\r\n"
    async with FakeVllm(answering(response(b"{}", headers=own))) as engine:
        async with live_gateway(endpoint(engine.replica)) as live:
            assert (await live.chat()).headers["x-ratelimit-limit-requests"] == "9"
        keys = limited(requests_per_minute=1)
        async with live_gateway(endpoint(engine.replica), keys=keys) as live:
            assert (await live.chat()).headers["x-ratelimit-limit-requests"] == "1"


async def test_an_answer_tells_of_limits_and_the_next_is_refused() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(
            endpoint(engine.replica, limits=Limits(requests_per_minute=100)),
            keys=limited(requests_per_minute=1, tokens_per_minute=600),
        ) as live,
    ):
        first = await live.chat()
        second = await live.chat()
    assert first.status_code == 200
    told = {name: value for name, value in first.headers.items() if "ratelimit" in name}
    assert told == {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "600",
        "x-ratelimit-reset-tokens": "0s",
    }
    assert second.status_code == 429
    error = second.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_exceeded", "rate_limit_exceeded")
    assert "this API key on requests per min (RPM): Limit 1, Used 1." in error["message"]
    assert second.headers["retry-after"] == "60"
    assert 59_000 < int(second.headers["retry-after-ms"]) <= 60_000
    assert 580 <= int(second.headers["x-ratelimit-remaining-tokens"]) <= 585
    assert len(engine.requests) == 1


async def test_without_limits_nothing_is_told_of_them() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert not [name for name in answer.headers if "ratelimit" in name]


async def test_a_list_of_models_is_free() -> None:
    async with live_gateway(endpoint(), keys=limited(requests_per_minute=1)) as live:
        statuses = {(await live.client.get("/v1/models")).status_code for _ in range(3)}
    assert statuses == {200}


async def test_an_error_of_ours_tells_of_limits_too() -> None:
    async with live_gateway(endpoint(), keys=limited(requests_per_minute=9)) as live:
        answer = await live.chat()
    assert answer.status_code == 503
    assert answer.headers["x-ratelimit-remaining-requests"] == "8"


def hanging(begin: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(begin)
        await connection.hung_up()

    return script


@pytest.mark.parametrize("begin", [b"", STREAM_HEAD + chunk(delta("one"))], ids=["whole", "stream"])
async def test_a_place_is_held_until_the_client_leaves(begin: bytes) -> None:
    async with (
        FakeVllm(hanging(begin)) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(in_flight=1)) as live,
    ):
        for _ in range(2):
            _, writer = await live.connect()
            writer.write(raw_request({"model": "tiny", "stream": bool(begin)}))
            await engine.asked.acquire()
            assert (await live.chat()).status_code == 429
            writer.transport.abort()
            await engine.left.acquire()


async def test_a_place_is_given_back_after_every_end() -> None:
    answers = [captured("chat"), response(b"{}", status=500), stream([delta("a")]), b"no HTTP"]
    async with (
        FakeVllm(answering(*answers)) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(in_flight=1)) as live,
    ):
        statuses = [(await live.chat()).status_code for _ in range(5)]
    assert statuses == [200, 500, 200, 502, 502]


async def test_tokens_that_were_used_are_missing_afterwards() -> None:
    async with (
        FakeVllm(answering(stream([delta("a"), USAGE, DONE]))) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(tokens_per_minute=38)) as live,
    ):
        assert (await live.chat(stream=True)).status_code == 200
        refused = await live.chat(stream=True)
    assert refused.status_code == 429
    assert "tokens per min (TPM): Limit 38, Used 38" in refused.json()["error"]["message"]


async def test_an_endpoints_limit_is_for_all_of_its_keys() -> None:
    keys = (key(), key("sk-2", name="other", limits=Limits(requests_per_minute=9)))
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(
            endpoint(engine.replica, limits=Limits(requests_per_minute=1)), keys=keys
        ) as live,
    ):
        assert (await live.chat()).status_code == 200
        live.client.headers["authorization"] = "Bearer sk-2"
        refused = await live.chat()
    assert refused.status_code == 429
    assert "for this endpoint on requests" in refused.json()["error"]["message"]


async def test_a_gateway_lets_through_its_share() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(requests_per_minute=3)) as live,
    ):
        live.directory.gateways = 2
        statuses = [(await live.chat()).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


async def test_the_sdk_knows_a_limit_when_it_sees_one() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(requests_per_minute=1)) as live,
        openai.AsyncOpenAI(base_url=live.url + "/v1", api_key=SECRET, max_retries=0) as client,
    ):
        asked: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
        raw = await client.chat.completions.with_raw_response.create(**asked)
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**asked)
    assert caught.value.code == "rate_limit_exceeded"


MESSAGE = [
    b"event: message_start\n"
    + event({"type": "message_start", "message": {"usage": {"input_tokens": 8}}}),
    event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}),
    event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 30},
        }
    ),
    event({"type": "message_stop"}),
]
RESPONSE = [
    event({"type": "response.output_text.delta", "delta": "a"}),
    event(
        {
            "type": "response.completed",
            "response": {
                "status": "completed",
                "usage": {"input_tokens": 8, "output_tokens": 30, "total_tokens": 38},
            },
        }
    ),
]
COUNTED: dict[str, tuple[str, list[bytes]]] = {
    "chat": ("/v1/chat/completions", [delta("a"), USAGE, DONE]),
    "a message": ("/v1/messages", MESSAGE),
    "a response": ("/v1/responses", RESPONSE),
}


@pytest.mark.parametrize(("path", "events"), COUNTED.values(), ids=COUNTED)
async def test_tokens_of_streams_are_the_engines_count(path: str, events: list[bytes]) -> None:
    async with (
        FakeVllm(answering(stream(events))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(path, {"model": "tiny", "stream": True, "input": "hi"})
        assert answer.status_code == 200
        assert b"prompt_tokens" not in answer.content  # nobody asked
        assert tokens(live) == (8, 30)
        line = live.lines()[0]
    assert (line["input_tokens"], line["output_tokens"]) == (8, 30)
    assert line["tokens_estimated"] is False


async def test_a_stream_that_breaks_is_estimated() -> None:
    async with (
        FakeVllm(answering(stream([delta("a"), delta("b"), delta("c")]))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        body = b'{"model":"tiny","stream":true,"messages":[]}'
        await live.post("/v1/chat/completions", body)
        assert tokens(live) == (None, None)
        assert tokens(live, estimated=True) == (len(body) // 4, 3)
        assert live.lines()[0]["tokens_estimated"] is True


async def test_a_stream_whose_client_leaves_is_estimated() -> None:
    begin = STREAM_HEAD + chunk(delta("one")) + chunk(delta("two"))
    async with (
        FakeVllm(hanging(begin)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        reader, writer = await live.connect()
        writer.write(raw_request({"model": "tiny", "stream": True}))
        await reader.readuntil(b"two")
        writer.transport.abort()
        await engine.left.acquire()
        assert tokens(live, estimated=True)[1] == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_an_engine_read_is_estimated_where_the_client_leaves_before_its_answer(
    stream: bool,
) -> None:
    content = {"model": "tiny", "stream": stream, "messages": ["a" * 4000]}
    async with (
        FakeVllm(hanging(b"")) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(tokens_per_minute=100)) as live,
    ):
        _, writer = await live.connect()
        writer.write(raw_request(content))
        await engine.asked.acquire()
        writer.transport.abort()
        await engine.left.acquire()
        refused = await live.chat()
        assert tokens(live, estimated=True) == (len(json.dumps(content)) // 4, 0)
    assert refused.status_code == 429
    assert live.lines()[0]["tokens_estimated"] is True


async def test_nothing_is_estimated_where_no_engine_was_asked() -> None:
    async with live_gateway(endpoint(), keys=limited(tokens_per_minute=100)) as live:
        assert (await live.chat()).status_code == 503
        assert tokens(live, estimated=True) == (None, None)


async def test_tokens_of_an_answer_are_counted_and_those_of_an_error_are_not() -> None:
    answers = captured("chat"), captured("err-too-long-chat")
    async with (
        FakeVllm(answering(*answers)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.chat()
        await live.chat()
        await live.chat("another")
        assert tokens(live) == (8, 8)
        assert counted(live, "key_requests_total", status_class="2xx") == 1
        assert counted(live, "key_requests_total", status_class="4xx") == 1
        assert counted(live, "key_requests_total", status_class="4xx", endpoint="") == 1


async def test_a_key_that_is_gone_is_no_longer_counted() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.chat()
        metrics = live.gateway.metrics
        metrics.retain_keys(["team-a/ci"])
        assert b'key="team-a/ci"' in metrics.page()
        metrics.retain_keys([])
        assert b'key="team-a/ci"' not in metrics.page()
        await live.chat()
        assert tokens(live) == (8, 8)
        metrics.retain([])
        assert tokens(live) == (None, None)


async def test_many_at_once_are_admitted_exactly() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica), keys=limited(requests_per_minute=10)) as live,
    ):
        answers = await asyncio.gather(*(live.chat() for _ in range(20)))
    statuses = [each.status_code for each in answers]
    assert (statuses.count(200), statuses.count(429)) == (10, 10)
