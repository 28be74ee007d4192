"""The official clients for Node.js, with nothing changed but base URL and key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from helpers.fake_vllm import FakeVllm, answering, as_captured, response
from helpers.live_server import SECRET, Live, endpoint, live_gateway
from helpers.node import ask

MODEL = "org/tiny"
ADDRESSES = {
    "shared": "{url}/v1",
    "by path": "{url}/qwen",
    "by path, with /v1": "{url}/team-a.qwen/v1",
    "by id": "{url}/v2/qwen/openai/v1",
    "by host": "http://localhost:{port}/v1",
}
MESSAGES = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": MODEL, "prompt": "import os"}
INPUT = {"model": MODEL, "input": "hi"}


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    names = {"served_names": (MODEL,), "hosts": ("localhost",)}
    async with (
        FakeVllm(as_captured) as engine,
        live_gateway(endpoint(engine.replica, **names)) as live,
    ):
        yield live


def chat_text(chunks: Any) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
async def test_every_call_of_openais_client_works_at_every_address(
    live: Live, address: str
) -> None:
    calls = {
        "chat": MESSAGES,
        "chat, streamed": MESSAGES,
        "chat, by the helper": MESSAGES,
        "completion": PROMPT,
        "completion, streamed": PROMPT,
        # without it the client asks for base64, which the captured answer is not
        "embedding": {**INPUT, "encoding_format": "float"},
        "response": INPUT,
        "response, streamed": INPUT,
        "models": {},
        "model": {"model": MODEL},
    }
    base = address.format(url=live.url, port=live.port)
    said = await ask(
        [
            {"what": what, "baseURL": base, "apiKey": SECRET, "body": body}
            for what, body in calls.items()
        ]
    )
    answers = dict(zip(calls, said, strict=True))
    assert [answer for answer in said if "raised" in answer] == []
    assert answers["chat"]["usage"]["total_tokens"] == 16
    assert chat_text(answers["chat, streamed"]) == "\n\n\n"
    assert all(chunk["choices"] for chunk in answers["chat, streamed"])
    assert answers["chat, by the helper"]["choices"][0]["finish_reason"] == "length"
    assert answers["completion"]["choices"][0]["text"].startswith(" os os")
    assert [chunk["choices"][0]["text"] for chunk in answers["completion, streamed"]] == [" os"] * 2
    assert answers["embedding"]["data"][0]["embedding"][0] == pytest.approx(-0.14034880697727203)
    assert answers["response"]["output_text"] == "\n" * 8
    assert answers["response, streamed"][-1]["type"] == "response.completed"
    assert [model["id"] for model in answers["models"]] == [MODEL]
    assert answers["model"]["id"] == MODEL


async def test_anthropics_client_works_at_every_address_that_is_a_prefix(live: Live) -> None:
    # it adds /v1/messages itself
    bases = [live.url, f"{live.url}/qwen", f"{live.url}/v2/qwen/openai"]
    body = {**MESSAGES, "max_tokens": 8}
    said = await ask(
        [
            {"what": what, "baseURL": base, "apiKey": SECRET, "body": body}
            for base in bases
            for what in ("message", "message, streamed")
        ]
    )
    assert [answer["content"][0]["text"] for answer in said[::2]] == ["\n" * 8] * len(bases)
    assert [events[-1]["type"] for events in said[1::2]] == ["message_stop"] * len(bases)


async def test_a_recording_is_transcribed() -> None:
    said = answering(response(b'{"text":"hi"}'))
    async with FakeVllm(said) as engine, live_gateway(endpoint(engine.replica)) as live:
        base = f"{live.url}/v2/qwen/openai/v1"
        call = {"what": "transcription", "baseURL": base, "apiKey": SECRET}
        assert await ask([{**call, "body": {"model": "tiny"}}]) == [{"text": "hi"}]
    assert engine.requests[0].path == "/v1/audio/transcriptions"
    assert b"RIFF" in engine.requests[0].body
