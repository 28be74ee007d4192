"""What every reconcile works with, and what it leaves to be done; shared by all stories.

``controller`` builds one ``Context`` per process; tests build theirs with a cluster in memory, a
fixed clock and known randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from endpoint_operator import status
from endpoint_operator.api import values
from endpoint_operator.cluster import Cluster
from endpoint_operator.conditions import Finding
from endpoint_operator.keys import RootKey
from endpoint_operator.live import Ref
from endpoint_operator.settings import Settings
from endpoint_operator.settled import Settled
from endpoint_operator.upgrades import Slots
from kube_api import ApiError


@dataclass(frozen=True)
class Verdict:
    """Whether a spec is in force; if not, why, and when to try again.

    ``upgrade_waiting``: it is, but the pods that this version of the operator makes of it wait.
    ``failure``: it is not, since something has failed that is tried again as any failure.
    """

    finding: Finding
    facts: status.Facts | None = None
    again_after: float | None = None
    upgrade_waiting: bool = False
    failure: ApiError | None = None


@dataclass
class InUse:
    """The root key in use; only ``rootkey`` gives it another value, when an administrator does."""

    root_key: RootKey


@dataclass(frozen=True)
class Context:
    """The cluster, the settings, and the three things that are not pure: key, clock, dice.

    ``clock`` gives seconds since 1970. ``settled`` is what was found of endpoints before, ``slots``
    who rolls by an upgrade.
    """

    cluster: Cluster
    settings: Settings
    in_use: InUse
    clock: Callable[[], float]
    entropy: Callable[[int], bytes]
    slots: Slots
    settled: Settled[Verdict] = field(default_factory=Settled)

    @property
    def root_key(self) -> bytes:
        """The key from which those of engines derive."""
        return self.in_use.root_key.newest

    def now(self) -> str:
        """Return the time as an object's status has it."""
        return values.time_text(self.clock())


@dataclass(frozen=True)
class Outcome:
    """What is left after a reconcile: look again after some seconds, or at other things at once.

    Waiting is no error: an object that waits for a change that no watch reports says so here, with
    ``refused`` if the pauses are to grow while nothing else changes.
    """

    again_after: float | None = None
    refused: bool = False
    then: tuple[Ref, ...] = ()


DONE = Outcome()
