"""Every route of the gateway that writes text, and each of the others, on real vLLM."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from helpers.questions import CERTAIN, PROMPT, WORD
from helpers.served_models import ADAPTER, EMBED, RANKER, ROLLING, STORED, Served

pytestmark = pytest.mark.timeout(120, func_only=True)

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED: dict[str, Any] = {
    "model": STORED,
    "messages": [{"role": "user", "content": "Say something."}],
    "max_tokens": 64,
    "temperature": 0,
}
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}
FUNCTION = {"name": "look", "parameters": SCHEMA, "strict": True}
TOOL: Any = {"type": "function", "function": FUNCTION}


@pytest.fixture
def dense(served: Served) -> dict[str, Any]:
    """A chat that says what it must and no more: random weights go on with spaces and calls."""
    tokens = served.answer("/tokenize", model=STORED, prompt='{"sure":true}')["tokens"]
    return {
        **ASKED,
        "logit_bias": {str(token): 100 for token in tokens},
        "stop": "</tool_call>",
        "extra_body": {"include_stop_str_in_output": True},
    }


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "look"}}], ids=["any", "named"]
)
def test_a_chat_calls_a_tool(served: Served, dense: dict[str, Any], choice: Any) -> None:
    with served.client() as client:
        answer = client.chat.completions.create(**dense, tools=[TOOL], tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls or [None]
    assert call is not None
    assert call.type == "function"
    assert call.function.name == "look"
    assert isinstance(json.loads(call.function.arguments)["sure"], bool)


def test_a_chat_may_leave_tools_alone(served: Served) -> None:
    with served.client() as client:
        answer = client.chat.completions.create(**ASKED, tools=[TOOL], tool_choice="auto")
    assert answer.choices[0].message.content


def test_a_tools_call_is_streamed(served: Served, dense: dict[str, Any]) -> None:
    with served.client() as client:
        chunks = client.chat.completions.create(
            **dense, tools=[TOOL], tool_choice="required", stream=True
        )
        deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    told = [call.function for call in deltas if call.function]
    assert "".join(function.name or "" for function in told) == "look"
    written = json.loads("".join(function.arguments or "" for function in told))
    assert isinstance(written["sure"], bool)


def test_a_chat_keeps_to_a_schema(served: Served, dense: dict[str, Any]) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    with served.client() as client:
        answer = client.chat.completions.create(**dense, response_format=wanted)
    assert isinstance(json.loads(answer.choices[0].message.content or "")["sure"], bool)


def test_a_chat_tells_how_likely_its_tokens_were(served: Served) -> None:
    with served.client() as client:
        answer = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert [len(token.top_logprobs) for token in tokens] == [2] * 64


@pytest.mark.parametrize("stream_options", [None, {"include_usage": True}])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_stream_tells_its_usage_to_whoever_asks(
    served: Served, path: str, stream_options: dict[str, bool] | None
) -> None:
    body = ASKED if path == CHAT else {"model": STORED, **CERTAIN}
    options = {"stream_options": stream_options} if stream_options else {}
    lines = served.post(path, **body, stream=True, **options).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    with_usage = [chunk for chunk in chunks if chunk.get("usage")]
    if stream_options is None:
        assert with_usage == []
        assert all(chunk["choices"] for chunk in chunks)
    else:
        assert with_usage == chunks[-1:]
        assert with_usage[0]["choices"] == []
        assert with_usage[0]["usage"]["completion_tokens"] == body["max_tokens"]


def test_a_response_is_answered_and_streamed(served: Served) -> None:
    asked: dict[str, Any] = {"model": STORED, "input": "Say something.", "max_output_tokens": 8}
    with served.client() as client:
        answer = client.responses.create(**asked, temperature=0)
        events = list(client.responses.create(**asked, temperature=0, stream=True))
    assert answer.usage is not None
    assert answer.usage.output_tokens == 8
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == answer.output_text


@pytest.mark.parametrize("path", ["", f"/{STORED}", f"/v2/{STORED}/openai"])
def test_anthropics_client_gets_messages_and_counts(served: Served, path: str) -> None:
    asked: dict[str, Any] = {"model": STORED, "messages": ASKED["messages"]}
    wanted: dict[str, Any] = {"max_tokens": 8, "extra_body": {"temperature": 0}}
    base = served.demo.session.url + path
    with anthropic.Anthropic(base_url=base, api_key=served.key, max_retries=0) as client:
        answer = client.messages.create(**asked, **wanted)
        with client.messages.stream(**asked, **wanted) as stream:
            streamed = stream.get_final_message()
        counted = client.messages.count_tokens(**asked)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 8)
    assert streamed.usage == answer.usage
    assert [block.text for block in streamed.content if block.type == "text"] == [
        block.text for block in answer.content if block.type == "text"
    ]
    assert counted.input_tokens == answer.usage.input_tokens


@pytest.mark.parametrize("prefix", ["", "/v1", f"/{STORED}", f"/v2/{STORED}/openai/v1"])
def test_a_text_becomes_tokens_and_a_text_again(served: Served, prefix: str) -> None:
    found = served.answer(f"{prefix}/tokenize", model=STORED, prompt=PROMPT)
    assert found["count"] == len(found["tokens"])
    found = served.answer(f"{prefix}/detokenize", model=STORED, tokens=found["tokens"])
    assert found["prompt"] == PROMPT


def test_every_model_of_the_key_is_listed(served: Served) -> None:
    with served.client() as client:
        listed = {model.id: model for model in client.models.list()}
        assert {ROLLING, STORED, EMBED, RANKER, ADAPTER} <= set(listed)
        assert client.models.retrieve(EMBED) == listed[EMBED]


def test_texts_become_vectors(served: Served) -> None:
    with served.client() as client:
        told = client.embeddings.create(model=EMBED, input=["one", "two", "one"])
        as_numbers = client.embeddings.create(model=EMBED, input="one", encoding_format="float")
    first, second, third = (each.embedding for each in told.data)
    assert len(first) == 64
    assert first == pytest.approx(third, abs=1e-6)
    assert first != pytest.approx(second, abs=0.01)
    assert as_numbers.data[0].embedding == pytest.approx(first, abs=1e-6)
    assert told.usage.total_tokens > 0


@pytest.mark.parametrize("prefix", ["", "/v1", f"/{EMBED}"])
def test_pooling_gives_what_an_embedding_is(served: Served, prefix: str) -> None:
    with served.client() as client:
        wanted = client.embeddings.create(model=EMBED, input="one").data[0].embedding
    found = served.answer(f"{prefix}/pooling", model=EMBED, input="one")
    assert found["data"][0]["data"] == pytest.approx(wanted, abs=1e-6)


def test_a_text_is_classified(served: Served) -> None:
    found = served.answer("/classify", model=RANKER, input=["one", "two"])
    assert [each["num_classes"] for each in found["data"]] == [1, 1]
    assert found["data"][0]["probs"] != found["data"][1]["probs"]


@pytest.mark.parametrize("model", [EMBED, RANKER])
def test_pairs_of_texts_get_scores(served: Served, model: str) -> None:
    def scores(left: Any, right: Any) -> list[float]:
        found = served.answer("/score", model=model, text_1=left, text_2=right)
        return [each["score"] for each in found["data"]]

    single = [*scores("one", "two"), *scores("one", "three")]
    assert single[0] != pytest.approx(single[1], abs=1e-3)
    assert scores("one", ["two", "three"]) == pytest.approx(single, abs=1e-5)
    assert scores(["one", "one"], ["two", "three"]) == pytest.approx(single, abs=1e-5)


@pytest.mark.parametrize("model", [EMBED, RANKER])
def test_texts_are_ranked_at_three_paths(served: Served, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "query": "one", "documents": ["two", "three", "four"]}
    ranked = [served.answer(path, **asked) for path in ("/rerank", "/v1/rerank", "/v2/rerank")]
    for found in ranked:
        ratings = [each["relevance_score"] for each in found["results"]]
        assert ratings == sorted(ratings, reverse=True)
    orders = [[each["index"] for each in found["results"]] for found in ranked]
    assert orders == orders[:1] * 3
    best = served.answer("/rerank", **asked, top_n=1)
    assert [each["index"] for each in best["results"]] == orders[0][:1]


LACKED = [
    *((STORED, route) for route in ("v1/embeddings", "pooling", "classify", "score", "rerank")),
    *((EMBED, route) for route in ("v1/chat/completions", "v1/messages", "classify")),
    *((RANKER, route) for route in ("v1/completions", "v1/embeddings", "v1/responses")),
]


@pytest.mark.parametrize(("model", "route"), LACKED)
def test_a_route_that_an_engine_lacks_is_unsupported(
    served: Served, model: str, route: str
) -> None:
    response = served.post(f"/{model}/{route}", model=model)
    assert response.status_code == 501
    assert response.json()["error"]["message"]


ADMINS = ("load_lora_adapter", "metrics", "docs", "openapi.json", "v1/load_lora_adapter", "ping")


@pytest.mark.parametrize("path", [*ADMINS, "sleep", "version", "invocations", "server_info"])
def test_nothing_else_of_an_engine_is_reached(served: Served, path: str) -> None:
    for prefix in ("", f"/{STORED}", f"/v2/{STORED}/openai"):
        assert served.post(f"{prefix}/{path}").status_code == 404


def test_an_engines_refusal_is_an_exception_of_the_sdk(served: Served) -> None:
    with served.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=EMBED, input="one", dimensions=3)
    assert caught.value.body
    assert WORD not in str(caught.value)
