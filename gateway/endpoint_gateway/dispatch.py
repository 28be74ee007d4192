"""From an endpoint to an answer that has begun: lease a replica, ask, and ask another if need be.

Called by the pipeline as `async with dispatcher.open(...)`, whose end gives lease and connection
back, whatever happened. Retries happen only here, only before a byte of an answer went to the
client, and within one deadline: where nothing was sent (connect errors) or the engine said that it
did not take the request (502, 503, and the 500 of a vLLM that drains). An engine that does not
take our key (401, before it does anything) is asked again with each other one that it may have. A
connection that dies after the request was sent is not retried on another replica: a prompt that
kills an engine must not be handed to all of them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from .balancer import Balancer, Lease
from .catalog import Endpoint, Replica
from .errors import (
    BackendFailed,
    BackendTimeout,
    ConnectFailed,
    EngineGone,
    GatewayError,
    NoReplica,
)
from .metrics import Metrics
from .patience import Patience
from .record import Record
from .request import Request, authority, render
from .upstream import Connection, Sink

logger = logging.getLogger(__name__)

MAX_REFUSALS = 5
"""How many replicas may refuse a request; those that can't be reached don't count."""

_MAX_ERROR_BYTES = 65536
# below which vLLM wants its key; elsewhere it takes any
_GUARDED = "/v1/"
_RETRIED = frozenset({500, 502, 503})
# vLLM 0.32 while it drains (--shutdown-timeout); its /health stays 200 all the while
_DRAINING = b"cannot schedule new futures after shutdown"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits on time, in seconds. First byte and idle are for streams only.

    `error` is how long the body of an error is waited for.
    """

    first_byte: float
    idle: float
    total: float
    error: float = 1.0


class Pool(Protocol):
    """Where connections to engines are from."""

    async def request(
        self,
        replica: Replica,
        request: Sequence[bytes | memoryview],
        patience: Patience,
        *,
        reached: Callable[[], None],
    ) -> Connection:
        """Send a request and return its connection once the answer's head is there.

        `reached` is called as soon as it is certain that the engine is there. Raises BackendFailed
        and BackendTimeout.
        """


class Answer:
    """An answer whose head is there.

    The body of an error is what comes of it within `error_seconds` of its head: one that stalls or
    breaks off ends there, since the status says enough.
    """

    __slots__ = ("_connection", "_early", "_error_deadline", "headers", "status")

    def __init__(self, connection: Connection, *, error_seconds: float) -> None:
        self._connection = connection
        self._early = b""
        self.status = connection.status
        self.headers = connection.headers
        if self.status >= 400:
            self._error_deadline = asyncio.get_running_loop().time() + error_seconds

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end. Raises as Connection.read does."""
        early, self._early = self._early, b""
        return early or await self._read_on()

    async def pump(self, sink: Sink) -> None:
        """Hand the rest of a good answer's body to this sink. Raises as Connection.pump does."""
        await self._connection.pump(sink)

    def finish(self) -> None:
        """Take note that the body has nothing more to say, whether or not its end is here."""
        self._connection.finish()

    async def begin(self, size: int) -> bytes:
        """Return the beginning of the body, about `size` bytes of it; it is still to be read."""
        while len(self._early) < size and (piece := await self._read_on()):
            self._early += piece
        return self._early

    async def _read_on(self) -> bytes:
        if self.status < 400:
            return await self._connection.read()
        try:
            async with asyncio.timeout_at(self._error_deadline):
                return await self._connection.read()
        except (TimeoutError, BackendFailed):
            return b""


class Dispatcher:
    """Asks the replicas of an endpoint."""

    def __init__(
        self, *, balancer: Balancer, pool: Pool, timeouts: Timeouts, metrics: Metrics
    ) -> None:
        self._balancer = balancer
        self._pool = pool
        self._timeouts = timeouts
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    def open(self, endpoint: Endpoint, request: Request, record: Record) -> "Attempts":
        """Return the context whose beginning is an Answer and whose end gives all back.

        Entering raises NoReplica, BackendFailed or BackendTimeout.
        """
        return Attempts(self, endpoint, request, record=record)

    def patience(self, endpoint: Endpoint, request: Request) -> Patience:
        """Return the limits of a request that begins now."""
        own, ours = endpoint.timeouts, self._timeouts
        now = self._loop.time()
        deadline = now + (own.total or ours.total)
        first_byte = idle = None
        if request.stream:
            first_byte, idle = own.first_byte or ours.first_byte, own.idle or ours.idle
        return Patience(deadline, first_byte, idle, began=now, connect_seconds=own.connect)

    def lease(self, endpoint: Endpoint, request: Request, *, without: set[Replica]) -> Lease | None:
        """Take a place at a replica that was not tried yet."""
        now, affinity = self._loop.time(), request.affinity
        return self._balancer.lease(endpoint.replicas, without=without, now=now, affinity=affinity)

    async def ask(
        self, lease: Lease, request: list[bytes | memoryview], patience: Patience
    ) -> Connection:
        """Send the request to the leased replica. Raises as Pool.request does."""
        try:
            return await self._pool.request(lease.replica, request, patience, reached=lease.reached)
        except (ConnectFailed, EngineGone) as error:
            if lease.unreachable(self._loop.time()):
                logger.warning(
                    "%s can't be reached: %r", authority(lease.replica), error.__cause__ or error
                )
            raise

    def answer(self, connection: Connection) -> Answer:
        """Return the answer that has begun on this connection."""
        return Answer(connection, error_seconds=self._timeouts.error)

    def note_failure(self, endpoint: Endpoint, reason: str) -> None:
        """Count an attempt that failed."""
        self._metrics.upstream_error(endpoint.qualified_name, reason)

    def note_retry(self, endpoint: Endpoint) -> None:
        """Count an attempt that is made again."""
        self._metrics.retry(endpoint.qualified_name)


