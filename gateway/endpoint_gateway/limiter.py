"""Admits requests within the limits of their key and their endpoint, and takes their tokens.

Called by the pipeline, once per request. Counts by itself, each gateway its share, unless the
gateways share their counts. Refuses nothing because of what it counts with: while the shared
counts are away, this gateway's own go on.
"""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from .catalog import Endpoint, Key
from .errors import Headers, SharedLimitsAway
from .limits import Ledger, Scope, Standing, pacing, scopes_of


class Shared(Protocol):
    """Counts that all gateways have together."""

    async def admit(self, scopes: Sequence[Scope]) -> tuple[Sequence[Standing], str]:
        """Return how these stand with the request, and what to settle with.

        Raises RateLimited, SharedLimitsAway.
        """

    def settle(self, scopes: Sequence[Scope], holder: str, *, tokens: int) -> None:
        """Give the places back and put down the tokens, soon."""


class Limiter:
    """Admits requests. `gateways` gives how many gateways there are, at least 1."""

    def __init__(self, *, gateways: Callable[[], int], shared: Shared | None = None) -> None:
        self._gateways = gateways
        self._shared = shared
        self._ledger = Ledger()

    def admit(self, *parties: Key | Endpoint) -> "Admission":
        """Return an admission to be entered, which raises RateLimited where there is no room."""
        return Admission(self, scopes_of(*parties))

    async def take(self, scopes: Sequence[Scope]) -> tuple[Sequence[Standing], str | None]:
        """Take places and a request in all of these or in none. Raises RateLimited.

        Returns how they stand, and who counts what was taken: None is this gateway alone.
        """
        if self._shared is not None:
            try:
                return await self._shared.admit(scopes)
            except SharedLimitsAway:
                pass
        now = asyncio.get_running_loop().time()
        return self._ledger.admit(scopes, now=now, weight=self._gateways()), None

    def settle(self, scopes: Sequence[Scope], holder: str | None, *, tokens: int) -> None:
        """Give the places back and put down the tokens."""
        if holder is not None and self._shared is not None:
            self._shared.settle(scopes, holder, tokens=tokens)
            return
        now = asyncio.get_running_loop().time()
        self._ledger.settle(scopes, now=now, weight=self._gateways(), tokens=tokens)


class Admission:
    """A request's places, for as long as it lasts; `headers` tell the client of its limits."""

    __slots__ = ("_limiter", "_scopes", "_standings", "_taken", "_tokens", "headers")

    def __init__(self, limiter: Limiter, scopes: Sequence[Scope]) -> None:
        self.headers: Headers = []
        self._limiter = limiter
        self._scopes = scopes
        self._standings: list[Standing] = []
        self._taken: list[tuple[Sequence[Scope], str | None]] = []
        self._tokens = 0

    async def __aenter__(self) -> "Admission":
        if self._scopes:
            await self._take(self._scopes)
        return self

    async def also(self, *parties: Key | Endpoint) -> None:
        """Take a place of these too, as a request does that had to wait for its endpoint.

        Raises RateLimited; what was taken before stays until the end.
        """
        if scopes := scopes_of(*parties):
            await self._take(scopes)

    async def _take(self, scopes: Sequence[Scope]) -> None:
        standings, holder = await self._limiter.take(scopes)
        self._taken.append((scopes, holder))
        self._standings += standings
        self.headers = pacing(self._standings)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for scopes, holder in self._taken:
            self._limiter.settle(scopes, holder, tokens=self._tokens)

    def spend(self, tokens: int) -> None:
        """Take so many tokens; they count from the end of the request on."""
        self._tokens += tokens
