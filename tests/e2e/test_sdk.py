"""The official OpenAI SDK against real vLLM, through the cluster's ingress."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from hack.demo import calls
from helpers.demo_cluster import Demo, eventually

pytestmark = pytest.mark.timeout(120, func_only=True)

LONG: dict[str, Any] = {"model": "tiny", "prompt": "import os", "max_tokens": 480, "temperature": 0}
MANY = 1900  # tokens; seconds of work


def test_the_models_of_the_key_are_listed(demo: Demo) -> None:
    assert calls.model_names(demo.client()) == ["tiny"]
    assert demo.client().models.retrieve("tiny").owned_by == "vllm"


def test_a_completion_is_the_engines_own(demo: Demo) -> None:
    answer = demo.client().completions.create(**LONG | {"max_tokens": 8})
    assert answer.choices[0].text == " os" * 8
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_a_chat_answer_has_choices_and_usage(demo: Demo) -> None:
    answer = demo.client().chat.completions.create(
        model="tiny", messages=[calls.QUESTION], max_tokens=16, temperature=0
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_a_stream_arrives_while_the_engine_writes_it(demo: Demo) -> None:
    def engine_is_still_writing() -> bool:
        with demo.client().completions.create(**LONG | {"max_tokens": MANY}, stream=True) as stream:
            next(iter(stream))
            return demo.engine_metric("num_requests_running") == 1

    # a busy machine may look too late, but whoever collects answers never passes
    eventually(engine_is_still_writing, within_seconds=100)


def test_the_url_of_the_status_is_a_base_url(demo: Demo) -> None:
    assert demo.url == f"{demo.session.url}/default.tiny/v1"
    assert calls.completion(demo.client(demo.url), "tiny") == " os" * 8


def test_a_wrong_key_is_an_authentication_error(demo: Demo) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        calls.chat(demo.client(key="sk-wrong"), "tiny")
    assert caught.value.code == "invalid_api_key"


def test_a_wrong_model_is_a_not_found_error_that_names_the_right_ones(demo: Demo) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny") as caught:
        calls.chat(demo.client(), "no-such-model")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("change", "param"), [({"temperature": -1}, "temperature"), ({"max_tokens": 5000}, None)]
)
def test_the_engines_own_refusal_reaches_the_user(
    demo: Demo, change: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        demo.client().completions.create(**LONG | change)
    assert param is None or caught.value.param == param


def test_every_answer_has_the_clients_request_id(demo: Demo) -> None:
    response = demo.client().completions.with_raw_response.create(
        **LONG | {"max_tokens": 1}, extra_headers={"x-request-id": "mine-1"}
    )
    assert response.headers["x-request-id"] == "mine-1"


async def test_eight_streams_run_side_by_side(demo: Demo) -> None:
    async with openai.AsyncOpenAI(
        base_url=demo.shared_url, api_key=demo.key, max_retries=0
    ) as client:

        async def read() -> str:
            stream = await client.completions.create(**LONG | {"max_tokens": 64}, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

        answers = await asyncio.gather(*(read() for _ in range(8)))
    assert answers == [" os" * 64] * 8


def test_a_client_that_leaves_frees_the_engines_slot(demo: Demo) -> None:
    def idle() -> bool:
        return demo.engine_metric("num_requests_running") == 0

    def wrote_less_than_asked() -> bool:
        eventually(idle, within_seconds=60)
        before = demo.engine_metric("generation_tokens_total")
        with demo.client().completions.create(**LONG | {"max_tokens": MANY}, stream=True) as stream:
            next(iter(stream))
        eventually(idle, within_seconds=60)
        written = demo.engine_metric("generation_tokens_total") - before
        return written < MANY

    eventually(wrote_less_than_asked, within_seconds=100)  # as above
