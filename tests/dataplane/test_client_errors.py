"""The contract's error table as clients see it: what the official SDKs raise for each row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from endpoint_gateway.catalog import Endpoint, Limits, Timeouts
from helpers.fake_vllm import (
    DONE,
    STREAM_HEAD,
    Connection,
    FakeVllm,
    Script,
    answering,
    as_captured,
    captured,
    chunk,
    delta,
    event,
    response,
    stream,
)
from helpers.live_server import SECRET, Live, endpoint, live_gateway
from helpers.node import ask

BODY_LIMIT = 4096
SOON = Timeouts(first_byte=0.2, idle=0.2, total=0.5)


async def silence(connection: Connection) -> None:
    await connection.request()
    await connection.hung_up()


async def silence_after(connection: Connection) -> None:
    await connection.request()
    await connection.send(STREAM_HEAD, chunk(delta("a")))
    await connection.hung_up()


async def death_after(connection: Connection) -> None:
    await connection.request()
    await connection.send(STREAM_HEAD, chunk(delta("a")))
    connection.reset()


ENGINE_ERROR = {"message": "EngineCore", "type": "x", "param": None, "code": 500}
CREATED = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
ENGINES: dict[str, Script] = {
    "qwen": as_captured,
    "full": as_captured,
    "picky": answering(captured("err-temperature-negative")),
    "bare": answering(captured("err-404")),
    "wrong": answering(response(b"Internal Server Error", status=500, content_type="text/plain")),
    "locked": answering(captured("auth-none")),
    "babble": answering(b"no HTTP"),
    "mute": silence,
    "aborting": answering(response(b'{"choices":[{"index":0,"finish_reason":"abort"}]}')),
    # these begin a stream
    "failing": answering(stream([delta("a"), event({"error": ENGINE_ERROR}), DONE])),
    "giving-up": answering(stream([delta("a"), delta("", finish_reason="abort"), DONE])),
    "ending": answering(stream([delta("a")])),
    "stalling": silence_after,
    "dying": death_after,
    "forgetting": answering(stream([CREATED])),
}
FIELDS: dict[str, dict[str, Any]] = {
    "full": {"limits": Limits(requests_per_minute=1)},
    "mute": {"timeouts": SOON},
    "stalling": {"timeouts": SOON},
    "narrow": {"routes": frozenset({"embeddings"})},
}
NAMES = [*ENGINES, "narrow", "gone"]


class Row(NamedTuple):
    """A call at a base URL, and what it raises; `node` where that has another name in Node.js."""

    call: str
    base: str
    raised: str
    status: int | None = None
    code: str | None = None
    param: str | None = None
    body: dict[str, Any] = {}  # noqa: RUF012 - never written to
    api_key: str = SECRET
    node: str = ""


AUTH, SERVER, MISSING = "AuthenticationError", "InternalServerError", "NotFoundError"
HI = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}]}
LONG = {"model": "qwen", "messages": [{"role": "user", "content": "hi" * BODY_LIMIT}]}
BAD = "BadRequestError"
ROWS = {
    "a wrong key": Row("chat", "/v1", AUTH, 401, "invalid_api_key", api_key="sk-wrong"),
    "a wrong key, models": Row("models", "/v1", AUTH, 401, "invalid_api_key", api_key="sk-wrong"),
    "a model of a wrong type": Row("chat", "/v1", BAD, 400, None, "model", {**HI, "model": 7}),
    "a stream of a wrong type": Row("chat", "/v1", BAD, 400, None, "stream", {**HI, "stream": 7}),
    "the engine's own refusal": Row("chat", "/picky/v1", BAD, 400, "400", "temperature"),
    "an unknown model": Row(
        "chat", "/v1", MISSING, 404, "model_not_found", "model", {**HI, "model": "gpt-4"}
    ),
    "an unknown model, described": Row(
        "model", "/v1", MISSING, 404, "model_not_found", "model", {"model": "gpt-4"}
    ),
    "an unknown model by id": Row(
        "chat", "/v2/qwen/openai/v1", MISSING, 404, "model_not_found", "model", {**HI, "model": "x"}
    ),
    "an unknown endpoint": Row("chat", "/other/v1", MISSING, 404, "endpoint_not_found"),
    "an unknown path": Row("chat", "/v1/nothing", MISSING, 404, "unknown_url"),
    "a route that is not listed": Row("chat", "/narrow/v1", MISSING, 404, "unknown_url"),
    "a body over the limit": Row(
        "chat", "/v1", "APIStatusError", 413, "request_too_large", body=LONG, node="APIError"
    ),
    "over a limit": Row("chat", "/full/v1", "RateLimitError", 429, "rate_limit_exceeded"),
    "an engine's fault": Row("chat", "/wrong/v1", SERVER, 500),
    "a route that is not served": Row("image", "/v1", SERVER, 501, "unsupported"),
    "a route that the engine lacks": Row("chat", "/bare/v1", SERVER, 501, "unsupported"),
    "a response of before": Row(
        "response",
        "/v1",
        SERVER,
        501,
        "unsupported",
        "previous_response_id",
        {"model": "qwen", "input": "hi", "previous_response_id": "resp_1"},
    ),
    "no HTTP": Row("chat", "/babble/v1", SERVER, 502, "backend_unreachable"),
    "an engine that refuses our key": Row("chat", "/locked/v1", SERVER, 502, "backend_unreachable"),
    "an aborted answer": Row("chat", "/aborting/v1", SERVER, 502, "answer_aborted"),
    "no replica": Row("chat", "/gone/v1", SERVER, 503, "no_ready_replica"),
    "no answer": Row("chat", "/mute/v1", SERVER, 504, "backend_timeout"),
    "no first event": Row("chat, streamed", "/mute/v1", SERVER, 504, "backend_timeout"),
    "an error in a stream": Row("chat, streamed", "/failing/v1", "APIError", code="500"),
    "an aborted stream": Row("chat, streamed", "/giving-up/v1", "APIError", code="answer_aborted"),
    "a stream without an end": Row(
        "chat, streamed", "/ending/v1", "APIError", None, "answer_aborted"
    ),
    "a stream that stalls": Row(
        "chat, streamed", "/stalling/v1", "APIError", code="backend_timeout"
    ),
    "a stream whose engine dies": Row(
        "chat, streamed", "/dying/v1", "APIError", None, "backend_unreachable"
    ),
    "a response without an end": Row(
        "response, streamed",
        "/forgetting/v1",
        "APIError",
        None,
        "answer_aborted",
        body={"model": "qwen", "input": "hi"},
    ),
}


@asynccontextmanager
async def every_trouble() -> AsyncIterator[Live]:
    """Run a gateway with an endpoint for each way to fail."""
    async with AsyncExitStack() as stack:
        endpoints: list[Endpoint] = []
        for name in NAMES:
            replicas = []
            if name in ENGINES:
                engine = await stack.enter_async_context(FakeVllm(ENGINES[name]))
                replicas.append(engine.replica)
            fields = {"name": name, "served_names": (name,), **FIELDS.get(name, {})}
            endpoints.append(endpoint(*replicas, **fields))
        live = await stack.enter_async_context(live_gateway(*endpoints, max_body_bytes=BODY_LIMIT))
        # what there is for this minute
        assert (await live.chat("full")).status_code == 200
        yield live


@pytest.fixture
async def troubled() -> AsyncIterator[Live]:
    async with every_trouble() as live:
        yield live


async def collected(pending: Awaitable[Any]) -> list[Any]:
    return [each async for each in await pending]


Client = openai.AsyncOpenAI
PYTHON: dict[str, Callable[[Client, dict[str, Any]], Awaitable[Any]]] = {
    "chat": lambda client, body: client.chat.completions.create(**body),
    "chat, streamed": lambda client, body: collected(
        client.chat.completions.create(**body, stream=True)
    ),
    "response": lambda client, body: client.responses.create(**body),
    "response, streamed": lambda client, body: collected(
        client.responses.create(**body, stream=True)
    ),
    "models": lambda client, _: client.models.list()._get_page(),
    "model": lambda client, body: client.models.retrieve(body["model"]),
    "image": lambda client, _: client.images.generate(prompt="a cat"),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_the_client_for_python_raises_what_the_table_says(troubled: Live, row: Row) -> None:
    async with openai.AsyncOpenAI(
        base_url=troubled.url + row.base, api_key=row.api_key, max_retries=0
    ) as client:
        with pytest.raises(openai.APIError) as caught:
            await PYTHON[row.call](client, row.body or HI)
    error = caught.value
    status = getattr(error, "status_code", None)
    assert (type(error).__name__, status) == (row.raised, row.status)
    assert (error.code, error.param) == (row.code, row.param)
    assert error.message


def as_sent(code: str | None) -> str | int | None:
    """Return the code as the engine wrote it: vLLM's are numbers, of which Python makes texts."""
    return int(code) if code and code.isdecimal() else code


