"""Listens, knows every connection and every request, and ends in order.

Made by app, once for the API and once for the page of metrics. What a connection does is inbound's.
"""

import asyncio
import contextlib
from collections.abc import Coroutine

from .errors import CannotListen
from .inbound import ClientConnection, Handler, Limits

_BACKLOG = 2048
_LAST_WORDS_SECONDS = 1.0


class Server:
    """Serves one port, on every address by IPv4 and IPv6 as far as there is either.

    `drain_seconds` is how long requests may go on once it is told to end.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        port: int,
        host: str | None = None,
        limits: Limits | None = None,
        drain_seconds: float = 1.0,
    ) -> None:
        self.handler = handler
        self.ending = False
        self.connections: set[ClientConnection] = set()
        self._host = host
        self._port = port
        self._limits = limits or Limits()
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = asyncio.Event()
        self._over = asyncio.Event()
        self._listener: asyncio.Server | None = None

    # -- for connections ----------------------------------------------------------------------

    def opened(self, connection: ClientConnection) -> None:
        """Take note of a connection."""
        self.connections.add(connection)
        if self.ending:
            connection.retire()

    def closed(self, connection: ClientConnection) -> None:
        """Take note that a connection is no more."""
        self.connections.discard(connection)
        if self.ending and not self.connections:
            self._over.set()

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
