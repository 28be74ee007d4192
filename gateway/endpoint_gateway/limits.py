"""How much of its limits a key or an endpoint has used, and whether one more request fits.

Used by limiter with its own ledger, and by shared_limits with what a Redis counts. Pure: times are
given, in seconds of a clock that does not go back.

A limit of N a minute is a vessel that holds N and leaks evenly, N in a minute. A request goes in
when it is admitted, which it is while there is room for one; tokens go in when their number is
known, so that they may stand above the rim, and nothing is admitted until they have leaked. Where
several gateways count on their own, each weighs what it lets through by how many they are: a change
of their number then changes what comes in, and nothing of what is there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from .catalog import Endpoint, Key, Limits
from .errors import Headers, RateLimited

TOLERANCE = 1e-6
"""How far sums of fractions may be off."""

_BUSY_SECONDS = 1.0
"""When to come back for a place in flight: nobody knows when one is free."""

_FEW = 64
_PARTS = (b"limit", b"remaining", b"reset")
_REQUESTS = tuple(b"x-ratelimit-%s-requests" % part for part in _PARTS)
_TOKENS = tuple(b"x-ratelimit-%s-tokens" % part for part in _PARTS)


class Scope(NamedTuple):
    """Whose limits these are; `name` is nobody else's, `subject` is what a message calls it."""

    name: str
    subject: str
    limits: Limits


class Standing(NamedTuple):
    """What a scope has used of its three limits; fractions are of what has leaked."""

    scope: Scope
    requests: float
    tokens: float
    in_flight: int


def scopes_of(*parties: Key | Endpoint) -> tuple[Scope, ...]:
    """Return what limits a request with this key, to this endpoint, or both."""
    scopes: tuple[Scope, ...] = ()
    for party in parties:
        if party.limits is not None:
            kind, subject = ("key", "API key") if isinstance(party, Key) else ("endpoint",) * 2
            scopes += (Scope(f"{kind}/{party.qualified_name}", subject, party.limits),)
    return scopes


def decide(standings: Sequence[Standing], *, weight: int = 1) -> list[Standing]:
    """Return how these stand with one more request, for which they all have room.

    Raises RateLimited.
    """
    for standing in standings:
        limits = standing.scope.limits
        if not (
            _fits(standing.requests, limits.requests_per_minute)
            and _fits(standing.tokens, limits.tokens_per_minute)
            and _fits(standing.in_flight, limits.in_flight)
        ):
            raise _refusal(standings)
    return [
        Standing(scope, requests + weight, tokens, in_flight + weight)
        for scope, requests, tokens, in_flight in standings
    ]


def pacing(standings: Sequence[Standing]) -> Headers:
    """Return the headers that tell of the tightest of these limits."""
    requests = [(each.scope.limits.requests_per_minute, each.requests) for each in standings]
    tokens = [(each.scope.limits.tokens_per_minute, each.tokens) for each in standings]
    return _pace(_REQUESTS, requests) + _pace(_TOKENS, tokens)


def leaked(used: float, limit: int | None, *, seconds: float) -> float:
    """Return what is left of this after so long."""
    return max(0.0, used - limit * seconds / 60) if limit else 0.0


