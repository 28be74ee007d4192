"""Room for bodies: how much is held at a time, by all requests together and for one owner.

Used by the pipeline before it reads a large body, and by relay before it holds an answer back.
Small bodies take no room: as many as there are connections are bounded already. Who finds none
waits a while, with the body unread, so that it is the client who slows down.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

from .errors import Overloaded

FREE_BYTES = 16384
"""A body of this size takes no room."""

_MOST_WAITING = 256
_MOST_OF_ONE = 64  # so that one owner's leave room for those of others
_PATIENCE_SECONDS = 10.0


class _Waiting(NamedTuple):
    size: int
    answer: asyncio.Future[None]


class Room:
    """Room of `most` bytes, half of it for one owner; a body of the `largest` fits always."""

    def __init__(
        self, most: int, *, largest: int, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self.largest = largest
        self._most = max(most, largest)
        self._share = max(most // 2, largest)
        self._patience_seconds = patience_seconds
        self._taken = 0
        self._taken_by: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._waiters = 0

    @property
    def taken(self) -> int:
        """Return how many bytes are taken."""
        return self._taken

    async def take(self, owner: str, size: int) -> None:
        """Take so many bytes, when there are. Raises Overloaded."""
        if self.take_now(owner, size):
            return
        waiting = self._queue(owner, size)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._patience_seconds, _give_up, waiting.answer)
        try:
            await waiting.answer
        except asyncio.CancelledError:
            if not (waiting.answer.cancelled() or waiting.answer.exception()):
                self.give_back(owner, size)
            raise
        finally:
            timer.cancel()
            self._waiters -= 1
            self._leave(owner, waiting)

    def take_now(self, owner: str, size: int) -> bool:
        """Take so many bytes if nobody waits who could have them; say whether they were taken."""
        if owner in self._waiting or self._is_awaited():
            return False
        return self.take_more(owner, size)

    def take_more(self, owner: str, size: int) -> bool:
        """Take so many bytes though others wait; say whether there were."""
        if not self._fits(owner, size):
            return False
        self._note(owner, size)
        return True

    def give_back(self, owner: str, size: int) -> None:
        """Give so many bytes back."""
        self._note(owner, -size)
        self._serve()

    def _queue(self, owner: str, size: int) -> _Waiting:
        queue = self._waiting.setdefault(owner, deque())
        if self._waiters >= _MOST_WAITING or len(queue) >= _MOST_OF_ONE:
            if not queue:
                del self._waiting[owner]
            raise Overloaded
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        queue.append(waiting)
        self._waiters += 1
        return waiting

    def _leave(self, owner: str, waiting: _Waiting) -> None:
        """Take one that gave up or left out of the way of others."""
        queue = self._waiting.get(owner)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            if not queue:
                del self._waiting[owner]
            self._serve()

    def _fits(self, owner: str, size: int) -> bool:
        return self._is_within_share(owner, size) and self._taken + size <= self._most

    def _is_within_share(self, owner: str, size: int) -> bool:
        return self._taken_by.get(owner, 0) + size <= self._share

    def _is_awaited(self) -> bool:
        """Say whether somebody waits for room that anybody could take."""
        return any(
            self._is_within_share(owner, queue[0].size) for owner, queue in self._waiting.items()
        )

    def _note(self, owner: str, size: int) -> None:
        self._taken += size
        own = self._taken_by.get(owner, 0) + size
        if own:
            self._taken_by[owner] = own
        else:
            self._taken_by.pop(owner, None)

    def _serve(self) -> None:
        """Let in those who fit, owner by owner; who waits for its own share blocks none."""
        while (owner := self._next()) is not None:
            queue = self._waiting.pop(owner)
            size, answer = queue.popleft()
            if not answer.done():
                self._note(owner, size)
                answer.set_result(None)
            if queue:
                self._waiting[owner] = queue  # behind all others

    def _next(self) -> str | None:
        """Return the owner whose turn it is; None while nobody fits, or who comes first waits."""
        for owner, queue in self._waiting.items():
            size, answer = queue[0]
            if answer.done() or self._fits(owner, size):
                return owner
            if self._is_within_share(owner, size):
                return None
        return None


class Place:
    """What one request has of the room; given back at the end of the block, or before.

    `owner` is whose share it is of.
    """

    __slots__ = ("_room", "_size", "owner")

    def __init__(self, room: Room, owner: str = "") -> None:
        self.owner = owner
        self._room = room
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()

    async def take(self, size: int) -> None:
        """Take room for a body of this size, waiting for it. Raises Overloaded."""
        await self._room.take(self.owner, size)
        self._size = size

    def grow(self, size: int, *, yields: bool = True) -> bool:
        """See that there is room for a body that has come to this size; say whether there is.

        One that does not yield to those who wait gives back what it has only when it is whole.
        """
        more = size - self._size
        if size > FREE_BYTES and more > 0:
            take = self._room.take_now if yields else self._room.take_more
            if not take(self.owner, more):
                return False
            self._size = size
        return True

    def give_back(self, *, down_to: int = 0) -> None:
        """Give back what is over so many bytes."""
        if self._size > down_to:
            more, self._size = self._size - down_to, down_to
            self._room.give_back(self.owner, more)


def _give_up(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_exception(Overloaded())
