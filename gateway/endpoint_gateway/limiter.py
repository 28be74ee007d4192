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
from .limits import Ledger, Scope, scopes_of


class Admission:
    """A request's place, for as long as it lasts; one without limits has nothing to do.

    `headers` tell the client of its limits.
    """

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    async def __aenter__(self) -> "Admission":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def spend(self, tokens: int) -> None:
        """Take so many tokens; they count from the end of the request on."""


class Shared(Protocol):
    """Counts that all gateways have together."""

    async def admit(self, scopes: Sequence[Scope]) -> tuple[Headers, str]:
        """Return the headers, and what to settle with. Raises RateLimited, SharedLimitsAway."""

    def settle(self, scopes: Sequence[Scope], holder: str, *, tokens: int) -> None:
        """Give the places back and put down the tokens, soon."""


_FREE = Admission()


class Limiter:
    """Admits requests. `gateways` gives how many gateways there are, at least 1."""

    def __init__(self, *, gateways: Callable[[], int], shared: Shared | None = None) -> None:
        self._gateways = gateways
        self._shared = shared
        self._ledger = Ledger()

    def admit(self, key: Key, endpoint: Endpoint) -> Admission:
        """Return an admission to be entered, which raises RateLimited where there is no room."""
        if key.limits is None and endpoint.limits is None:
            return _FREE
        return _Limited(self, scopes_of(key, endpoint))

    async def take(self, scopes: Sequence[Scope]) -> tuple[Headers, str | None]:
        """Take places and a request in all of these or in none. Raises RateLimited.

        Returns headers, and who counts what was taken: None is this gateway alone.
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


class _Limited(Admission):
    __slots__ = ("_holder", "_limiter", "_scopes", "_tokens")

    def __init__(self, limiter: Limiter, scopes: Sequence[Scope]) -> None:
        super().__init__()
        self._limiter = limiter
        self._scopes = scopes
        self._tokens = 0

    async def __aenter__(self) -> Admission:
        self.headers, self._holder = await self._limiter.take(self._scopes)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._limiter.settle(self._scopes, self._holder, tokens=self._tokens)

    def spend(self, tokens: int) -> None:
        """Take so many tokens; they count from the end of the request on."""
        self._tokens += tokens
