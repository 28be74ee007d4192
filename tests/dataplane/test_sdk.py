"""The official OpenAI client for Python, with nothing changed but base URL and key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest

from helpers.fake_vllm import (
    DONE,
    FakeVllm,
    Script,
    answering,
    captured,
    delta,
    event,
    stream,
)
from helpers.live_server import SECRET, endpoint, live_gateway

MESSAGES: list[openai.types.chat.ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "hi"}
]


@asynccontextmanager
async def client_of(
    script: Script, *, path: str = "/v1", api_key: str = SECRET
) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica)) as live,
        openai.AsyncOpenAI(base_url=live.url + path, api_key=api_key, max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("path", ["/v1", "/qwen", "/qwen/v1", "/team-a.qwen/v1"])
async def test_a_chat_answer_comes_at_every_address(path: str) -> None:
    async with client_of(answering(captured("chat")), path=path) as client:
        answer = await client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 16


async def test_a_completion_comes() -> None:
    async with client_of(answering(captured("completion"))) as client:
        answer = await client.completions.create(model="tiny", prompt="import os")
    assert answer.choices[0].text == " os os os os os os os os"


async def test_a_stream_comes() -> None:
    async with client_of(answering(captured("chat-stream"))) as client:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="tiny", messages=MESSAGES, stream=True
            )
        ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "\n\n\n"
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_models_are_listed_and_described() -> None:
    async with client_of(answering(b"")) as client:
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert (await client.models.retrieve("tiny")).id == "tiny"


async def test_a_wrong_key_is_an_authentication_error() -> None:
    async with client_of(answering(b""), api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert caught.value.code == "invalid_api_key"


async def test_a_wrong_model_is_a_not_found_error() -> None:
    async with client_of(answering(b"")) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "`tiny`" in caught.value.message


async def test_an_engines_own_refusal_is_a_bad_request_error() -> None:
    async with client_of(answering(captured("err-temperature-negative"))) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=-1)
    assert caught.value.param == "temperature"


async def test_an_engine_that_is_not_there_is_an_internal_server_error() -> None:
    async with client_of(answering(b"no HTTP")) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert caught.value.status_code == 502


BROKEN = {
    "an error of the engine": [
        delta("a"),
        event({"error": {"message": "EngineCore", "type": "x", "param": None, "code": 500}}),
        DONE,
    ],
    "an abort": [delta("a"), delta("", finish_reason="abort"), DONE],
    "no end": [delta("a")],
}


@pytest.mark.parametrize("events", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_breaks_is_an_api_error(events: list[bytes]) -> None:
    async with client_of(answering(stream(events))) as client:
        chunks = await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in chunks:
                pass
