"""How limits fill and leak, without any clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway.catalog import Endpoint, Limits
from endpoint_gateway.errors import Headers, RateLimited
from endpoint_gateway.limits import Ledger, Scope, duration, pacing, scopes_of
from helpers.live_server import key

DAY = 86400.0


def scope(name: str = "key/a/b", subject: str = "API key", **limits: int) -> Scope:
    return Scope(name, subject, Limits(**limits))


class Gateway:
    """A ledger with a clock that the test turns."""

    def __init__(self, *scopes: Scope, gateways: int = 1) -> None:
        self.ledger = Ledger()
        self.scopes = scopes
        self.gateways = gateways
        self.now = 1000.0

    def admit(self, *, tokens: int = 0, settles: bool = True) -> dict[str, str]:
        standings = self.ledger.admit(self.scopes, now=self.now, weight=self.gateways)
        if settles:
            self.settle(tokens)
        return text_of(pacing(standings))

    def settle(self, tokens: int = 0) -> None:
        self.ledger.settle(self.scopes, now=self.now, weight=self.gateways, tokens=tokens)

    def refused(self) -> RateLimited:
        with pytest.raises(RateLimited) as caught:
            self.admit()
        return caught.value

    def admitted(self, *, settles: bool = True) -> int:
        """Admit until something refuses; return how many were."""
        for count in range(10_000):
            try:
                self.admit(settles=settles)
            except RateLimited:
                return count
        raise AssertionError("nothing refuses")


def text_of(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}


def test_a_minutes_requests_are_there_at_once_and_come_back_evenly() -> None:
    gateway = Gateway(scope(requests_per_minute=30))
    assert gateway.admitted() == 30
    gateway.now += 1.999
    gateway.refused()
    gateway.now += 0.001
    assert gateway.admitted() == 1
    gateway.now += 20
    assert gateway.admitted() == 10
    gateway.now += DAY
    assert gateway.admitted() == 30


@given(st.integers(1, 5000), st.lists(st.floats(0, 30), min_size=1, max_size=20))
def test_whoever_comes_back_when_told_to_is_admitted(limit: int, pauses: list[float]) -> None:
    gateway = Gateway(scope(requests_per_minute=limit))
    for pause in pauses:
        gateway.now += pause
        gateway.admitted()
        gateway.now += int(text_of(gateway.refused().headers)["retry-after-ms"]) / 1000
        gateway.admit()


@given(st.integers(1, 300), st.lists(st.floats(0, 10), max_size=30))
def test_in_no_minute_are_more_admitted_than_the_vessel_and_its_leak(
    limit: int, pauses: list[float]
) -> None:
    gateway = Gateway(scope(requests_per_minute=limit))
    count = gateway.admitted()
    for pause in pauses:
        gateway.now += pause
        count += gateway.admitted()
    assert count <= limit * (1 + (gateway.now - 1000) / 60) + 1e-3


def test_tokens_are_put_down_afterwards_and_may_go_over() -> None:
    gateway = Gateway(scope(tokens_per_minute=600))
    gateway.admit(tokens=599)
    gateway.admit(tokens=1000)
    error = gateway.refused()
    assert error.message == (
        "Rate limit reached for this API key on tokens per min (TPM): Limit 600, Used 1599. "
        "Please try again in 1m40s."
    )
    gateway.now += 99.9
    gateway.refused()
    gateway.now += 0.1
    gateway.admit(tokens=2)
    gateway.refused()


def test_places_in_flight_come_back_when_their_requests_end() -> None:
    gateway = Gateway(scope(in_flight=2))
    gateway.admit(settles=False)
    gateway.admit(settles=False)
    error = gateway.refused()
    assert "on requests in flight: Limit 2. Please try again in 1s." in error.message
    assert text_of(error.headers) == {"retry-after": "1", "retry-after-ms": "1000"}
    gateway.settle()
    gateway.admit(settles=False)
    gateway.refused()


def test_a_refusal_takes_nothing_anywhere() -> None:
    wide, narrow = scope("key/a/b", requests_per_minute=10), scope("endpoint/a/q", in_flight=1)
    both = Gateway(wide, narrow)
    both.admit(settles=False)
    for _ in range(20):
        both.refused()
    both.scopes = (wide,)
    assert both.admitted() == 9


def test_the_limit_that_takes_longest_is_the_one_that_is_told_of() -> None:
    both = Gateway(
        scope(requests_per_minute=1, in_flight=1),
        scope("endpoint/a/q", "endpoint", requests_per_minute=1, tokens_per_minute=60),
    )
    both.admit(tokens=1000, settles=False)
    both.settle(1000)
    error = both.refused()
    assert (error.status, error.type, error.code) == (429, *["rate_limit_exceeded"] * 2)
    assert error.message.startswith("Rate limit reached for this endpoint on tokens per min (TPM)")
    assert "a/q" not in error.message


def test_headers_are_openais_and_of_the_tightest_limits() -> None:
    both = Gateway(
        scope(requests_per_minute=60, tokens_per_minute=1000),
        scope("endpoint/a/q", requests_per_minute=100, tokens_per_minute=500),
    )
    both.admit(tokens=20)
    assert both.admit() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "58",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-limit-tokens": "500",
        "x-ratelimit-remaining-tokens": "480",
        "x-ratelimit-reset-tokens": "2.4s",
    }


def test_headers_of_a_refusal_tell_when_to_come_back_rounded_up() -> None:
    gateway = Gateway(scope(requests_per_minute=7))
    gateway.admitted()
    assert text_of(gateway.refused().headers) == {
        "retry-after": "9",
        "retry-after-ms": "8572",
        "x-ratelimit-limit-requests": "7",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"0s"),
        (0.00001, b"1ms"),
        (0.02, b"20ms"),
        (1, b"1s"),
        (8.64, b"8.64s"),
        (59.9999, b"1m0s"),
        (360, b"6m0s"),
        (90.951, b"1m30.951s"),
        (3600, b"1h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("limit", "gateways"), [(60, 2), (5, 2), (1, 3), (7, 7), (10, 4)])
def test_a_share_is_rounded_up_and_comes_back_exactly(limit: int, gateways: int) -> None:
    gateway = Gateway(scope(requests_per_minute=limit), gateways=gateways)
    assert gateway.admitted() == -(-limit // gateways)
    gateway.now += 60 * gateways
    assert gateway.admitted() <= limit


@pytest.mark.parametrize(("limit", "gateways"), [(8, 2), (5, 2), (1, 3)])
def test_a_share_of_the_places_is_rounded_up(limit: int, gateways: int) -> None:
    gateway = Gateway(scope(in_flight=limit), gateways=gateways)
    assert gateway.admitted(settles=False) == -(-limit // gateways)


def test_a_change_of_how_many_gateways_there_are_gives_nothing_and_takes_nothing() -> None:
    gateway = Gateway(scope(requests_per_minute=60, tokens_per_minute=600), gateways=2)
    assert gateway.admitted() == 30
    for count in (1, 2, 3, 1):
        gateway.gateways = count
        gateway.refused()
    half_used = Gateway(scope(requests_per_minute=60), gateways=1)
    for _ in range(30):
        half_used.admit()
    half_used.gateways = 3
    assert half_used.admitted() == 10


def test_a_share_of_the_tokens_is_used_up_sooner() -> None:
    gateway = Gateway(scope(tokens_per_minute=600), gateways=2)
    gateway.admit(tokens=299)
    gateway.admit(tokens=1)
    gateway.refused()


def test_a_changed_limit_counts_what_was_used() -> None:
    gateway = Gateway(scope(requests_per_minute=10))
    assert gateway.admitted() == 10
    gateway.scopes = (scope(requests_per_minute=15),)
    assert gateway.admitted() == 5


def test_those_who_have_nothing_in_it_are_forgotten() -> None:
    gateway = Gateway()
    for number in range(1000):
        gateway.scopes = (scope(f"key/a/{number}", requests_per_minute=60),)
        gateway.now += 1
        gateway.admit()
    assert len(gateway.ledger) <= 128


def test_a_place_in_flight_is_never_forgotten() -> None:
    gateway = Gateway(scope(in_flight=1))
    gateway.admit(settles=False)
    held = gateway.scopes
    for number in range(1000):
        gateway.scopes = (scope(f"key/a/{number}", in_flight=1),)
        gateway.admit()
    gateway.scopes = held
    gateway.refused()


def test_only_those_with_limits_are_counted() -> None:
    limits = Limits(requests_per_minute=1)
    free, limited = Endpoint("team-a", "qwen"), Endpoint("team-a", "qwen", limits=limits)
    assert scopes_of(key(), free) == ()
    assert [each.name for each in scopes_of(key(limits=limits), limited)] == [
        "key/team-a/ci",
        "endpoint/team-a/qwen",
    ]
