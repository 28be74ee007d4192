"""Forms, which carry audio: what is read of them, and how they reach an engine."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from endpoint_gateway.errors import InvalidRequest
from endpoint_gateway.forms import boundary_of, peek_form, with_model
from endpoint_gateway.peek import MAX_MODEL_LETTERS
from endpoint_gateway.spool import MAX_HELD_BYTES
from helpers.fake_vllm import FakeVllm, answering, response
from helpers.live_server import SECRET, Live, endpoint, live_gateway

EDGE = b"edge"
TYPE = "multipart/form-data; boundary=edge"
PATHS = ("/v1/audio/transcriptions", "/v1/audio/translations")
SMALL, LARGE = b"RIFF" * 10, b"RIFF\r\n--edg" * (MAX_HELD_BYTES // 10)


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


FILE = part("file", SMALL, '; filename="a; name=model"')

READ: dict[str, tuple[bytes, str | None, bool]] = {
    "a model": (form(part("model", b"tiny"), FILE), "tiny", False),
    "after the file": (form(FILE, part("model", b"tiny")), "tiny", False),
    "a stream": (form(part("stream", b"True"), part("model", b"a")), "a", True),
    "no stream": (form(part("stream", b"false")), None, False),
    "none": (form(FILE), None, False),
    "empty": (form(part("model", b"")), "", False),
    "letters": (form(part("model", "é".encode())), "é", False),
    "what looks like a boundary": (form(part("file", b"x--edge"), part("model", b"a")), "a", False),
    "a file's name in another alphabet": (
        form(part("file", b"x", "; filename*=utf-8''%C3%A9"), part("model", b"a")),
        "a",
        False,
    ),
    "a file's name with quotes": (
        form(part("file", b"x", '; filename="a\\"; name=\\"b"'), part("model", b"a")),
        "a",
        False,
    ),
    "a file's name as it is": (
        form(part("file", b"x", '; filename="\u00e9"'), part("model", b"a")),
        "a",
        False,
    ),
    "a name without quotes": (
        form(b"--edge\r\ncontent-disposition:form-data; name=model\r\nx: y\r\n\r\na\r\n"),
        "a",
        False,
    ),
}


@pytest.mark.parametrize(("body", "model", "stream"), READ.values(), ids=READ)
def test_model_and_stream_are_read(body: bytes, model: str | None, stream: bool) -> None:
    peeked = peek_form(body, EDGE)
    assert (peeked.model, peeked.stream) == (model, stream)
    changed = b"".join(with_model(body, peeked, "other"))
    if model is None:
        assert changed == body
    else:
        assert peek_form(changed, EDGE).model == "other"
        assert len(changed) == len(body) - len(model.encode()) + len("other")


REFUSED = {
    "no form": b"{}",
    "empty": b"",
    "no end": part("model", b"a"),
    "cut off in a head": b"--edge\r\nContent-Disposition: form-data",
    "a boundary that goes on": b"--edge\r\n\r\nx\r\n--edges\r\n\r\n\r\n--edge--\r\n",
    "a head without end": form(part("x" * 5000, b"")),
    "two models": form(part("model", b"a"), part("model", b"b")),
    "two streams": form(part("stream", b"a"), part("stream", b"b")),
    "a long model": form(part("model", b"m" * (MAX_MODEL_LETTERS + 1))),
    "no text": form(part("model", b"\xff")),
    "a boundary at once after a head": form(part("file", b"--edge"), part("model", b"a")),
    "two names": form(part("x", b"a", '; name="model"')),
    "a name by RFC 2231": form(part("x", b"a", "; name*=utf-8''model")),
    "a name in pieces": form(part("x", b"a", '; name*0="mo"; name*1="del"')),
    "a name with a backslash": form(part("mod\\el", b"a")),
    "two dispositions": form(
        part("x", b"a", '\r\ncontent-disposition: form-data; name="model"'),
    ),
    "no disposition": b"--edge\r\nx: y\r\n\r\na\r\n--edge--\r\n",
    "another disposition": form(part("x", b"a").replace(b"form-data", b"attachment")),
    "a line feed in a head": form(
        part("x", b"a", '\ncontent-disposition: form-data; name="model"')
    ),
    "a zero in a head": form(part("x", b"a", "\r\ny: \0")),
    "many parts": form(*[part("x", b"")] * 101),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        peek_form(body, EDGE)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary*=utf-8''a",
        b"multipart/form-data; boundary=a; boundary*0=b",
        b"multipart/form-data; boundary=a; charset=utf-16",
        b"multipart/form-data, boundary=a",
    ],
)
def test_a_form_has_a_boundary(header: bytes | None) -> None:
    with pytest.raises(InvalidRequest):
        boundary_of(header)


def test_a_boundary_may_be_in_quotes() -> None:
    assert boundary_of(b'Multipart/Form-Data; charset=UTF-8; boundary="a b"') == b"a b"


async def posted(live: Live, path: str, body: bytes, **headers: str) -> httpx.Response:
    return await live.client.post(path, content=body, headers={"content-type": TYPE} | headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("audio", [SMALL, LARGE], ids=["in memory", "on disk"])
@pytest.mark.parametrize(("asked", "sent"), [("tiny", "tiny"), ("gpt-4o", "qwen")])
async def test_a_form_reaches_the_engine_with_a_model_of_its(
    path: str, audio: bytes, asked: str, sent: str
) -> None:
    def body(model: str) -> bytes:
        return form(part("model", model.encode()), part("file", audio, '; filename="a.wav"'))

    async with (
        FakeVllm(answering(response(b'{"text":"hello"}'))) as engine,
        live_gateway(endpoint(engine.replica, aliases=("gpt-4o",))) as live,
    ):
        answer = await posted(live, path, body(asked))
    assert (answer.status_code, answer.json()) == (200, {"text": "hello"})
    (received,) = engine.requests
    assert (received.path, received.headers["content-type"]) == (path, TYPE)
    assert received.body == body(sent)


BAD: dict[str, tuple[bytes, dict[str, Any], int]] = {
    "no form": (b"{}", {"content-type": "application/json"}, 400),
    "another model": (form(part("model", b"gpt-5"), FILE), {}, 404),
    "no model": (form(FILE), {}, 400),
    "too large": (form(part("file", b"x" * 5000)), {}, 413),
}


@pytest.mark.parametrize(("body", "headers", "status"), BAD.values(), ids=BAD)
async def test_a_form_that_leads_nowhere_is_refused(
    body: bytes, headers: dict[str, Any], status: int
) -> None:
    async with live_gateway(endpoint(), max_body_bytes=4096) as live:
        assert (await posted(live, PATHS[0], body, **headers)).status_code == status


async def test_a_large_form_is_sent_again_to_another_replica() -> None:
    body = form(part("model", b"tiny"), part("file", LARGE))
    refusal = response(b"{}", status=503)
    async with (
        FakeVllm(answering(refusal)) as full,
        FakeVllm(answering(response(b'{"text":"hello"}'))) as engine,
        live_gateway(endpoint(full.replica, engine.replica)) as live,
    ):
        answers = [await posted(live, PATHS[0], body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [received.body for received in engine.requests] == [body, body]
    assert full.requests


async def test_the_sdk_transcribes() -> None:
    async with (
        FakeVllm(answering(response(b'{"text":"hello","usage":{"type":"duration"}}'))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
        openai.AsyncOpenAI(base_url=live.url + "/qwen", api_key=SECRET, max_retries=0) as client,
    ):
        heard = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SMALL))
    assert heard.text == "hello"
    assert b'name="model"\r\n\r\nqwen\r\n' in engine.requests[0].body
