"""The error table of the contract, row by row, and what becomes of an engine's own errors."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from endpoint_gateway.catalog import Replica
from helpers.fake_vllm import (
    Connection,
    FakeVllm,
    answering,
    captured,
    captured_body,
    response,
)
from helpers.gateway_process import free_port
from helpers.live_server import SECRET, endpoint, live_gateway


def told(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, type and code of an error, and see that its envelope is complete."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return answer.status_code, error["type"], error["code"]


BAD_BODIES = {
    "empty": (b"", None),
    "cut off": (b'{"model":"tiny"', None),
    "a list": (b"[]", None),
    "a string": (b'"tiny"', None),
    "not UTF-8": (b'{"model":"\xff"}', None),
    "too deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "model is a number": (b'{"model":1}', "model"),
    "model is a list": (b'{"model":["tiny"]}', "model"),
    "stream is a string": (b'{"model":"tiny","stream":"true"}', "stream"),
    "no model": (b'{"messages":[]}', "model"),
    "model is null": (b'{"model":null}', "model"),
    "model twice": (b'{"model":"tiny","model":"other"}', "model"),
    "model twice, once in escapes": (b'{"model":"tiny","\\u006dodel":"other"}', "model"),
    "stream twice": (b'{"model":"tiny","stream":true,"stream":false}', "stream"),
    "stream_options twice": (
        b'{"model":"tiny","stream_options":{},"stream_options":null}',
        "stream_options",
    ),
}


@pytest.mark.parametrize(("body", "param"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_body_is_a_400_that_names_the_field(body: bytes, param: str | None) -> None:
    async with live_gateway(endpoint()) as live:
        answer = await live.post("/v1/chat/completions", body)
    assert told(answer)[:2] == (400, "invalid_request")
    assert answer.json()["error"]["param"] == param


UNKNOWN_URLS = ["/", "/v1", "/v1/", "/v1/nothing", "/qwen/v1/nothing", "/docs", "/a/b/c", "//v1"]


@pytest.mark.parametrize("path", UNKNOWN_URLS)
async def test_an_unknown_url_is_a_404(path: str) -> None:
    async with live_gateway(endpoint()) as live:
        assert told(await live.client.get(path)) == (404, "not_found", "unknown_url")


ADMIN = ["/load", "/sleep", "/metrics", "/v1/load_lora_adapter", "/openapi.json", "/version"]


@pytest.mark.parametrize("path", ADMIN)
async def test_nothing_but_the_tables_routes_reaches_an_engine(path: str) -> None:
    async with (
        FakeVllm(answering(response(b"{}"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        for prefix in ("", "/qwen", "/team-a.qwen", "/qwen/v1/.."):
            answer = await live.post(prefix + path, b"{}")
            assert answer.status_code in (404, 405), prefix
    assert engine.requests == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/v1/models/tiny", "GET"),
        ("PUT", "/qwen/v1/completions", "POST"),
    ],
)
async def test_a_wrong_method_is_a_405_with_allow(method: str, path: str, allowed: str) -> None:
    async with live_gateway(endpoint()) as live:
        answer = await live.client.request(method, path)
    assert told(answer) == (405, "invalid_request", "method_not_allowed")
    assert answer.headers["allow"] == allowed


async def test_a_wrong_method_is_told_as_the_route_has_it() -> None:
    async with live_gateway(endpoint()) as live:
        answer = await live.client.get("/v1/messages")
        (line,) = live.lines()
    assert (answer.status_code, answer.json()["type"]) == (405, "error")
    assert (line["route"], line["error"]) == ("messages", "method_not_allowed")


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/moderations", "/qwen/v1/files"])
async def test_openais_other_routes_are_a_501(path: str) -> None:
    async with live_gateway(endpoint()) as live:
        assert told(await live.post(path, b"{}")) == (501, "unsupported", "unsupported")


async def test_a_route_that_is_not_served_is_named() -> None:
    async with live_gateway(endpoint()) as live:
        other = await live.post("/v1/moderations", b"{}")
        kept = await live.client.get("/v1/responses/resp_1")
    assert other.json()["error"]["message"] == "POST /v1/moderations is not served here."
    assert kept.json()["error"]["message"].startswith("GET /v1/responses/resp_1 is not served")
    assert "only POST /v1/responses" in kept.json()["error"]["message"]


async def test_a_body_over_the_limit_is_a_413() -> None:
    async with live_gateway(endpoint(), max_body_bytes=1024) as live:
        answer = await live.post("/v1/chat/completions", b"x" * 1025)
    assert told(answer) == (413, "invalid_request", "request_too_large")


async def test_a_413_is_told_before_the_body_is_there() -> None:
    async with live_gateway(endpoint(), max_body_bytes=1024) as live:
        reader, writer = await live.connect()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: g\r\n"
            b"authorization: Bearer %s\r\ncontent-length: 99999999\r\n\r\n" % SECRET.encode()
        )
        assert b" 413 " in await reader.readline()
        writer.close()


async def test_a_body_of_unknown_length_is_counted() -> None:
    async def body() -> Any:
        for _ in range(3):
            yield b"x" * 600

    async with live_gateway(endpoint(), max_body_bytes=1024) as live:
        answer = await live.client.post("/v1/chat/completions", content=body())
    assert told(answer)[0] == 413


async def test_an_endpoint_without_replicas_is_a_503_with_retry_after() -> None:
    async with live_gateway(endpoint()) as live:
        answer = await live.chat()
    assert told(answer) == (503, "backend_unreachable", "no_ready_replica")
    assert answer.headers["retry-after"] == "5"


async def test_a_503_tells_nobody_where_the_engine_is() -> None:
    async with FakeVllm(answering(b"")) as engine:
        pass
    async with live_gateway(endpoint(engine.replica)) as live:
        answer = await live.chat()
    assert told(answer) == (502, "backend_unreachable", "backend_unreachable")
    assert engine.replica.host not in answer.text


PASSED = [
    "err-wrong-model-chat",
    "err-temperature-negative",
    "err-bad-json",
    "err-empty-body",
    "err-too-long-chat",
    "err-messages-missing",
    "err-queue-full",
]


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_vllms_own_error_objects_pass_byte_for_byte(name: str, stream: bool) -> None:
    async with (
        FakeVllm(answering(captured(name))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat(stream=stream)
    assert answer.content == captured_body(name)
    assert answer.status_code == json.loads(answer.content)["error"]["code"]


WRAPPED = {
    "a string for an error": (400, b'{"error":"no"}', (400, "invalid_request", None), "no"),
    "a detail": (405, captured_body("err-405"), (405, "invalid_request", None), "Method Not"),
    "a list of details": (422, b'{"detail":[{"x":1}]}', (422, "invalid_request", None), "422"),
    "what FastAPI says of a body": (
        422,
        b'{"detail":[{"type":"missing","loc":["body","input",0],"msg":"Field required"}]}',
        (422, "invalid_request", None),
        "body.input.0: Field required",
    ),
    "no place": (422, b'{"detail":[{"msg":"No"}]}', (422, "invalid_request", None), "No"),
    "text": (500, b"Internal Server Error", (500, "internal", None), "500"),
    "a page": (502, b"<html><h1>Bad Gateway", (502, "internal", None), "502"),
    "nothing": (500, b"", (500, "internal", None), "500"),
    "a number": (429, b"7", (429, "rate_limit_exceeded", None), "429"),
    "an error without message": (400, b'{"error":{"x":1}}', (400, "invalid_request", None), "400"),
    "no such route": (404, captured_body("err-404"), (501, "unsupported", "unsupported"), "route"),
}


@pytest.mark.parametrize(("status", "body", "expected", "text"), WRAPPED.values(), ids=WRAPPED)
async def test_any_other_error_of_an_engine_is_wrapped(
    status: int, body: bytes, expected: tuple[int, str, str | None], text: str
) -> None:
    answer_ = response(body, status=status, content_type="text/html", headers="retry-after: 7\r\n")
    async with (
        FakeVllm(answering(answer_)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert told(answer) == expected
    assert text in answer.json()["error"]["message"]


async def test_of_a_wrapped_errors_headers_only_those_about_time_stay() -> None:
    about = (
        "content-encoding: gzip\r\netag: x\r\ncache-control: max-age=60\r\n"
        "retry-after: 7\r\nx-ratelimit-remaining-requests: 0\r\n"
    )
    answer_ = response(b"\x1f\x8b not JSON", status=429, headers=about)
    async with (
        FakeVllm(answering(answer_)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert told(answer) == (429, "rate_limit_exceeded", None)
    kept = {"retry-after", "x-ratelimit-remaining-requests"}
    ours = {"content-type", "content-length", "date", "x-request-id"}
    assert set(answer.headers) == kept | ours


async def test_a_refusal_of_our_key_is_our_fault() -> None:
    async with (
        FakeVllm(answering(captured("auth-none"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
    assert told(answer) == (502, "backend_unreachable", "backend_unreachable")
    assert "www-authenticate" not in answer.headers


async def test_a_redirect_is_not_followed() -> None:
    away = response(b"", status=307, headers="location: http://elsewhere/\r\n")
    async with FakeVllm(answering(away)) as engine, live_gateway(endpoint(engine.replica)) as live:
        answer = await live.chat()
    assert told(answer)[0] == 502
    assert "location" not in answer.headers


async def silence(connection: Connection) -> None:
    await connection.request()
    await connection.hung_up()


async def test_a_silent_engine_is_a_504() -> None:
    async with (
        FakeVllm(silence) as engine,
        live_gateway(endpoint(engine.replica), total_timeout_seconds=0.5) as live,
    ):
        answer = await live.chat()
        assert told(answer) == (504, "backend_timeout", "backend_timeout")
        await engine.left.acquire()


async def test_a_stream_that_does_not_begin_is_a_504() -> None:
    async with (
        FakeVllm(silence) as engine,
        live_gateway(endpoint(engine.replica), first_byte_timeout_seconds=0.05) as live,
    ):
        answer = await live.chat(stream=True)
    assert told(answer) == (504, "backend_timeout", "backend_timeout")


async def test_a_fault_of_ours_is_a_500_that_tells_nothing_but_where_to_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with live_gateway(endpoint()) as live:
        live.directory.catalog = None  # type: ignore[assignment]
        answer = await live.chat()
        assert told(answer) == (500, "internal", None)
        assert "NoneType" not in answer.text
        assert live.lines()[0]["error"] == "internal"
    assert answer.headers["x-request-id"] in caplog.text
    assert "AttributeError" in caplog.text


async def test_a_gateway_that_knows_nothing_yet_calls_no_key_wrong() -> None:
    async with live_gateway(endpoint()) as live:
        live.directory.ready = False
        assert told(await live.chat()) == (503, "backend_unreachable", "gateway_not_ready")


async def test_the_log_says_once_why_a_replica_cannot_be_reached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with live_gateway(endpoint(Replica("127.0.0.1", free_port()))) as live:
        for _ in range(3):
            assert (await live.chat()).status_code == 502
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("127.0.0.1:")
    assert "ConnectionRefusedError" in line
