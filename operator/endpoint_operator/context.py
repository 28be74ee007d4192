"""What every reconcile works with, and what it leaves to be done; shared by both stories.

``controller`` builds one ``Context`` per process; tests build theirs with a cluster in memory, a
fixed clock and known randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from endpoint_operator.api import values
from endpoint_operator.cache import Ref
from endpoint_operator.cluster import Cluster
from endpoint_operator.keys import RootKey
from endpoint_operator.settings import Settings


@dataclass
class InUse:
    """The root key in use; only ``rootkey`` gives it another value, when an administrator does."""

    root_key: RootKey


@dataclass(frozen=True)
class Context:
    """The cluster, the settings, and the three things that are not pure: key, clock, dice.

    ``clock`` gives seconds since 1970.
    """

    cluster: Cluster
    settings: Settings
    in_use: InUse
    clock: Callable[[], float]
    entropy: Callable[[int], bytes]

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

    Waiting is no error: an object that waits for a change that no watch reports says so here.
    """

    again_after: float | None = None
    then: tuple[Ref, ...] = ()


DONE = Outcome()