class Attempts:
    """The attempts at one request; holds at most one lease and one connection at a time."""

    def __init__(
        self, dispatcher: Dispatcher, endpoint: Endpoint, request: Request, *, record: Record
    ) -> None:
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._request = request
        self._record = record
        self._tried: set[Replica] = set()
        self._refusals = 0
        self._lease: Lease | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> Answer:
        try:
            return await self._first_good_answer()
        except BaseException:
            self._give_back()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    async def _first_good_answer(self) -> Answer:
        patience = self._dispatcher.patience(self._endpoint, self._request)
        failure: GatewayError | None = None
        while self._lease_another():
            try:
                answer = await self._introduced(patience)
                if answer.status not in _RETRIED or not await self._is_refusal(answer):
                    return answer
            except ConnectFailed as error:
                failure = error
                self._give_back(failed="connect")
                continue
            except GatewayError as error:
                timed_out = isinstance(error, BackendTimeout)
                self._dispatcher.note_failure(
                    self._endpoint, "timeout" if timed_out else "connection"
                )
                raise
            self._give_back()
        raise failure or NoReplica("No replica of this endpoint is ready. Try again later.")

    def _lease_another(self) -> bool:
        lease = self._dispatcher.lease(self._endpoint, self._request, without=self._tried)
        if lease is None:
            return False
        if self._record.attempts:
            self._dispatcher.note_retry(self._endpoint)
        self._record.attempts += 1
        self._tried.add(lease.replica)
        self._lease = lease
        return True

    async def _is_refusal(self, answer: Answer) -> bool:
        """Say whether this is a refusal that another replica may not give.

        Raises NoReplica where the replica drains and there is no other.
        """
        # the other two say by themselves that the request was not taken
        draining = answer.status == 500 and _DRAINING in await answer.begin(_MAX_ERROR_BYTES)
        if answer.status == 500 and not draining:
            return False
        self._refusals += 1
        reason = "draining" if draining else str(answer.status)
        self._dispatcher.note_failure(self._endpoint, reason)
        if draining and not self._can_retry():
            raise NoReplica("The only replica of this endpoint is shutting down. Try again later.")
        return self._can_retry()

    async def _introduced(self, patience: Patience) -> Answer:
        """Ask the leased replica, with one key after the other until it takes one."""
        assert self._lease is not None  # noqa: S101 - _lease_another went before
        candidates = self._lease.credentials(self._endpoint.authorizations)
        for number, credential in enumerate(candidates, 1):
            sent = render(self._request, self._lease.replica, credential)
            self._connection = connection = await self._dispatcher.ask(self._lease, sent, patience)
            if connection.status != 401 or number == len(candidates):
                break
            self._dispatcher.note_failure(self._endpoint, "401")
            self._dispatcher.note_retry(self._endpoint)
            self._connection = None
            connection.release()
        if connection.status != 401:
            if number > 1 or self._request.path.startswith(_GUARDED):
                self._lease.taken(credential)
        elif self._lease.refused():
            replica, name = authority(self._lease.replica), self._endpoint.qualified_name
            logger.warning("the engine of %s at %s refuses the gateway's key", name, replica)
        return self._dispatcher.answer(connection)

    def _can_retry(self) -> bool:
        others = any(replica not in self._tried for replica in self._endpoint.replicas)
        return others and self._refusals < MAX_REFUSALS

    def _give_back(self, *, failed: str | None = None) -> None:
        if failed is not None:
            self._dispatcher.note_failure(self._endpoint, failed)
        if self._connection is not None:
            self._connection.release()
            self._connection = None
        if self._lease is not None:
            self._lease.release()
            self._lease = None
