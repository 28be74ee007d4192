"""Which requests belong together, by how their prompts begin."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from endpoint_gateway.affinity import MESSAGE_BYTES, PROMPT_BYTES, affinity_of
from helpers.fake_vllm import FakeVllm, answering, captured
from helpers.live_server import endpoint, live_gateway


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def of(body: dict[str, Any], model: str | None = "tiny") -> int | None:
    return affinity_of(json.dumps(body).encode(), model)


SYSTEM = said("system", "You are helpful.")
FIRST = [SYSTEM, said("user", "one")]
LATER = [*FIRST, said("assistant", "yes"), said("user", "two")]
LONG, LONG_PROMPT = "x" * MESSAGE_BYTES, "x" * PROMPT_BYTES

SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "turns of a conversation": ({"messages": FIRST}, {"messages": LATER, "temperature": 0}),
    "system prompts apart": ({"messages": FIRST}, {"messages": [said("user", "one")]}),
    "questions about one text": (
        {"messages": [said("user", LONG + "why?")]},
        {"messages": [said("user", LONG + "how?")]},
    ),
    "prompts that begin alike": ({"prompt": LONG_PROMPT + "a"}, {"prompt": LONG_PROMPT + "b"}),
    "responses": ({"input": [said("user", "one")]}, {"input": LATER[1:]}),
    "one without a question": ({"messages": [SYSTEM]}, {"messages": [SYSTEM, SYSTEM]}),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_these_belong_together(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of(one) == of(other) is not None


APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conversations with one system prompt": (
        {"messages": [SYSTEM, said("user", "one")]},
        {"messages": [SYSTEM, said("user", "two")]},
    ),
    "prompts": ({"prompt": "one"}, {"prompt": "two"}),
    "inputs": ({"input": "one"}, {"input": "two"}),
}


@pytest.mark.parametrize(("one", "other"), APART.values(), ids=APART)
def test_these_do_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of(one) != of(other)


def test_adapters_share_nothing() -> None:
    assert of({"prompt": "one"}, "sql") != of({"prompt": "one"}, "tiny")


ODD: list[dict[str, Any]] = [
    {"query": "x"},
    {"messages": []},
    {"messages": [1, None, "x", [], {}]},
    {"messages": {"role": "user"}},
    {"prompt": None},
    {"input": None, "messages": None},
]


@pytest.mark.parametrize("body", ODD, ids=map(json.dumps, ODD))
def test_whatever_is_valid_json_is_read(body: dict[str, Any]) -> None:
    assert isinstance(of(body), int | None)


def test_code_in_a_conversation_moves_it_nowhere() -> None:
    longer = [*LATER, said("user", "{}" * 20_000)]
    assert of({"messages": longer}) == of({"messages": FIRST})


def test_a_question_is_found_behind_what_comes_before_it() -> None:
    before = [said("system", "x")] * 20
    assert of({"messages": [*before, said("user", "one")]}) == of({"messages": FIRST})


@pytest.mark.parametrize("member", ["messages", "input"])
def test_more_messages_than_anybody_writes_are_not_looked_through(member: str) -> None:
    body = json.dumps({member: [SYSTEM, *[{}] * 100_000]}).encode()
    tracemalloc.start()
    try:
        assert affinity_of(body, "tiny") is not None
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("by_prefix", "homes"), [(True, 1), (False, 2)])
async def test_a_conversation_stays_with_one_replica_where_the_endpoint_says_so(
    by_prefix: bool, homes: int
) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as one,
        FakeVllm(answering(captured("chat"))) as other,
        live_gateway(endpoint(one.replica, other.replica, by_prefix=by_prefix)) as live,
    ):
        for turn in (FIRST, LATER, LATER + FIRST):
            answer = await live.post("/v1/chat/completions", {"model": "tiny", "messages": turn})
            assert answer.status_code == 200
    assert bool(one.requests) + bool(other.requests) == homes
