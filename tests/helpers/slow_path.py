"""A way to a server on which every answer takes its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def slow_path(port: int, seconds: float) -> AsyncIterator[int]:
    """Give a port that leads to that one of this machine, by answers that come so much later."""
    under_way = set[asyncio.Task[None]]()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        under_way.add(asyncio.create_task(_pass_on(reader, to_server, seconds=0)))
        under_way.add(asyncio.create_task(_pass_on(from_server, writer, seconds=seconds)))

    async with await asyncio.start_server(lead, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            await asyncio.gather(*under_way)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, seconds: float
) -> None:
    """Do so until there is nothing more, of which the other side is told."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            await asyncio.sleep(seconds)
            writer.write(data)
    writer.close()
