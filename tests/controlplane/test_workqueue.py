"""The queue: nothing twice at a time, nothing missed, failures with growing pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from endpoint_operator.workqueue import LONGEST_PAUSE_SECONDS, WorkQueue


class ManualTimer:
    """A timer that runs when the test says so."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self._call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def elapse(self) -> None:
        if not self.cancelled:
            self._call()


class Clock:
    """Remembers every timer that was set."""

    def __init__(self) -> None:
        self.timers: list[ManualTimer] = []

    def later(self, seconds: float, call: Callable[[], None]) -> ManualTimer:
        self.timers.append(ManualTimer(seconds, call))
        return self.timers[-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(later=clock.later, scatter=lambda: 1.0)


async def is_idle(queue: WorkQueue[str]) -> bool:
    taking = asyncio.ensure_future(queue.get())
    for _ in range(3):
        await asyncio.sleep(0)
    idle = not taking.done()
    taking.cancel()
    return idle


async def test_a_key_that_is_added_twice_is_worked_on_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert await is_idle(queue)


async def test_keys_come_in_the_order_in_which_they_were_added(queue: WorkQueue[str]) -> None:
    for key in "bca":
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["b", "c", "a"]


async def test_a_key_added_while_it_is_held_waits_until_it_is_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert await is_idle(queue)
    queue.done("a")
    assert await queue.get() == "a"


async def test_failures_of_a_key_pause_longer_each_time(
    queue: WorkQueue[str], clock: Clock
) -> None:
    pauses = [queue.retry("a") for _ in range(4)]
    assert pauses == [0.05, 0.1, 0.2, 0.4]
    assert [timer.seconds for timer in clock.timers] == pauses


async def test_pauses_stop_growing(queue: WorkQueue[str]) -> None:
    for _ in range(100):
        longest = queue.retry("a")
    assert longest == LONGEST_PAUSE_SECONDS


async def test_pauses_stop_growing_sooner_where_that_is_asked_for(queue: WorkQueue[str]) -> None:
    for _ in range(100):
        longest = queue.retry("a", at_most=15)
    assert longest == 15
    assert queue.retry("a", at_least=60, at_most=15) == 60


async def test_pauses_are_scattered(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(later=clock.later, scatter=lambda: 0.0)
    assert queue.retry("a") == 0.025


async def test_a_success_makes_the_next_pause_short_again(queue: WorkQueue[str]) -> None:
    queue.retry("a")
    queue.retry("a")
    queue.forget("a")
    assert queue.retry("a") == 0.05


async def test_a_server_that_asks_for_more_time_gets_it(queue: WorkQueue[str]) -> None:
    assert queue.retry("a", at_least=7) == 7


async def test_a_failed_key_comes_back_when_its_pause_is_over(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.retry("a")
    assert await is_idle(queue)
    clock.timers[0].elapse()
    assert await queue.get() == "a"


async def test_a_later_pause_replaces_an_earlier_one(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 30)
    queue.add_after("a", 60)
    assert clock.timers[0].cancelled
    clock.timers[1].elapse()
    assert await queue.get() == "a"
    queue.done("a")
    assert await is_idle(queue)


async def test_a_worker_that_gives_up_waiting_loses_no_key(queue: WorkQueue[str]) -> None:
    assert await is_idle(queue)
    queue.add("a")
    assert await queue.get() == "a"


async def test_pauses_of_what_waits_for_people_begin_later(
    queue: WorkQueue[str],
) -> None:
    assert [queue.retry("a", first=30) for _ in range(5)] == [30, 60, 120, 240, 300]


async def test_others_run_between_one_key_and_the_next(queue: WorkQueue[str]) -> None:
    async def work() -> None:
        for _ in range(100):
            queue.done(await queue.get())

    for number in range(100):
        queue.add(str(number))
    working = asyncio.create_task(work())
    turns = 0
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 100
