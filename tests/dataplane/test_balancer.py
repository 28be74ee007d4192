"""Which replica gets the next request, without any socket."""

from __future__ import annotations

from collections import Counter

import pytest

from endpoint_gateway.balancer import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MOST_LOAD,
    Balancer,
    Lease,
    Load,
    pick,
    pick_near,
)
from endpoint_gateway.catalog import Replica

A, B, C = Replica("a", 1), Replica("b", 1), Replica("c", 1)


PICKS: dict[str, tuple[dict[Replica, Load], int, Replica]] = {
    "nothing known: by turns": ({}, 0, A),
    "nothing known: the next": ({}, 1, B),
    "the fewest": ({A: Load(3), B: Load(2), C: Load(1)}, 0, C),
    "equals: by turns": ({A: Load(2), B: Load(1), C: Load(1)}, 2, C),
    "not a paused one": ({A: Load(0, 1, 99.0), B: Load(5), C: Load(6)}, 0, B),
    "one whose pause is over": ({A: Load(0, 1, 10.0), B: Load(1), C: Load(1)}, 0, A),
    "all paused: the first to end": (
        {A: Load(0, 1, 99.0), B: Load(0, 1, 50.0), C: Load(0, 1, 60.0)},
        0,
        B,
    ),
}


@pytest.mark.parametrize(("loads", "turn", "expected"), PICKS.values(), ids=PICKS)
def test_a_replica_is_picked(loads: dict[Replica, Load], turn: int, expected: Replica) -> None:
    assert pick([A, B, C], loads, now=10.0, turn=turn) == expected


def test_nothing_is_picked_from_nothing() -> None:
    assert pick([], {}, now=0.0, turn=0) is None


def leased(balancer: Balancer, now: float = 0.0) -> Lease:
    lease = balancer.lease([A], without=(), now=now)
    assert lease is not None
    return lease


def failed(balancer: Balancer, now: float) -> float:
    """Fail to reach the replica; return how long it is paused."""
    lease = leased(balancer, now)
    lease.unreachable(now)
    lease.release()
    return lease.paused_until - now


def test_each_failure_after_a_pause_doubles_the_next_one_up_to_a_limit() -> None:
    balancer, now, pauses = Balancer(), 0.0, []
    for _ in range(2000):
        pauses.append(failed(balancer, now))
        now += pauses[-1]
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert set(pauses[10:]) == {LONGEST_PAUSE_SECONDS}


def test_failures_at_the_same_time_are_one() -> None:
    balancer = Balancer()
    leases = [leased(balancer) for _ in range(10)]
    for lease in leases:
        lease.unreachable(0.1)
    assert leases[0].paused_until == 0.1 + FIRST_PAUSE_SECONDS


def test_a_failure_during_a_pause_makes_it_no_longer() -> None:
    balancer = Balancer()
    assert failed(balancer, 0.0) == FIRST_PAUSE_SECONDS
    assert failed(balancer, 0.1) == FIRST_PAUSE_SECONDS - 0.1


def test_one_request_finds_out_whether_a_replica_is_back() -> None:
    balancer = Balancer()
    after = failed(balancer, 0.0)
    asked = [balancer.lease([A, B], without=(), now=after) for _ in range(5)]
    assert [lease.replica for lease in asked if lease].count(A) == 1
    (probe,) = (lease for lease in asked if lease and lease.replica == A)
    probe.reached()
    again = balancer.lease([A, B], without=(), now=after)
    assert again is not None
    assert again.replica == A


def test_a_success_ends_the_pause() -> None:
    lease = leased(Balancer())
    lease.unreachable(0.0)
    lease.reached()
    assert lease.paused_until == 0.0


def test_what_is_no_longer_there_is_forgotten_when_it_is_no_longer_used() -> None:
    balancer = Balancer()
    lease = leased(balancer)
    balancer.retain([B])
    assert balancer.in_flight(A) == 1
    lease.release()
    assert balancer.in_flight(A) == 0


TEN = [Replica(f"10.0.0.{number}", 8000) for number in range(10)]


def near(replicas: list[Replica], affinity: int, **loads: Load) -> Replica | None:
    known = {replica: loads[replica.host] for replica in replicas if replica.host in loads}
    return pick_near(replicas, known, now=10.0, affinity=affinity)


def test_an_affinity_belongs_to_one_replica_in_whatever_order_they_are_known() -> None:
    for affinity in range(100):
        assert near(TEN, affinity) == near(TEN[::-1], affinity)


def test_affinities_are_spread_over_the_replicas() -> None:
    counts = Counter(near(TEN, affinity) for affinity in range(10_000))
    assert len(counts) == 10
    assert max(counts.values()) < 1.15 * min(counts.values())


def test_a_replica_that_goes_moves_only_what_it_had() -> None:
    for affinity in range(1000):
        before, after = near(TEN, affinity), near(TEN[1:], affinity)
        assert after == before or before == TEN[0]


def test_who_has_more_than_a_quarter_above_its_share_is_passed_over() -> None:
    home = near([A, B, C], 1)
    assert home is not None
    busy = {"a": Load(20), "b": Load(20), "c": Load(20)}
    assert near([A, B, C], 1, **busy) == home
    other = near([A, B, C], 1, **(busy | {home.host: Load(30)}))
    assert other not in (home, None)
    assert other == near([each for each in (A, B, C) if each != home], 1)


def test_eight_requests_are_never_too_many() -> None:
    home = near([A, B, C], 1)
    assert home is not None
    assert near([A, B, C], 1, **{home.host: Load(7)}) == home
    assert near([A, B, C], 1, **{home.host: Load(8)}) != home


def test_one_question_of_all_loads_nobody_far_above_the_rest() -> None:
    balancer = Balancer()
    for _ in range(400):
        assert balancer.lease(TEN, without=(), now=0.0, affinity=7)
    loads = [balancer.in_flight(replica) for replica in TEN]
    assert max(loads) <= MOST_LOAD * 40 + 1
    assert sum(loads) == 400


def test_a_paused_replica_is_passed_over_unless_all_are() -> None:
    home = near([A, B, C], 1)
    assert home is not None
    assert near([A, B, C], 1, **{home.host: Load(0, 1, 99.0)}) != home
    paused = {"a": Load(0, 1, 99.0), "b": Load(0, 1, 50.0), "c": Load(0, 1, 60.0)}
    assert near([A, B, C], 1, **paused) == B
    assert near([], 1) is None
