"""ApiKeys and their keyring on a cluster in memory, with a clock that the test sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from endpoint_operator import keyring, keys
from endpoint_operator.apikeys import reconcile_api_key
from endpoint_operator.context import Context
from endpoint_operator.listing import KEYRING, reconcile_keyring
from endpoint_operator.live import Ref
from helpers import builders
from helpers.memory_cluster import MakeContext, MemoryCluster

Object = dict[str, Any]

KEY = Ref("ApiKey", "team-a", "ci")
SECRET = Ref("Secret", "team-a", "ci-api-key")
RING = Ref("Secret", builders.RELEASE_NAMESPACE, "vllm-endpoints-keyring")


class Story:
    """ApiKeys on a cluster; ``settle`` follows what the stories ask to look at next."""

    def __init__(
        self, make_context: MakeContext, *objects: Object, cluster: MemoryCluster | None = None
    ) -> None:
        self.cluster = cluster or MemoryCluster()
        for obj in objects:
            self.cluster.put(obj)
        made = make_context(self.cluster)
        self.now = made.clock()
        self.context: Context = replace(made, clock=lambda: self.now)
        self.due: dict[Ref, float] = {}

    async def settle(self, *refs: Ref) -> list[tuple[str, Ref]]:
        """Reconcile these and what follows from them at once; return the writes."""
        self.cluster.writes.clear()
        waiting = list(refs or (KEY,))
        for _ in range(1000):
            if not waiting:
                return list(self.cluster.writes)
            ref = waiting.pop(0)
            story = reconcile_keyring if ref == KEYRING else reconcile_api_key
            outcome = await story(self.context, ref)
            self.due.pop(ref, None)
            if outcome.again_after is not None:
                self.due[ref] = self.now + outcome.again_after
            waiting += [other for other in outcome.then if other not in waiting]
        raise AssertionError("it never settles")

    async def wait(self) -> float:
        """Let time pass until something is due, and settle it; return how long that took."""
        ref = min(self.due, key=self.due.__getitem__)
        began, self.now = self.now, self.due[ref]
        await self.settle(ref)
        return self.now - began

    def ready(self, ref: Ref = KEY) -> Object:
        """Return the condition of an ApiKey."""
        return builders.condition_of(self.cluster.stored(ref), "Ready")

    def listed(self) -> set[tuple[str, str]]:
        """Return the ApiKeys that the keyring has."""
        return {entry.owner for entry in keyring.read_keyring(self.cluster.stored(RING))}

    def accepts(self, key: str) -> bool:
        """Return whether a gateway accepts a key now."""
        ring = keyring.read_keyring(self.cluster.stored(RING))
        return any(
            entry.sha256 == keys.digest(key) and not entry.has_ended(self.now) for entry in ring
        )

    def key(self, ref: Ref = SECRET, field: str = "api-key") -> str:
        """Return a key in a Secret."""
        return keys.read_field(self.cluster.stored(ref), field)
