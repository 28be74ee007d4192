"""LangChain's models for OpenAI, with nothing changed but base URL and key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from helpers.fake_vllm import DONE, FakeVllm, answering, as_captured, delta, stream
from helpers.live_server import NO_TLS, SECRET, Live, endpoint, live_gateway

KEY = SecretStr(SECRET)
BASES = ["/v1", "/qwen", "/qwen/v1", "/v2/qwen/openai/v1"]


@pytest.fixture
async def engine() -> AsyncIterator[FakeVllm]:
    async with FakeVllm(as_captured) as engine:
        yield engine


@pytest.fixture
async def live(engine: FakeVllm) -> AsyncIterator[Live]:
    async with live_gateway(endpoint(engine.replica)) as live:
        yield live


@pytest.fixture
async def connections() -> AsyncIterator[httpx.AsyncClient]:
    # LangChain keeps those of its own until the process ends
    async with httpx.AsyncClient(verify=NO_TLS) as connections:
        yield connections


def chat_model(live: Live, base: str, connections: httpx.AsyncClient) -> ChatOpenAI:
    return ChatOpenAI(
        model="tiny", base_url=live.url + base, api_key=KEY, http_async_client=connections
    )


@pytest.mark.parametrize("base", BASES)
async def test_a_chat_model_answers_and_streams(
    live: Live, base: str, connections: httpx.AsyncClient
) -> None:
    model = chat_model(live, base, connections)
    answer = await model.ainvoke("hi")
    assert answer.text == "\n" * 8
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 16
    pieces = [piece async for piece in model.astream("hi")]
    assert "".join(piece.text for piece in pieces) == "\n" * 3


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


async def test_the_tools_of_a_model_reach_the_engine(
    live: Live, engine: FakeVllm, connections: httpx.AsyncClient
) -> None:
    model = chat_model(live, "/v1", connections)
    await model.bind_tools([get_weather], tool_choice="auto").ainvoke("hi")
    asked: Any = engine.requests[-1].json
    assert asked["tool_choice"] == "auto"
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["get_weather"]
    assert asked["tools"][0]["function"]["parameters"]["required"] == ["city"]


async def test_texts_are_embedded(
    live: Live, engine: FakeVllm, connections: httpx.AsyncClient
) -> None:
    # without it LangChain counts tokens with OpenAI's tokenizer, and sends those instead of texts
    model = OpenAIEmbeddings(
        model="tiny",
        base_url=f"{live.url}/v1",
        api_key=KEY,
        check_embedding_ctx_length=False,
        http_async_client=connections,
    )
    vectors = await model.aembed_documents(["hi", "there"])
    assert [len(vector) for vector in vectors] == [64, 64]
    assert engine.requests[-1].json["input"] == ["hi", "there"]


async def test_a_stream_that_breaks_raises(connections: httpx.AsyncClient) -> None:
    broken = stream([delta("a"), delta("", finish_reason="abort"), DONE])
    async with (
        FakeVllm(answering(broken)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        model = chat_model(live, "/v1", connections)
        with pytest.raises(openai.APIError):
            async for _ in model.astream("hi"):
                pass
