"""Connections to engines: opened when needed, kept while they are idle, closed when too old.

Called by dispatch; the only module that opens connections to engines.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from .catalog import Replica
from .errors import ConnectFailed, ConnectionLost, EngineGone
from .patience import Patience
from .upstream import Connection, Limits

LookUp = Callable[[str, int], Coroutine[Any, Any, Sequence[str]]]
"""How the addresses of a name are found. Raises OSError."""


def _unheard() -> None:
    """For those who don't ask whether the engine was reached."""


class Pool:
    """Connections to engines: opens them, keeps those that are idle, and closes what is too old.

    A name is looked up once at a time, however many want to connect: look-ups that hang take
    places of which there are few, and of which the other names need one.
    """

    def __init__(self, limits: Limits, *, look_up: LookUp | None = None) -> None:
        self._limits = limits
        self._look_up = look_up or _look_up
        self._lookups: dict[Replica, asyncio.Task[Sequence[str]]] = {}
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[Replica, list[Connection]] = defaultdict(list)
        self._sweeper: asyncio.TimerHandle | None = None

    async def request(
        self,
        replica: Replica,
        request: Sequence[bytes | memoryview],
        patience: Patience,
        *,
        reached: Callable[[], None] = _unheard,
    ) -> Connection:
        """Send a request and return its connection once the answer's head is there.

        The caller gives the connection back with `release`. `reached` is called as soon as it is
        certain that the engine is there. Raises BackendFailed and BackendTimeout, and then there
        is nothing to give back.

        A kept connection that dies at once under a request was most likely closed by the engine
        while the request was on its way (RFC 9112, 9.3.1): it is sent once more, on a new one. If
        there is no new one to be had the request may be what ended the engine: EngineGone.
        """
        kept = self._take_idle(replica)
        if kept is not None:
            asked_at = self._loop.time()
            try:
                await kept.ask(request, patience)
            except ConnectionLost as lost:
                if (
                    not lost.untouched
                    or self._loop.time() - asked_at >= self._limits.resend_seconds
                ):
                    raise
            else:
                reached()
                return kept
        try:
            connection = await self._connect(replica, patience)
        except ConnectFailed as error:
            if kept is None:
                raise
            raise EngineGone("The model's engine ended while it had this request.") from error
        reached()
        await connection.ask(request, patience)
        return connection

    async def _connect(self, replica: Replica, patience: Patience) -> Connection:
        limit = self._loop.time() + (patience.connect_seconds or self._limits.connect_seconds)
        due = patience.due(None)
        try:
            async with asyncio.timeout_at(min(limit, due)):
                connection = await self._open(replica)
        except (OSError, UnicodeError) as error:  # the one a TimeoutError, the other of no name
            if isinstance(error, TimeoutError) and due <= limit:
                raise patience.verdict(None) from error
            failed = ConnectFailed("The model's engine could not be reached.")
            # code that mypyc compiled forgets what is after `from`, and this is logged
            failed.__cause__ = error
            raise failed from error
        return connection

    async def _open(self, replica: Replica) -> Connection:
        """Connect to the first address that lets us. Raises OSError."""
        failure = OSError("the name has no address")
        for address in await self._addresses(replica):
            try:
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, replica, limits=self._limits), address, replica.port
                )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure

    async def _addresses(self, replica: Replica) -> Sequence[str]:
        if _is_address(replica.host):
            return (replica.host,)
        if replica not in self._lookups:
            task = self._loop.create_task(self._look_up(*replica))
            self._lookups[replica] = task
            task.add_done_callback(lambda _: self._lookups.pop(replica))
        return await asyncio.shield(self._lookups[replica])

    def _take_idle(self, replica: Replica) -> Connection | None:
        idle = self._idle.get(replica)
        oldest = self._loop.time() - self._limits.idle_seconds
        while idle:
            connection = idle.pop()
            if connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def put_back(self, connection: Connection) -> None:
        """Keep a connection whose request is over (Connection calls this)."""
        idle = self._idle[connection.replica]
        if len(idle) >= self._limits.idle_connections:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._limits.idle_seconds, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that was closed while it was idle (Connection calls this)."""
        idle = self._idle.get(connection.replica)
        if idle and connection in idle:
            idle.remove(connection)

    def _sweep(self) -> None:
        """Close what has been idle for too long, and the memory of replicas without any."""
        oldest = self._loop.time() - self._limits.idle_seconds
        kept: defaultdict[Replica, list[Connection]] = defaultdict(list)
        for replica, connections in self._idle.items():
            for connection in connections:
                if connection.idle_since >= oldest:
                    kept[replica].append(connection)
                else:
                    connection.abort()
        self._idle = kept
        self._sweeper = (
            self._loop.call_later(self._limits.idle_seconds, self._sweep) if kept else None
        )

    def close(self) -> None:
        """Close all idle connections; those with a request on them close with it."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()


async def _look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@lru_cache(maxsize=4096)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
