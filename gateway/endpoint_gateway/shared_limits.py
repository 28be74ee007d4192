"""Limits that all gateways count together, in a Redis or Valkey.

Used by limiter where a server is configured; only then is redis-py imported. What has come up while
one round trip was under way goes into the next: requests that want to be admitted, and what others
have used and give back. What is decided, `limits.lua` decides, by the server's clock, in one go.

No request fails because of the server, and none waits for it longer than two round trips may take:
while it is away `SharedLimitsAway` is raised at once. Places in flight belong to a holder, which is
this gateway as long as it is heard of every few seconds. Whatever goes wrong, it calls itself by
another name from then on, so that places of which nobody knows whether they were taken end with
the lease of the old one.
"""

import asyncio
import contextlib
import logging
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

from .catalog import Limits
from .errors import RateLimited, SharedLimitsAway
from .limits import Scope, Standing, decide

logger = logging.getLogger(__name__)

LEASE_SECONDS = 12.0
"""How long the places of a gateway are kept that is not heard of any more."""

_TRIP_SECONDS = 0.125
_CONNECT_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_MOST_AT_ONCE = 200
_ABSURD = 1e20  # more than our script ever says, and no time that can be told

_SCRIPT = Path(__file__).with_name("limits.lua").read_text()
_FAULTS = (RedisError, OSError, TimeoutError)
# what redis-py (8.1) fails with where an answer is not the protocol's
_GARBLED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)

Taken = tuple[list[Standing], str]


class Address(NamedTuple):
    """Where the Redis or Valkey is.

    `ca_file` has the certificates (PEM) that its own is checked with; without it the system's do.
    """

    url: str
    password: str | None = None
    ca_file: str = ""


class _Waiting(NamedTuple):
    scopes: Sequence[Scope]
    answer: asyncio.Future[Taken]
    since: float


@dataclass(slots=True)
class _Spent:
    scope: Scope
    tokens: int = 0
    places: int = 0