async def test_the_client_for_node_raises_what_the_table_says(troubled: Live) -> None:
    calls = [
        {
            "what": row.call,
            "baseURL": troubled.url + row.base,
            "apiKey": row.api_key,
            "body": row.body or HI,
        }
        for row in ROWS.values()
    ]
    said = zip(ROWS, await ask(calls), strict=True)
    # what did not raise is a list or has none of these
    seen = {
        name: tuple(dict(error).get(part) for part in ("raised", "status", "code", "param"))
        for name, error in said
    }
    expected = {
        name: (row.node or row.raised, row.status, as_sent(row.code), row.param)
        for name, row in ROWS.items()
    }
    assert seen == expected


class Told(NamedTuple):
    """What Anthropic's clients raise at a base URL: class, status, and the type in the error."""

    base: str
    raised: str
    status: int
    type: str
    api_key: str = SECRET
    streamed: bool = False
    content: str = "hi"


ANTHROPICS = {
    "a wrong key": Told("", AUTH, 401, "authentication_error", api_key="sk-wrong"),
    "an unknown endpoint": Told("/other", MISSING, 404, "not_found_error"),
    "a route that is not listed": Told("/narrow", MISSING, 404, "not_found_error"),
    "a body over the limit": Told(
        "", "ContentTooLargeError", 413, "request_too_large", content="hi" * BODY_LIMIT
    ),
    "over a limit": Told("/full", "RateLimitError", 429, "rate_limit_error"),
    "an engine's fault": Told("/wrong", SERVER, 500, "api_error"),
    "a route that the engine lacks": Told("/bare", "HTTPNotImplementedError", 501, "api_error"),
    "no HTTP": Told("/babble", SERVER, 502, "api_error"),
    "no replica": Told("/gone", "ServiceUnavailableError", 503, "overloaded_error"),
    "no answer": Told("/mute", "GatewayTimeoutError", 504, "timeout_error"),
    "a stream without an end": Told("/ending", "APIStatusError", 200, "api_error", streamed=True),
}


@pytest.mark.parametrize("told", ANTHROPICS.values(), ids=ANTHROPICS)
async def test_anthropics_client_for_python_raises_what_its_own_api_has(
    troubled: Live, told: Told
) -> None:
    create: Any
    async with anthropic.AsyncAnthropic(
        base_url=troubled.url + told.base, api_key=told.api_key, max_retries=0
    ) as client:
        create = client.messages.create
        asked = create(
            model="qwen",
            max_tokens=8,
            messages=[{"role": "user", "content": told.content}],
            stream=told.streamed,
        )
        with pytest.raises(anthropic.APIStatusError) as caught:
            await (collected(asked) if told.streamed else asked)
    error = caught.value
    assert (type(error).__name__, error.status_code) == (told.raised, told.status)
    body: Any = error.body
    assert (body["type"], body["error"]["type"]) == ("error", told.type)