def duration(seconds: float) -> bytes:
    """Return a time as OpenAI's headers have it: `20ms`, `1s`, `6m0s`."""
    milliseconds = _milliseconds(seconds)
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds else b"0s"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    text = b"%d" % (milliseconds // 1000)
    if milliseconds % 1000:
        text += (b".%03d" % (milliseconds % 1000)).rstrip(b"0")
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ss" % (hours, minutes, text)
    return b"%dm%ss" % (minutes, text) if minutes else text + b"s"


class Ledger:
    """What one gateway has let through, by scope; forgets those who have nothing left in it."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}
        self._swept_at = _FEW

    def __len__(self) -> int:
        return len(self._meters)

    def admit(self, scopes: Sequence[Scope], *, now: float, weight: int) -> list[Standing]:
        """Take a place, and a request, in each of these or in none; return how they stand then.

        Whoever is admitted is to `settle`, once. Raises RateLimited.
        """
        meters = [self._meter(scope, now) for scope in scopes]
        standings = [
            Standing(scope, meter.requests, meter.tokens, meter.in_flight * weight)
            for scope, meter in zip(scopes, meters, strict=True)
        ]
        taken = decide(standings, weight=weight)
        for meter in meters:
            meter.requests += weight
            meter.in_flight += 1
        return taken

    def settle(self, scopes: Sequence[Scope], *, now: float, weight: int, tokens: int) -> None:
        """Give the places back, and put down the tokens."""
        for scope in scopes:
            meter = self._meter(scope, now)
            meter.in_flight -= 1
            meter.tokens += tokens * weight

    def _meter(self, scope: Scope, now: float) -> "_Meter":
        meter = self._meters.get(scope.name)
        if meter is None:
            if len(self._meters) >= self._swept_at:
                self._sweep(now)
            meter = self._meters[scope.name] = _Meter(scope.limits, now)
        meter.leak(now)
        meter.limits = scope.limits
        return meter

    def _sweep(self, now: float) -> None:
        for meter in self._meters.values():
            meter.leak(now)
        self._meters = {name: meter for name, meter in self._meters.items() if not meter.is_empty}
        self._swept_at = max(_FEW, 2 * len(self._meters))


@dataclass(slots=True)
class _Meter:
    limits: Limits
    at: float
    requests: float = 0.0
    tokens: float = 0.0
    in_flight: int = 0

    @property
    def is_empty(self) -> bool:
        return not (self.requests or self.tokens or self.in_flight)

    def leak(self, now: float) -> None:
        seconds, self.at = now - self.at, now
        self.requests = leaked(self.requests, self.limits.requests_per_minute, seconds=seconds)
        self.tokens = leaked(self.tokens, self.limits.tokens_per_minute, seconds=seconds)


def _fits(used: float, limit: int | None) -> bool:
    return limit is None or used + 1 <= limit + TOLERANCE


def _refusal(standings: Sequence[Standing]) -> RateLimited:
    """Name the limit that takes longest to have room again."""
    seconds, text = max((wait, text) for standing in standings for wait, text in _faults(standing))
    when = duration(seconds).decode()
    return RateLimited(
        f"Rate limit reached for this {text}. Please try again in {when}.",
        retry_milliseconds=_milliseconds(seconds),
        pacing=pacing(standings),
    )


def _faults(standing: Standing) -> Iterable[tuple[float, str]]:
    subject, limits = standing.scope.subject, standing.scope.limits
    for used, limit, unit in (
        (standing.requests, limits.requests_per_minute, "requests per min (RPM)"),
        (standing.tokens, limits.tokens_per_minute, "tokens per min (TPM)"),
    ):
        if limit is not None and not _fits(used, limit):
            text = f"{subject} on {unit}: Limit {limit}, Used {ceil(used - TOLERANCE)}"
            yield (used + 1 - limit) * 60 / limit, text
    if not _fits(standing.in_flight, limits.in_flight):
        yield _BUSY_SECONDS, f"{subject} on requests in flight: Limit {limits.in_flight}"


def _pace(names: Sequence[bytes], uses: Iterable[tuple[int | None, float]]) -> Headers:
    known = [(limit - used, limit) for limit, used in uses if limit is not None]
    if not known:
        return []
    remaining, limit = min(known)
    of_limit, of_remaining, of_reset = names
    return [
        (of_limit, b"%d" % limit),
        (of_remaining, b"%d" % max(0.0, remaining + TOLERANCE)),
        (of_reset, duration((limit - remaining) * 60 / limit)),
    ]


def _milliseconds(seconds: float) -> int:
    return ceil(seconds * 1000 - TOLERANCE)
