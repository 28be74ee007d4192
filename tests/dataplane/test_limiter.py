"""Admissions: at once, and one after the other for a request that has to wait in between."""

from __future__ import annotations

import pytest

from endpoint_gateway.catalog import Limits
from endpoint_gateway.errors import RateLimited
from endpoint_gateway.limiter import Limiter
from helpers.live_server import endpoint, key

KEY = key(limits=Limits(requests_per_minute=9, tokens_per_minute=100, in_flight=1))
ENDPOINT = endpoint(limits=Limits(requests_per_minute=5, in_flight=1))


def limiter() -> Limiter:
    return Limiter(gateways=lambda: 1)


async def test_what_has_no_limits_is_told_of_none() -> None:
    async with limiter().admit(key(), endpoint()) as admission:
        assert admission.headers == []
        await admission.also(endpoint())
        assert admission.headers == []


async def test_who_waits_holds_a_place_of_its_key_and_none_of_its_endpoint() -> None:
    at = limiter()
    async with at.admit(KEY) as waiting:
        with pytest.raises(RateLimited):
            await at.admit(KEY, ENDPOINT).__aenter__()
        async with at.admit(key("sk-other", name="other"), ENDPOINT):
            with pytest.raises(RateLimited):
                await waiting.also(ENDPOINT)
        await waiting.also(ENDPOINT)
        assert dict(waiting.headers)[b"x-ratelimit-limit-requests"] == b"5"
        assert dict(waiting.headers)[b"x-ratelimit-limit-tokens"] == b"100"
        with pytest.raises(RateLimited):
            await at.admit(ENDPOINT).__aenter__()
        waiting.spend(1000)
    async with at.admit(ENDPOINT):
        with pytest.raises(RateLimited, match="TPM"):
            await at.admit(KEY).__aenter__()
