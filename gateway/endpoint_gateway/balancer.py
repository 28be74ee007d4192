"""Which replica of an endpoint gets the next request.

Called by dispatch. `pick` and `pick_near` are pure; `Balancer` keeps the counts that it decides on.
Knows nothing of HTTP and opens nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from .catalog import Credential, Replica

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
MOST_LOAD = 1.25
_LITTLE = 8
"""So many at once take an engine hardly longer than one; a prompt to compute anew does."""

_64_BITS = (1 << 64) - 1
_MOST_DOUBLINGS = 16
"""Far past the longest pause, and far from what a float can't hold."""


@dataclass(slots=True)
class Load:
    """What is known of one replica: requests in flight, and how connecting to it went lately.

    `credential` is the one that it took last, if it took one; `refuses_us`: it took none lately.
    """

    in_flight: int = 0
    failures: int = 0
    paused_until: float = 0.0
    credential: tuple[Credential] | None = None
    refuses_us: bool = False


_IDLE = Load()


def pick(
    replicas: Sequence[Replica], loads: Mapping[Replica, Load], *, now: float, turn: int
) -> Replica | None:
    """Return the replica with the fewest requests in flight among those that are not paused.

    `turn` says where to begin, so that equals take turns. If all are paused, the one whose pause
    ends first: a try that may fail is worth more than a refusal that is certain.
    """
    if len(replicas) <= 1:
        return replicas[0] if replicas else None
    begin = turn % len(replicas)
    ordered = (*replicas[begin:], *replicas[:begin])

    def cost(replica: Replica) -> tuple[float, int]:
        load = loads.get(replica, _IDLE)
        return (load.paused_until if load.paused_until > now else 0.0, load.in_flight)

    return min(ordered, key=cost)


def pick_near(
    replicas: Sequence[Replica], loads: Mapping[Replica, Load], *, now: float, affinity: int
) -> Replica | None:
    """Return the replica to which this affinity belongs, or the next one that has room.

    By rendezvous hashing every gateway has the same order for it, and a replica that comes or goes
    moves only what it gets or had. The load is bounded (Mirrokni, Thorup, Zadimoghaddam: Consistent
    Hashing with Bounded Loads): a replica that would have more than a quarter above its fair share
    is passed over, unless that is so little that an engine doesn't feel it.
    """
    ready = [each for each in replicas if loads.get(each, _IDLE).paused_until <= now]
    if not ready:
        return pick(replicas, loads, now=now, turn=0)
    in_flight = [loads.get(each, _IDLE).in_flight for each in ready]
    bound = max(_LITTLE, MOST_LOAD * (sum(in_flight) + 1) / len(ready))
    roomy = [each for each, load in zip(ready, in_flight, strict=True) if load < bound]
    return max(roomy, key=lambda each: _nearness(each, affinity))


def _nearness(replica: Replica, affinity: int) -> int:
    # the finalizer of SplitMix64: all of its bits depend on all of what goes in
    mixed = ((_seed(replica) ^ affinity) * 0xBF58476D1CE4E5B9) & _64_BITS
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _64_BITS
    return mixed ^ mixed >> 31


@lru_cache(maxsize=4096)
def _seed(replica: Replica) -> int:
    name = f"{replica.host}:{replica.port}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest())


class Balancer:
    """Counts the requests in flight at each replica and remembers those that can't be reached."""

    def __init__(self) -> None:
        self._loads: dict[Replica, Load] = {}
        self._turn = 0

    def lease(
        self,
        replicas: Sequence[Replica],
        *,
        without: Collection[Replica],
        now: float,
        affinity: int | None = None,
    ) -> "Lease | None":
        """Take a place at the best replica that is not in `without`; None if there is none.

        The best is the one with the least to do, or, with an affinity, the one that it belongs to.

        When a pause ends, one request goes to find out: until it knows, the pause goes on for the
        others.
        """
        if without:
            replicas = [replica for replica in replicas if replica not in without]
        self._turn += 1
        if affinity is None or not replicas:
            replica = pick(replicas, self._loads, now=now, turn=self._turn)
        else:
            replica = pick_near(replicas, self._loads, now=now, affinity=affinity)
        if replica is None:
            return None
        load = self._loads.setdefault(replica, Load())
        load.in_flight += 1
        paused = load.paused_until > now
        if load.failures and not paused:
            load.paused_until = now + _pause_seconds(load.failures)
        return Lease(replica, load, paused=paused)

    def in_flight(self, replica: Replica) -> int:
        """Return how many requests are at this replica."""
        return self._loads.get(replica, _IDLE).in_flight

    def retain(self, replicas: Iterable[Replica]) -> None:
        """Forget the replicas that are no longer there; those still in use go with a later call."""
        known = set(replicas)
        self._loads = {
            replica: load
            for replica, load in self._loads.items()
            if load.in_flight or replica in known
        }


class Lease:
    """A place at one replica; whoever takes it gives it back with `release`, once."""

    __slots__ = ("_failures", "_load", "_paused", "replica")

    def __init__(self, replica: Replica, load: Load, *, paused: bool) -> None:
        self.replica = replica
        self._load = load
        self._paused = paused
        self._failures = load.failures

    @property
    def paused_until(self) -> float:
        """Until when other replicas are preferred."""
        return self._load.paused_until

    def credentials(self, known: Sequence[Credential]) -> Sequence[Credential]:
        """Return what to introduce oneself with, in this order: what was taken last comes first."""
        last = self._load.credential
        if len(known) == 1 or last is None or last[0] not in known:
            return known
        return (*last, *(each for each in known if each != last[0]))

    def taken(self, credential: Credential) -> None:
        """Note that the replica took this credential."""
        self._load.credential = (credential,)
        self._load.refuses_us = False

    def refused(self) -> bool:
        """Note that the replica took no credential; say whether that is news."""
        before, self._load.refuses_us = self._load.refuses_us, True
        return not before

    def reached(self) -> None:
        """Note that the replica could be connected to."""
        self._load.failures = 0
        self._load.paused_until = 0.0

    def unreachable(self, now: float) -> bool:
        """Note a failed connect: each one in a row doubles the pause that follows it.

        Those that were begun during a pause, or together with one that failed before, say nothing
        new. Says whether it was reachable before.
        """
        if self._paused or self._load.failures != self._failures:
            return False
        self._load.failures += 1
        self._load.paused_until = now + _pause_seconds(self._load.failures)
        return self._load.failures == 1

    def release(self) -> None:
        """Give the place back."""
        self._load.in_flight -= 1


def _pause_seconds(failures: int) -> float:
    """Return the pause after so many failures in a row, of which there is at least one."""
    doublings = min(failures - 1, _MOST_DOUBLINGS)
    return min(FIRST_PAUSE_SECONDS * 2.0**doublings, LONGEST_PAUSE_SECONDS)
