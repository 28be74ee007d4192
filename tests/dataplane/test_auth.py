"""Who gets in, and what of a client's headers goes where."""

from __future__ import annotations

import re
import time

import pytest

from endpoint_gateway.auth import authenticate
from endpoint_gateway.errors import InvalidApiKey
from helpers.fake_vllm import FakeVllm, answering, captured, response
from helpers.live_server import SECRET, endpoint, key, keyring, live_gateway

KNOWN = [
    {"authorization": f"Bearer {SECRET}"},
    {"authorization": f"bearer  {SECRET}"},
    {"x-api-key": SECRET},
    {"x-api-key": SECRET, "authorization": "Basic eDp5"},
    {"x-api-key": "sk-wrong", "authorization": f"Bearer {SECRET}"},
]
UNKNOWN = [
    {},
    {"authorization": "Bearer sk-wrong"},
    {"authorization": "Bearer"},
    {"authorization": SECRET},
    {"authorization": f"Basic {SECRET}"},
    {"x-api-key": ""},
    {"x-api-key": "sk-wrong"},
    {"authorization": "Bearer sk-wrong", "x-api-key": SECRET},
]
GUARDED = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/tiny"),
    ("POST", "/qwen/v1/chat/completions"),
    ("POST", "/team-b.other/v1/chat/completions"),
    ("GET", "/v1/images/generations"),
]


@pytest.mark.parametrize("headers", KNOWN)
async def test_a_known_key_gets_in(headers: dict[str, str]) -> None:
    async with live_gateway(endpoint()) as live:
        del live.client.headers["authorization"]
        assert (await live.client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", UNKNOWN)
async def test_any_other_gets_a_401(headers: dict[str, str]) -> None:
    async with live_gateway(endpoint()) as live:
        del live.client.headers["authorization"]
        answer = await live.client.get("/v1/models", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication", "invalid_api_key")


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_every_route_wants_a_key_before_it_reads_a_body(method: str, path: str) -> None:
    async with live_gateway(endpoint()) as live:
        reader, writer = await live.connect()
        head = f"{method} {path} HTTP/1.1\r\nhost: g\r\ncontent-length: 10\r\n\r\n"
        writer.write(head.encode())
        assert b" 401 " in await reader.readline()
        writer.close()


async def test_a_revoked_key_is_refused_by_the_next_request() -> None:
    async with live_gateway(endpoint()) as live:
        assert (await live.client.get("/v1/models")).status_code == 200
        live.directory.keyring = {}
        assert (await live.client.get("/v1/models")).status_code == 401


@pytest.mark.parametrize(("ends_in", "status"), [(-1, 401), (60, 200)])
async def test_an_expired_key_is_refused_by_the_gateways_own_clock(
    ends_in: float, status: int
) -> None:
    async with live_gateway(endpoint(), keys=(key(expires=time.time() + ends_in),)) as live:
        answer = await live.client.get("/v1/models")
    assert answer.status_code == status


def test_a_key_ends_at_its_second_and_not_before() -> None:
    headers, known = [(b"x-api-key", SECRET.encode())], keyring(key(expires=100))
    assert authenticate(headers, known, now=99.999).name == "ci"
    with pytest.raises(InvalidApiKey):
        authenticate(headers, known, now=100)


async def test_a_keys_text_is_in_no_log() -> None:
    async with live_gateway(endpoint()) as live:
        await live.chat()
        await live.client.get("/v1/models", headers={"authorization": "Bearer sk-wrong"})
    assert b"sk-" not in live.log.getvalue()
    assert [line["key"] for line in live.lines()] == ["team-a/ci", ""]


async def test_the_engine_gets_its_own_key_and_never_the_clients() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.chat()
        await live.client.post(
            "/v1/completions", content=b'{"model":"tiny"}', headers={"x-api-key": SECRET}
        )
    for request in engine.requests:
        assert request.headers["authorization"] == "Bearer sk-engine-1"
        assert SECRET.encode() not in request.head


async def test_an_engine_without_a_key_gets_none() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica, authorizations=(None,))) as live,
    ):
        await live.chat()
    assert "authorization" not in engine.requests[0].headers


async def test_headers_that_frame_a_message_are_ours_in_both_directions() -> None:
    answer_ = response(
        b"{}",
        headers="connection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\nserver: uvicorn\r\n"
        "x-end: 2\r\nwww-authenticate: x\r\n",
    )
    sent = {
        "connection": "keep-alive, X-Secret-Hop",
        "x-secret-hop": "1",
        "te": "trailers",
        "proxy-authorization": "x",
        "cookie": "session=1",
        "accept-encoding": "gzip",
        "traceparent": "00-1-2-03",
        "expect": "100-continue",
        "x-mine": "3",
    }
    async with (
        FakeVllm(answering(answer_)) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.post("/v1/completions", {"model": "tiny"}, headers=sent)
    received = engine.requests[0].headers
    dropped = {"connection", "x-secret-hop", "te", "proxy-authorization", "cookie", "expect"}
    assert dropped.isdisjoint(received)
    assert received["accept-encoding"] == "identity"
    assert (received["traceparent"], received["x-mine"]) == ("00-1-2-03", "3")
    assert received["content-type"] == "application/json"
    assert received["host"] == f"{engine.replica.host}:{engine.replica.port}"
    assert {"x-hop", "keep-alive", "server", "www-authenticate"}.isdisjoint(answer.headers)
    assert answer.headers["x-end"] == "2"


SMUGGLING = {
    "length and chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
    "a length that is none": b"content-length: +4\r\n\r\nabcd",
    "a space before the colon": b"content-length : 4\r\n\r\nabcd",
    "a folded line": b"x: 1\r\n content-length: 4\r\n\r\nabcd",
    "chunks that are none": b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a bare line feed": b"x: 1\ncontent-length: 4\r\n\r\nabcd",
    "another coding": b"transfer-encoding: xchunked\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING)
async def test_a_request_that_can_be_read_in_two_ways_reaches_no_engine(rest: bytes) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        reader, writer = await live.connect()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n%s"
            % (SECRET.encode(), rest)
        )
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    assert engine.requests == []
    assert re.match(rb"HTTP/1.1 4|$", answer)


async def test_a_chunked_request_reaches_the_engine_with_its_length() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        reader, writer = await live.connect()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n"
            b'transfer-encoding: chunked\r\n\r\n8\r\n{"model"\r\n8\r\n:"tiny"}\r\n0\r\n\r\n'
            % SECRET.encode()
        )
        assert b" 200 " in await reader.readline()
        writer.close()
    assert engine.requests[0].body == b'{"model":"tiny"}'
    assert engine.requests[0].headers["content-length"] == "16"
    assert "transfer-encoding" not in engine.requests[0].headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ('"', False)],
)
async def test_a_sane_request_id_is_kept_and_any_other_replaced(given: str, kept: bool) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat()
        own = answer.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", own)
        assert engine.requests[0].headers["x-request-id"] == own
        answer = await live.post(
            "/v1/completions", {"model": "tiny"}, headers={"x-request-id": given}
        )
    assert (answer.headers["x-request-id"] == given) is kept
    assert engine.requests[1].headers["x-request-id"] == answer.headers["x-request-id"]


def test_a_limited_key_opens_what_it_names_and_no_namespace_but_its_own() -> None:
    limited = key(endpoints=frozenset({"qwen"}))
    assert limited.may_use(endpoint())
    assert not limited.may_use(endpoint(name="other"))
    assert not limited.may_use(endpoint(namespace="team-b"))
