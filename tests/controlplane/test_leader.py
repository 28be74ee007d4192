"""Of several operators one leads at any time, whatever becomes of it, the API and the clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from endpoint_operator.errors import LeadershipLostError
from endpoint_operator.leader import Leadership
from endpoint_operator.settings import Settings
from helpers.lease_api import MemoryLease
from helpers.virtual_clock import run_virtually
from kube_api import Forbidden, Unavailable


@pytest.fixture
def api() -> MemoryLease:
    return MemoryLease()


def now() -> float:
    return asyncio.get_running_loop().time()


class Operator:
    """One operator: leads as soon and as long as it can, and tells from when to when."""

    def __init__(self, api: MemoryLease, settings: Settings, identity: str = "a") -> None:
        given = settings.model_copy(update={"identity": identity})
        self.slept = 0.0  # seconds that no timer has noticed
        self.leadership = Leadership(api, given, clock=lambda: now() + self.slept)
        self.leads = asyncio.Event()
        self.began = self.ended = 0.0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.leadership.held():
                self.began = now()
                self.leads.set()
                await asyncio.Event().wait()
        finally:
            self.ended = now()

    def may_write(self) -> bool:
        try:
            self.leadership.check()
        except LeadershipLostError:
            return False
        return True

    async def lost(self) -> str:
        """Wait for its end, which must be lost leadership; return why."""
        with pytest.raises(ExceptionGroup) as caught:
            await self.task
        (error,) = caught.value.exceptions
        assert isinstance(error, LeadershipLostError)
        return str(error)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def leading(
    api: MemoryLease, settings: Settings, identity: str = "a"
) -> AsyncIterator[Operator]:
    operator = Operator(api, settings, identity)
    try:
        await operator.leads.wait()
        yield operator
    finally:
        await operator.stop()


def test_the_first_one_makes_the_lease_and_leads_at_once(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        begun = now()
        async with leading(api, settings) as operator:
            assert operator.began - begun < 0.1
            assert operator.may_write()
            assert api.requests == ["get", "create"]
            assert api.lease is not None
            assert api.lease["metadata"]["name"] == settings.lease_name
            assert api.spec["holderIdentity"] == "a"
            assert api.spec["leaseDurationSeconds"] == 15
            assert api.spec["leaseTransitions"] == 0
            assert {"acquireTime", "renewTime"} <= api.spec.keys()

    run_virtually(story())


def test_leading_costs_one_write_in_two_seconds_and_no_read(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings):
            api.requests.clear()
            await asyncio.sleep(600)
            assert set(api.requests) == {"patch"}
            assert len(api.requests) <= 300

    run_virtually(story())


def test_another_one_stands_by_and_writes_nothing(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        async with leading(api, settings):
            other = Operator(api, settings, "b")
            await asyncio.sleep(600)
            assert not other.leads.is_set()
            assert not other.may_write()
            await other.stop()
            assert api.spec["holderIdentity"] == "a"

    run_virtually(story())


def test_one_that_stops_lets_the_other_lead_within_a_second(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings) as first:
            second = Operator(api, settings, "b")
            await asyncio.sleep(5.3)
            await first.stop()
            assert not first.may_write()
            await second.leads.wait()
            assert 0 < second.began - first.ended < 1.1
            assert api.spec["leaseTransitions"] == 1
            await second.stop()

    run_virtually(story())


def test_one_that_dies_is_replaced_when_its_lease_is_over(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings):
            second = Operator(api, settings, "b")
            await asyncio.sleep(10.4)
            last_renewal = now()
            api.is_silent = True
        # it ended without an answer, so nothing was released
        api.is_silent = False
        assert api.spec["holderIdentity"] == "a"
        await second.leads.wait()
        assert 13 < second.began - last_renewal < 15 + 1.1
        await second.stop()

    run_virtually(story())


def test_the_same_one_started_again_leads_at_once(api: MemoryLease, settings: Settings) -> None:
    # a container that was killed comes back in the same pod
    async def story() -> None:
        async with leading(api, settings):
            api.is_silent = True
        api.is_silent = False
        begun = now()
        async with leading(api, settings) as again:
            assert again.began - begun < 0.1
            assert api.spec["leaseTransitions"] == 0

    run_virtually(story())


def test_the_clock_of_the_holder_is_never_trusted(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        async with leading(api, settings):
            api.is_silent = True
        api.is_silent = False
        for said in ("1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"):
            api.spec["renewTime"] = said
            begun = now()
            async with leading(api, settings, said) as second:
                assert 15 < second.began - begun < 17
                api.is_silent = True
            api.is_silent = False

    run_virtually(story())


def test_a_lease_that_is_held_for_longer_is_left_for_longer(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings):
            api.is_silent = True
        api.is_silent = False
        api.spec["leaseDurationSeconds"] = 60
        begun = now()
        async with leading(api, settings, "b") as second:
            assert 60 < second.began - begun < 62
            assert api.spec["leaseDurationSeconds"] == 15

    run_virtually(story())


def test_one_that_cannot_renew_ends_before_another_one_can_lead(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        def refuse(verb: str) -> None:
            raise Unavailable(500, f"no {verb}")

        async with leading(api, settings) as first:
            await asyncio.sleep(5)
            renewed = now()
            api.fail = refuse
            assert "not renewed for 10 s" in await first.lost()
            assert first.ended - renewed < 10.1
            assert not first.may_write()
        api.fail = lambda _: None
        async with leading(api, settings, "b") as second:
            assert second.began > first.ended

    run_virtually(story())


def test_one_whose_connection_is_dead_ends_in_time(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        async with leading(api, settings) as first:
            await asyncio.sleep(4.5)
            silent_since = now()
            api.is_silent = True
            await first.lost()
            assert first.ended - silent_since < 10 + 1  # and the second that releasing may take
            assert not first.may_write()

    run_virtually(story())


def test_a_failure_now_and_then_does_no_harm(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        failures = 0

        def refuse_three_of_four(verb: str) -> None:
            nonlocal failures
            failures += 1
            if failures % 4:
                raise Unavailable(503, f"no {verb}")

        async with leading(api, settings) as operator:
            api.fail = refuse_three_of_four
            await asyncio.sleep(600)
            assert operator.may_write()
            assert not operator.task.done()

    run_virtually(story())


def test_an_answer_that_comes_just_in_time_does_no_harm(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings) as operator:
            for seconds in (7.9, 0.01, 3.9, 3.9, 3.9):
                api.seconds = seconds
                await asyncio.sleep(5)
                assert operator.may_write()
            await asyncio.sleep(60)
            assert not operator.task.done()

    run_virtually(story())


def test_an_answer_that_comes_too_late_does_not_prolong_anything(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings) as first:
            began = now()
            api.seconds = 10.5
            await first.lost()
            assert first.ended - began < 10 + 1.1  # the second that releasing may take

    run_virtually(story())


def test_an_answer_that_is_lost_does_no_harm(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        async with leading(api, settings) as operator:
            await asyncio.sleep(1)
            api.lose_answers = True
            await asyncio.sleep(4)  # the renewal is in force, and we don't know
            api.lose_answers = False
            await asyncio.sleep(10)
            assert operator.may_write()
            assert api.spec["holderIdentity"] == "a"

    run_virtually(story())


def test_one_that_slept_too_long_may_not_write_when_it_wakes(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings) as first:
            first.slept = 20
            assert not first.may_write()
            assert "another operator may lead" in await first.lost()

    run_virtually(story())


def test_one_that_was_replaced_ends_at_once_and_leaves_the_lease_alone(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        async with leading(api, settings) as first:
            await asyncio.sleep(1)
            api.spec["holderIdentity"] = "b"
            assert api.lease is not None
            api.lease["metadata"]["resourceVersion"] = "100"
            begun = now()
            assert await first.lost() == "b leads now"
            assert first.ended - begun < 2.1
            assert api.spec["holderIdentity"] == "b"

    run_virtually(story())


def test_a_deleted_lease_is_made_again(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        async with leading(api, settings) as operator:
            api.lease = None
            await asyncio.sleep(3)
            assert api.spec["holderIdentity"] == "a"
            assert operator.may_write()

    run_virtually(story())


def test_many_at_once_have_one_leader_at_a_time(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        waiting = [Operator(api, settings, f"operator-{number}") for number in range(8)]
        while waiting:
            await asyncio.sleep(3)
            leaders = [operator for operator in waiting if operator.may_write()]
            assert len(leaders) == 1
            await leaders[0].stop()
            waiting.remove(leaders[0])
        assert api.spec["leaseTransitions"] == 7

    run_virtually(story())


def test_a_missing_permission_is_said(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        def refuse(verb: str) -> None:
            raise Forbidden(403, f"cannot {verb} leases")

        api.fail = refuse
        with pytest.raises(Forbidden, match="cannot get leases"):
            await Operator(api, settings).task

    run_virtually(story())


def test_an_api_server_that_is_away_is_waited_for(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        api.is_silent = True
        operator = Operator(api, settings)
        await asyncio.sleep(60)
        api.is_silent = False
        begun = now()
        await operator.leads.wait()
        assert operator.began - begun < 4.1
        await operator.stop()

    run_virtually(story())


def test_without_an_identity_each_has_one_of_its_own(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        first = Operator(api, settings, "")
        await first.leads.wait()
        second = Operator(api, settings, "")
        await asyncio.sleep(60)
        assert not second.leads.is_set()
        await first.stop()
        await second.stop()

    run_virtually(story())


def test_stopped_between_taking_and_knowing_it_lets_go(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        api.lose_answers = True
        operator = Operator(api, settings)
        await asyncio.sleep(0.025)
        assert api.spec["holderIdentity"] == "a"
        api.lose_answers = False
        await operator.stop()
        assert not operator.leads.is_set()
        assert "holderIdentity" not in api.spec

    run_virtually(story())


def test_one_that_only_stood_by_leaves_without_a_word(api: MemoryLease, settings: Settings) -> None:
    async def story() -> None:
        async with leading(api, settings):
            other = Operator(api, settings, "b")
            await asyncio.sleep(3.5)
            before = list(api.requests)
            await other.stop()
            assert api.requests == before

    run_virtually(story())


def test_one_that_lost_the_race_for_a_free_lease_takes_nothing_when_it_leaves(
    api: MemoryLease, settings: Settings
) -> None:
    async def story() -> None:
        first = Operator(api, settings, "a")
        second = Operator(api, settings, "b")
        await asyncio.sleep(0.5)
        assert [first.may_write(), second.may_write()] == [True, False]
        await second.stop()
        assert api.spec["holderIdentity"] == "a"
        await asyncio.sleep(10)
        assert first.may_write()
        await first.stop()

    run_virtually(story())
