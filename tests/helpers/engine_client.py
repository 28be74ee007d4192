"""What the tests of our HTTP client share: a pool, patience, and a request to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from endpoint_gateway.patience import Patience
from endpoint_gateway.pool import Pool
from endpoint_gateway.upstream import Connection as Upstream
from endpoint_gateway.upstream import Limits
from helpers.fake_vllm import Connection, Script

DEFAULT = Limits()
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
REQUEST = [b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"]


@asynccontextmanager
async def pool_of(limits: Limits = DEFAULT) -> AsyncIterator[Pool]:
    """Give a pool that is closed in the end."""
    pool = Pool(limits)
    try:
        yield pool
    finally:
        pool.close()


def patience(
    total: float = 5.0, first_byte: float | None = None, idle: float | None = None
) -> Patience:
    """Return limits that begin now."""
    now = asyncio.get_running_loop().time()
    return Patience(now + total, first_byte, idle, began=now)


async def read(connection: Upstream) -> bytes:
    """Read a whole body and give the connection back."""
    pieces = []
    try:
        while piece := await connection.read():
            pieces.append(piece)
    finally:
        connection.release()
    return b"".join(pieces)


def sending(*pieces: bytes, close: bool = False) -> Script:
    """Send these pieces after the first request, and no more."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(*pieces)
        if close:
            connection.writer.close()
        await connection.hung_up()

    return script
