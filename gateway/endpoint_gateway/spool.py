"""Bodies that may be large: kept in memory at first, and on disk from a size on.

Used by the pipeline for forms, whose files are of no interest to the gateway. What is on disk is
mapped, so that it is sent without being read into memory, and is gone with the request.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from mmap import ACCESS_READ, mmap

from .client import next_piece
from .exchange import Exchange
from .room import Place

MAX_HELD_BYTES = 1 << 20


@contextlib.asynccontextmanager
async def spooled(exchange: Exchange, place: Place, *, limit: int) -> AsyncIterator[bytes | mmap]:
    """Give the request's whole body. Raises as `next_piece` does."""
    with tempfile.SpooledTemporaryFile(max_size=MAX_HELD_BYTES) as file:
        size = 0
        while piece := await next_piece(exchange, place, so_far=size, limit=limit):
            size += len(piece)
            file.write(piece)
        file.flush()
        if size <= MAX_HELD_BYTES:
            file.seek(0)
            yield file.read()
            return
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
        try:
            yield mapped
        finally:
            # an engine's connection that is just being closed may still hold a part of it
            with contextlib.suppress(BufferError):
                mapped.close()
