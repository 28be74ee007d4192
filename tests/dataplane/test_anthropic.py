"""Anthropic's official client for Python, with nothing changed but base URL and key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import pytest

from helpers.fake_vllm import FakeVllm, answering, as_captured, response
from helpers.live_server import SECRET, endpoint, live_gateway

# the client adds /v1/messages to them
BASES = ["", "/qwen", "/team-a.qwen", "/v2/qwen/openai"]
HI: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hi"}]


@pytest.fixture(params=BASES)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with (
        FakeVllm(as_captured) as engine,
        live_gateway(endpoint(engine.replica)) as live,
        anthropic.AsyncAnthropic(
            base_url=live.url + request.param, api_key=SECRET, max_retries=0
        ) as client,
    ):
        yield client


async def test_a_message_is_answered(client: anthropic.AsyncAnthropic) -> None:
    answer = await client.messages.create(model="tiny", max_tokens=8, messages=HI)
    assert [block.text for block in answer.content if block.type == "text"] == ["\n" * 8]
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 8)


async def test_a_message_is_streamed(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(model="tiny", max_tokens=2, messages=HI) as stream:
        assert [text async for text in stream.text_stream] == ["\n", "\n"]
        answer = await stream.get_final_message()
    assert answer.stop_reason == "max_tokens"


async def test_tokens_are_counted() -> None:
    async with (
        FakeVllm(answering(response(b'{"input_tokens":8}'))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
        anthropic.AsyncAnthropic(base_url=live.url, api_key=SECRET) as client,
    ):
        assert (await client.messages.count_tokens(model="tiny", messages=HI)).input_tokens == 8
    assert engine.requests[0].path == "/v1/messages/count_tokens"
