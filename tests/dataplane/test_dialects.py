"""How streams of each protocol end, and how errors look in each, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.fake_vllm import FakeVllm, answering, captured, captured_body, event, response, stream
from helpers.live_server import endpoint, live_gateway


def named(kind: str, **content: Any) -> bytes:
    """Return an event as responses and messages have them."""
    return f"event: {kind}\n".encode() + event({"type": kind, **content})


ABORTED_ANSWERS = {
    "responses": ("/v1/responses", {"id": "resp_1", "status": "cancelled", "output": []}),
    "messages": ("/v1/messages", {"type": "message", "stop_reason": None, "content": []}),
}
PATHS = {"responses-stream": "/v1/responses", "messages-stream": "/v1/messages"}


@pytest.mark.parametrize(("name", "path"), PATHS.items(), ids=PATHS)
async def test_a_real_stream_passes_byte_for_byte(name: str, path: str) -> None:
    async with (
        FakeVllm(answering(captured(name))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(path, {"model": "tiny", "stream": True})
        assert answer.content.strip() == captured_body(name).strip()
        assert live.lines()[0]["error"] is None


DELTA = named("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
STOP = named("message_stop")
GIVEN_UP = named("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 1})
ENDED = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1})
TEXT = named("response.output_text.delta", delta="a")
COMPLETED = named("response.completed", response={"status": "completed", "error": None})
CANCELLED = named("response.completed", response={"status": "cancelled"})
FAILED = named("response.failed", response={"status": "failed", "error": {"message": "x"}})

# path, what the engine sends, what of it the client gets, the code of the error that follows
ENDS: dict[str, tuple[str, list[bytes], list[bytes], str | None]] = {
    "messages": ("/v1/messages", [DELTA, ENDED, STOP], [DELTA, ENDED, STOP], None),
    "messages, aborted": (
        "/v1/messages",
        [DELTA, GIVEN_UP, STOP],
        [DELTA, GIVEN_UP],
        "answer_aborted",
    ),
    "messages, broken off": ("/v1/messages", [DELTA], [DELTA], "answer_aborted"),
    "responses": ("/v1/responses", [TEXT, COMPLETED], [TEXT, COMPLETED], None),
    "responses, aborted": ("/v1/responses", [TEXT, CANCELLED], [TEXT], "answer_aborted"),
    "responses, failed": ("/v1/responses", [TEXT, FAILED], [TEXT], "answer_aborted"),
    "responses, broken off": ("/v1/responses", [TEXT], [TEXT], "answer_aborted"),
}


@pytest.mark.parametrize(("path", "sent", "passed", "code"), ENDS.values(), ids=ENDS)
async def test_a_stream_is_a_success_only_by_its_protocols_own_end(
    path: str, sent: list[bytes], passed: list[bytes], code: str | None
) -> None:
    async with (
        FakeVllm(answering(stream(sent))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(path, {"model": "tiny", "stream": True})
        assert live.lines()[0]["error"] == code
    expected = b"".join(passed)
    assert answer.content.startswith(expected)
    rest = answer.content.removeprefix(expected)
    if code is None:
        assert rest == b""
        return
    assert rest.startswith(b"event: error\ndata: ")
    error = json.loads(rest.partition(b"data: ")[2])
    assert "gave up" in error["error"]["message"]
    assert error.get("type") == ("error" if path == "/v1/messages" else None)


async def test_an_error_in_a_stream_of_messages_passes_and_is_the_last_word() -> None:
    error = named("error", error={"type": "internal_error", "message": "no"})
    async with (
        FakeVllm(answering(stream([DELTA, error, STOP]))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post("/v1/messages", {"model": "tiny", "stream": True})
        assert live.lines()[0]["error"] == "engine_error"
    assert answer.content == DELTA + error


async def test_an_error_of_responses_that_is_no_object_is_told_as_one() -> None:
    error = named("error", code="x", message="no room")
    async with (
        FakeVllm(answering(stream([TEXT, error]))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post("/v1/responses", {"model": "tiny", "stream": True})
    told = json.loads(answer.content.removeprefix(TEXT).partition(b"data: ")[2])
    assert told["error"]["message"] == "no room"


@pytest.mark.parametrize(("path", "body"), ABORTED_ANSWERS.values(), ids=ABORTED_ANSWERS)
async def test_an_answer_that_the_engine_gave_up_on_is_a_502(path: str, body: Any) -> None:
    given_up = response(json.dumps(body, separators=(",", ":")).encode())
    async with (
        FakeVllm(answering(given_up)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(path, {"model": "tiny"})
    assert answer.status_code == 502


WHOLE = {"responses": "/v1/responses", "messages": "/v1/messages", "embed": "/v1/embeddings"}
WHOLE |= {"tokenize": "/tokenize", "rank-rerank": "/v2/rerank", "rank-score": "/score"}


@pytest.mark.parametrize(("name", "path"), WHOLE.items(), ids=WHOLE)
async def test_a_real_answer_passes_byte_for_byte(name: str, path: str) -> None:
    async with (
        FakeVllm(answering(captured(name))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post(path, {"model": "tiny"})
    assert (answer.status_code, answer.content) == (200, captured_body(name))


ANTHROPICS = {400: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error"}


@pytest.mark.parametrize(("status", "kind"), ANTHROPICS.items(), ids=map(str, ANTHROPICS))
async def test_an_engines_error_without_form_is_wrapped_in_anthropics(
    status: int, kind: str
) -> None:
    async with (
        FakeVllm(answering(response(b"no", status=status, content_type="text/plain"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post("/v1/messages", {"model": "tiny"})
    assert answer.status_code == status
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", kind)
