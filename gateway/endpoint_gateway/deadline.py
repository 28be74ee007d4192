"""How long something may be waited for on a client's connection.

Made by inbound, one for each connection. One timer serves all that is awaited there, one thing
after another: it looks at how things stand when it rings, so that a request sets and cancels none.
"""

import asyncio
from collections.abc import Callable


class Deadline:
    """What happens when the time for what is awaited is over; at first nothing is awaited.

    `since` is when what is awaited was begun to be awaited, in the loop's time.
    """

    __slots__ = ("_due", "_loop", "_timer", "_timer_due", "_verdict", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = self._timer_due = self.since = 0.0
        self._verdict: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, verdict: Callable[[], None]) -> None:
        """Do this when so much time is over, in place of what was to be done before."""
        now = self._loop.time()
        if self._verdict != verdict:
            self.since = now
        self._due, self._verdict = now + seconds, verdict
        if self._timer is None or self._timer_due > self._due:
            self._start_timer()

    def is_for(self, verdict: Callable[[], None]) -> bool:
        """Say whether this is what is to be done."""
        return self._verdict == verdict

    def lift(self) -> None:
        """Await nothing."""
        self._verdict = None

    def end(self) -> None:
        """Await nothing any more."""
        self.lift()
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = self._due
        self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._verdict is None:
            return
        if self._loop.time() < self._due:
            self._start_timer()
        else:
            self._verdict()
