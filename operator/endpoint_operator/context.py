"""What every reconcile works with, and what it leaves to be done; shared by both stories.

``controller`` builds one ``Context`` per process; tests build theirs with a cluster in memory, a
fixed clock and known randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from endpoint_operator.cache import Ref
from endpoint_operator.cluster import Cluster
from endpoint_operator.settings import Settings


@dataclass(frozen=True)
class Context:
    """The cluster, the settings, and the three things that are not pure: key, clock, dice."""

    cluster: Cluster
    settings: Settings
    root_key: bytes = field(repr=False)
    now: Callable[[], str]
    entropy: Callable[[int], bytes]


@dataclass(frozen=True)
class Outcome:
    """What is left after a reconcile: look again after some seconds, or at other things at once.

    Waiting is no error: an object that waits for a change that no watch reports says so here.
    """

    again_after: float | None = None
    then: tuple[Ref, ...] = ()


DONE = Outcome()
