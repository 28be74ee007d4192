"""A queue of things to look at, with the semantics of client-go's.

Handlers add, workers take. A key waits at most once however often it is added; a key that is added
while a worker has it comes back when that worker is done, so no two workers ever hold the same key
and no change is missed. Failed keys come back after growing, scattered pauses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

Key = TypeVar("Key")

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 300.0


class Timer(Protocol):
    """A call that will happen, unless cancelled."""

    def cancel(self) -> None:
        """Make it not happen."""


Later = Callable[[float, Callable[[], None]], Timer]


def on_the_loop(seconds: float, call: Callable[[], None]) -> Timer:
    """Call a function after some seconds of the running event loop."""
    return asyncio.get_running_loop().call_later(seconds, call)


class WorkQueue(Generic[Key]):
    """Keys to work on; ``later`` is the clock and ``scatter`` the dice, both for tests to set."""

    def __init__(
        self, *, later: Later = on_the_loop, scatter: Callable[[], float] = random.random
    ) -> None:
        self._later = later
        self._scatter = scatter
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._wanted: set[Key] = set()
        self._held: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, Timer] = {}

    def add(self, key: Key) -> None:
        """Have a key worked on, once, as soon as possible."""
        if key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._held:
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key worked on after some seconds; a later call replaces an earlier one."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = self._later(seconds, lambda: self._due(key))

    def retry(
        self,
        key: Key,
        *,
        first: float = FIRST_PAUSE_SECONDS,
        at_least: float = 0,
        at_most: float = LONGEST_PAUSE_SECONDS,
    ) -> float:
        """Have a failed key worked on again; return after how many seconds that will be.

        ``at_most`` limits how far pauses grow, not what ``at_least`` asks for.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(first * 2.0 ** min(failures, 32), at_most)
        pause = max(at_least, longest * (0.5 + self._scatter() / 2))
        self.add_after(key, pause)
        return pause

    def forget(self, key: Key) -> None:
        """Let the next failure of a key begin with the shortest pause again."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for a key, at least until others have run; the caller holds it until ``done``.

        A restart looks at everything, and mostly waits for nothing in between: without a rest the
        Lease would not be renewed, nor liveness be shown, until all is done.
        """
        await asyncio.sleep(0)
        key = await self._ready.get()
        self._wanted.discard(key)
        self._held.add(key)
        return key

    def done(self, key: Key) -> None:
        """Let go of a key; if it was added meanwhile, it is ready again."""
        self._held.discard(key)
        if key in self._wanted:
            self._ready.put_nowait(key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)
