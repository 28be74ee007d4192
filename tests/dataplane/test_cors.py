"""Which web pages' scripts may call the gateway."""

from __future__ import annotations

import pytest

from helpers.fake_vllm import FakeVllm, answering, captured
from helpers.live_server import endpoint, live_gateway

PAGE = "https://chat.example.com"
CHAT = "/v1/chat/completions"
ASKS = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize("origins", [(PAGE,), ("*",)])
async def test_an_allowed_page_may_ask_and_read_the_answer(origins: tuple[str, ...]) -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica), cors_origins=origins) as live,
    ):
        asked = await live.client.options(CHAT, headers={"origin": PAGE, **ASKS})
        assert asked.status_code == 204
        assert asked.headers["x-request-id"]
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in asked.headers["access-control-allow-methods"]
        answer = await live.post(CHAT, {"model": "tiny"}, headers={"origin": PAGE})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        refused = await live.post(CHAT, {"model": "x"}, headers={"origin": PAGE})
        assert (refused.status_code, refused.headers["vary"]) == (404, "origin")
        assert refused.headers["access-control-allow-origin"] == PAGE


OTHERS = {"another page": ((PAGE,), "https://evil.example"), "nobody is allowed": ((), PAGE)}


@pytest.mark.parametrize(("origins", "origin"), OTHERS.values(), ids=OTHERS)
async def test_any_other_page_may_not(origins: tuple[str, ...], origin: str) -> None:
    async with live_gateway(endpoint(), cors_origins=origins) as live:
        asked = await live.client.options(CHAT, headers={"origin": origin, **ASKS})
        assert asked.status_code == 405
        answer = await live.client.get("/v1/models", headers={"origin": origin})
    for each in (asked, answer):
        assert "access-control-allow-origin" not in each.headers


async def test_who_is_no_browser_is_told_nothing_of_it() -> None:
    async with live_gateway(endpoint(), cors_origins=("*",)) as live:
        answer = await live.client.get("/v1/models")
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "origin"
