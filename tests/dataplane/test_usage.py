"""Which tokens are counted for an answer, without any socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway.usage import Usage, of_answer, of_stream
from helpers.fake_vllm import captured_body

CHAT = {"usage": {"prompt_tokens": 8, "total_tokens": 11, "completion_tokens": 3}}
MESSAGE = {"type": "message", "usage": {"input_tokens": 8, "output_tokens": 3}}
ANSWERS: dict[str, tuple[Any, Usage | None]] = {
    "chat": (CHAT, Usage(8, 3)),
    "with more after it": ({**CHAT, "system_fingerprint": "vllm-0.32.0"}, Usage(8, 3)),
    "with details": (
        {"usage": {**CHAT["usage"], "prompt_tokens_details": {"cached_tokens": 4}}},
        Usage(8, 3),
    ),
    "embeddings": ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(8, 0)),
    "only a total": ({"usage": {"total_tokens": 8}}, Usage(8, 0)),
    "a message or a response": (MESSAGE, Usage(8, 3)),
    "seconds of sound": ({"usage": {"type": "duration", "seconds": 3}}, None),
    "none": ({"tokens": [1, 2]}, None),
    "null": ({"usage": None}, None),
    "a text": ({"usage": "much"}, None),
    "text for a number": ({"usage": {"prompt_tokens": "8"}}, None),
    "another's usage": ({**CHAT, "tools": [{"usage": {"prompt_tokens": 0}}]}, Usage(8, 3)),
    "only another's": ({"tools": [{"usage": {"prompt_tokens": 1}}]}, None),
    "a word that is the same": ({**CHAT, "object": "usage"}, Usage(8, 3)),
    "a text that looks like it": ({**CHAT, "text": '"usage":{"prompt_tokens":0}}'}, Usage(8, 3)),
    "more than there can be": (
        {"usage": {"prompt_tokens": 10**18, "completion_tokens": 10**400}},
        Usage(10_000_000, 10_000_000),
    ),
    "less than nothing": ({"usage": {"prompt_tokens": -8, "completion_tokens": -1}}, Usage(0, 0)),
}


@pytest.mark.parametrize(("answer", "usage"), ANSWERS.values(), ids=ANSWERS)
def test_the_usage_of_an_answer_is_what_its_engine_tells(answer: Any, usage: Usage | None) -> None:
    assert of_answer(json.dumps(answer).encode()) == usage


@given(
    st.recursive(
        st.none() | st.just("usage"),
        lambda each: (
            st.dictionaries(
                st.sampled_from(["usage", "prompt_tokens", "x"]), each | st.integers(0, 9)
            )
            | st.lists(each)
        ),
    )
)
def test_the_usage_is_the_answers_own_wherever_there_is_another(inner: Any) -> None:
    for answer in ({"x": inner, **CHAT}, {**CHAT, "x": inner}):
        assert of_answer(json.dumps(answer).encode()) == Usage(8, 3)


@pytest.mark.parametrize("body", [b"", b"{", b'"usage"', b'{"usage"', b'\xff"usage":{}}'])
def test_what_is_no_answer_tells_nothing(body: bytes) -> None:
    assert of_answer(body) is None


def test_a_real_answer_is_understood() -> None:
    assert of_answer(captured_body("chat")) == Usage(8, 8)


STREAMS: dict[str, tuple[Any, Any, Usage]] = {
    "chat": (None, CHAT, Usage(8, 3)),
    "a response": (None, {"response": {"usage": MESSAGE["usage"]}}, Usage(8, 3)),
    "a message": (
        {"message": {"usage": {"input_tokens": 8, "output_tokens": 0}}},
        {"usage": {"output_tokens": 3}},
        Usage(8, 3),
    ),
    "a message that tells all at its end": (None, MESSAGE, Usage(8, 3)),
    "a message that was cut off": (
        {"message": {"usage": {"input_tokens": 8, "output_tokens": 0}}},
        None,
        Usage(8, 5, estimated=True),
    ),
    "nothing": (None, None, Usage(25, 5, estimated=True)),
    "nothing of use": ({"message": 1}, {"usage": 1}, Usage(25, 5, estimated=True)),
}


@pytest.mark.parametrize(("first", "last", "usage"), STREAMS.values(), ids=STREAMS)
def test_the_usage_of_a_stream_is_told_or_estimated(first: Any, last: Any, usage: Usage) -> None:
    assert of_stream(first, last, events=5, body_bytes=101) == usage
