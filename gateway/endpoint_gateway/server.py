"""Listens, knows every connection and every request, and ends in order.

Made by app, once for the API and once for the page of metrics. What a connection does is inbound's.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Coroutine, Iterable

from .errors import CannotListen
from .inbound import ClientConnection, Handler, Limits

_BACKLOG = 2048
_LAST_WORDS_SECONDS = 1.0
# where all connections are at work, others are turned away for so long without a look at each
_FULL_SECONDS = 0.1


class Server:
    """Serves one port, on every address by IPv4 and IPv6 as far as there is either.

    `drain_seconds` is how long requests may go on once it is told to end. Of more than
    `max_connections` connections those are ended on which nothing was asked for longest, then those
    whose requests take longest to come: whoever opens them without end takes no place from those
    who ask. `on_refusal` is called with the status of each answer to what was no request.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        port: int,
        host: str | None = None,
        limits: Limits | None = None,
        max_connections: int = 20000,
        drain_seconds: float = 1.0,
    ) -> None:
        self.handler = handler
        self.ending = False
        self.on_refusal: Callable[[int], None] | None = None
        self.connections: set[ClientConnection] = set()
        self._host = host
        self._port = port
        self._limits = limits or Limits()
        self._max_connections = max_connections
        self._held_head_bytes = 0
        self._full_until = 0.0
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = asyncio.Event()
        self._over = asyncio.Event()
        self._listener: asyncio.Server | None = None

    # -- for connections ----------------------------------------------------------------------

    def opened(self, connection: ClientConnection) -> None:
        """Take note of a connection; end it if all that there may be are in use."""
        if len(self.connections) >= self._max_connections and not self._make_room():
            connection.abort()
        else:
            self.connections.add(connection)
        if self.ending:
            connection.retire()

    def closed(self, connection: ClientConnection) -> None:
        """Take note that a connection is no more."""
        self.connections.discard(connection)
        if self.ending and not self.connections:
            self._over.set()

    def hold(self, more: int) -> None:
        """Take note of so many more bytes of heads that are not whole."""
        self._held_head_bytes += more
        if self._held_head_bytes > self._limits.all_heads_bytes and more > 0:
            holding = [each for each in self.connections if each.held]
            self._end_some(heapq.nlargest(self._some, holding, key=lambda each: each.held))

    def _make_room(self) -> bool:
        """End connections that are unused for longest, or else whose requests take longest to come.

        Say whether there was one.
        """
        if self._loop.time() < self._full_until:
            return False
        spare = [each for each in self.connections if each.unused]
        spare = spare or [each for each in self.connections if each.incomplete]
        if not spare:
            self._full_until = self._loop.time() + _FULL_SECONDS
        self._end_some(heapq.nsmallest(self._some, spare, key=lambda each: each.since))
        return bool(spare)

    @property
    def _some(self) -> int:
        """How many connections are ended at once, since each time all of them are looked at."""
        return 1 + len(self.connections) // 100

    def _end_some(self, connections: Iterable[ClientConnection]) -> None:
        for each in connections:
            # at once: it is still there for a moment, and more may be opened meanwhile
            self.connections.discard(each)
            each.abort()

    def refused(self, status: int) -> None:
        """Take note that what came was no request, and was answered with this."""
        if self.on_refusal is not None:
            self.on_refusal(status)

    def run(self, answer: Coroutine[object, object, None]) -> None:
        """Have a request answered."""
        task = self._loop.create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- from beginning to end ----------------------------------------------------------------

    async def listen(self) -> tuple[str, int]:
        """Take connections from now on; return the first address. Raises CannotListen."""
        try:
            self._listener = await self._loop.create_server(
                lambda: ClientConnection(self, self._limits),
                self._host,
                self._port,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise CannotListen(self._port, reason=error.strerror or str(error)) from error
        host, port, *_ = self._listener.sockets[0].getsockname()
        return host, port

    def end(self, *, at_once: bool = False) -> None:
        """Take no more connections, and end when those that are here have."""
        self._end.set()
        if at_once:
            self._over.set()

    async def serve(self) -> None:
        """Go on until told to end."""
        await self._end.wait()
        await self.close()

    async def close(self) -> None:
        """Let requests finish for as long as is configured; then end them, and see that they do."""
        self.ending = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.retire()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain_seconds):
                    await self._over.wait()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # the time to say so to their clients
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_SECONDS)
        for connection in list(self.connections):
            connection.abort()
