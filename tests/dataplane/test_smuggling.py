"""What could be read as one request or as two is one request, or none."""

from __future__ import annotations

import asyncio

import pytest

from helpers.fake_vllm import FakeVllm, answering, captured
from helpers.live_server import SECRET, Live, endpoint, live_gateway
from helpers.smuggling import CORPUS, LAST


async def spoken_to(live: Live, sent: bytes) -> bytes:
    """Send these bytes on one connection; return all that comes back until it is closed."""
    reader, writer = await live.connect()
    writer.write(sent + LAST)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("sent", CORPUS.values(), ids=CORPUS)
async def test_no_request_is_found_inside_another_one(sent: bytes) -> None:
    async with (
        FakeVllm(answering(captured("completion"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await spoken_to(live, sent)
        accepted = [line for line in live.lines() if line["attempts"]]
    assert len(engine.requests) == len(accepted) <= 1
    assert [each.json["prompt"] for each in engine.requests] == ["outer"] * len(accepted)
    assert all(each.head.count(b"authorization:") == 1 for each in engine.requests)
    assert not any(SECRET.encode() in each.head for each in engine.requests)
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 4"))