class SharedLimits:
    """What gateways count together; it lives inside an `async with`, which a bug of ours ends.

    `prefix` is what all gateways that count together have in common, and no others. `on_change` is
    told whether the server can be had.
    """

    def __init__(
        self,
        address: Address,
        *,
        prefix: str,
        on_change: Callable[[bool], None],
        trip_seconds: float = _TRIP_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        # an option that redis-py has for connections with TLS alone
        with_tls = address.url.startswith("rediss:") and address.ca_file
        trusted: dict[str, Any] = {"ssl_ca_certs": address.ca_file} if with_tls else {}
        self._redis = Redis.from_url(
            address.url,
            **trusted,
            password=address.password,
            max_connections=1,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=trip_seconds,
            socket_connect_timeout=_CONNECT_SECONDS,
        )
        self._script = self._redis.register_script(_SCRIPT)
        # braces: all of them are in one slot, where a server wants that of a script's keys
        self._prefix = "{vllm-endpoints/" + prefix + "}:"
        self._on_change = on_change
        self._trip_seconds = trip_seconds
        self._lease_seconds = lease_seconds
        self._up: bool | None = None
        self._waiting: list[_Waiting] = []
        self._under_way: list[_Waiting] = []
        self._spent: dict[str, _Spent] = {}
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._holder = secrets.token_hex(8)
        self._renewed = -inf

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._group.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # not by cancelling alone: redis-py (8.1) was seen to swallow that
        self._ending.set()
        self._wake.set()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            with contextlib.suppress(*_FAULTS):
                await self._redis.aclose()

    async def admit(self, scopes: Sequence[Scope]) -> tuple[list[Standing], str]:
        """Take a place and a request in each of these or in none; return how they stand then.

        With it comes the holder of the places.

        Whoever is admitted is to `settle`, once. Raises RateLimited and SharedLimitsAway.
        """
        if not self._up:
            raise SharedLimitsAway
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Taken] = loop.create_future()
        self._waiting.append(_Waiting(scopes, answer, loop.time()))
        self._wake.set()
        try:
            standings, holder = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(partial(self._give_back_unused, scopes))
            raise
        return decide(standings), holder

    def settle(self, scopes: Sequence[Scope], holder: str, *, tokens: int) -> None:
        """Give the holder's places back and put down the tokens, with the next round trip."""
        for scope in scopes:
            spent = self._spent.setdefault(scope.name, _Spent(scope))
            spent.tokens += tokens
            spent.places += holder == self._holder
        self._wake.set()

    def _give_back_unused(self, scopes: Sequence[Scope], answer: asyncio.Future[Taken]) -> None:
        if answer.exception() is None:
            standings, holder = answer.result()
            with contextlib.suppress(RateLimited):
                decide(standings)
                self.settle(scopes, holder, tokens=0)

    # -- round trips --------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    await self._go_on()
                except _FAULTS as error:
                    self._lose(error)
                    await _wait(self._ending, _PAUSE_SECONDS)
        finally:
            self._up = False
            self._refuse_all()

    async def _go_on(self) -> None:
        """Make one round trip after the other, until one fails, or all is told at the end.

        To connect takes several of them, and nobody waits meanwhile.
        """
        async with asyncio.timeout(_CONNECT_SECONDS):
            with _understood():
                await self._redis.script_load(_SCRIPT)
        while True:
            await self._trip()
            if not self._up:
                self._regain()
            if self._ending.is_set() and not self._wake.is_set():
                return
            await _wait(self._wake, self._lease_seconds / 3)

    async def _trip(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed > self._lease_seconds:
            self._change_name()
        self._renewed = now
        self._refuse_those_of(now - self._trip_seconds)
        self._under_way, self._waiting = (
            self._waiting[:_MOST_AT_ONCE],
            self._waiting[_MOST_AT_ONCE:],
        )
        spent, self._spent = self._spent, {}
        if not self._waiting:
            self._wake.clear()
        scopes = {name: each.scope for name, each in spent.items()}
        scopes |= {scope.name: scope for each in self._under_way for scope in each.scopes}
        async with asyncio.timeout(self._trip_seconds):
            answer = await self._ask(scopes, spent)
        numbers = iter(_numbers(answer, sum(len(each.scopes) for each in self._under_way)))
        for waiting in self._under_way:
            # with the limits that the script decided by, which may have changed since it was asked
            standings = [
                Standing(scopes[scope.name], next(numbers), next(numbers), int(next(numbers)))
                for scope in waiting.scopes
            ]
            waiting.answer.set_result((standings, self._holder))
        self._under_way = []

    async def _ask(self, scopes: dict[str, Scope], spent: dict[str, _Spent]) -> Any:
        numbers = {name: number for number, name in enumerate(scopes, 1)}
        nothing = _Spent(Scope("", "", Limits()))
        told = [spent.get(name, nothing) for name in scopes]
        ask = {
            "holder": self._holder,
            "lease": self._lease_seconds,
            "limits": [[each or 0 for each in astuple(scope.limits)] for scope in scopes.values()],
            "spent": [[each.tokens, each.places] for each in told],
            "wanted": [[numbers[scope.name] for scope in each.scopes] for each in self._under_way],
        }
        keys = [self._prefix + name for name in ("gateways", *scopes)]
        text = msgspec.json.encode(ask)
        with _understood():
            return await self._script(keys=keys, args=[text])

    def _change_name(self) -> None:
        self._holder = secrets.token_hex(8)
        for spent in self._spent.values():
            spent.places = 0

    def _lose(self, error: Exception) -> None:
        self._change_name()
        self._refuse_all()
        if self._up is not False:
            self._up = False
            self._on_change(self._up)
            logger.warning(
                "the server for shared limits is away (%s: %s); each gateway counts by itself",
                type(error).__name__,
                error,
            )

    def _regain(self) -> None:
        if self._up is False:
            logger.warning("the server for shared limits is back")
        self._up = True
        self._on_change(self._up)

    def _refuse_those_of(self, time: float) -> None:
        """Let those go on without us that wait since then: more come up than a server takes."""
        late = bisect_right(self._waiting, time, key=lambda each: each.since)
        _refuse(self._waiting[:late])
        del self._waiting[:late]

    def _refuse_all(self) -> None:
        _refuse([*self._under_way, *self._waiting])
        self._under_way, self._waiting = [], []


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Turn what redis-py raises over an answer that it can't read into a fault of the server's."""
    try:
        yield
    except _GARBLED as error:
        raise InvalidResponse(f"its answer can't be read: {error}") from error


def _numbers(answer: Any, standings: int) -> list[float]:
    """Return what the script said of so many standings. Raises InvalidResponse."""
    try:
        numbers = [float(each) for each in answer]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidResponse("the script's answer is of no use") from error
    if len(numbers) != 3 * standings or not all(abs(each) < _ABSURD for each in numbers):
        raise InvalidResponse("the script's answer is of no use")
    return numbers


def _refuse(waiting: Iterable[_Waiting]) -> None:
    for each in waiting:
        each.answer.set_exception(SharedLimitsAway())


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
