"""OpenAI's and Anthropic's clients for Node.js against real vLLM, through the cluster's ingress."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.node import ask
from helpers.questions import CERTAIN, PROMPT, SHORT, WORD
from helpers.served_models import EMBED, STORED, Served

pytestmark = pytest.mark.timeout(120, func_only=True)

CHAT: dict[str, Any] = {
    "model": STORED,
    "messages": [{"role": "user", "content": PROMPT}],
    "max_tokens": SHORT,
    "temperature": 0,
}
CALLS = {
    "chat": CHAT,
    "chat, streamed": CHAT,
    "completion": {"model": STORED, **CERTAIN},
    "response": {
        "model": STORED,
        "input": CHAT["messages"],
        "max_output_tokens": SHORT,
        "temperature": 0,
    },
    # which this client asks for as base64
    "embedding": {"model": EMBED, "input": ["one", "two"]},
}


@pytest.mark.parametrize("path", ["/v1", "/v2/NAME/openai/v1", "/served.NAME"])
async def test_openais_client_gets_what_it_asks_for(served: Served, path: str) -> None:
    url = served.demo.session.url + path
    said = await ask(
        [
            {
                "what": what,
                "baseURL": url.replace("NAME", body["model"]),
                "apiKey": served.key,
                "body": body,
            }
            for what, body in CALLS.items()
        ]
    )
    chat, chunks, completion, response, embedding = said
    text = chat["choices"][0]["message"]["content"]
    assert chat["usage"]["completion_tokens"] == SHORT
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == text
    assert completion["choices"][0]["text"] == WORD * SHORT
    assert response["usage"]["output_tokens"] == SHORT
    assert [len(each["embedding"]) for each in embedding["data"]] == [64, 64]


async def test_errors_are_the_clients_own(served: Served) -> None:
    url = f"{served.demo.session.url}/v1"
    wrong = [
        (CHAT, "sk-wrong"),
        ({**CHAT, "model": "gpt-4"}, served.key),
        ({**CHAT, "temperature": -1}, served.key),
    ]
    said = await ask(
        [{"what": "chat", "baseURL": url, "apiKey": key, "body": body} for body, key in wrong]
    )
    assert [(each["raised"], each["status"]) for each in said] == [
        ("AuthenticationError", 401),
        ("NotFoundError", 404),
        ("BadRequestError", 400),
    ]


async def test_anthropics_client_gets_messages(served: Served) -> None:
    call = {
        "baseURL": served.demo.session.url,
        "apiKey": served.key,
        "body": CHAT,
    }
    message, events = await ask([{"what": w, **call} for w in ("message", "message, streamed")])
    assert message["usage"]["output_tokens"] == SHORT
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
