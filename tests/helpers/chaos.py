"""People who never rest, a gateway that looks on, and what ends an operator at the worst moment."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any, Final

from endpoint_operator import keyring, names
from endpoint_operator.kinds import RESOURCES
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.live_keys import RING
from helpers.operator_process import OperatorProcess
from kube_api import watch

Object = dict[str, Any]

ACTIONS: Final = 40
KILLS: Final = 5


@dataclass
class Users:
    """What people do, by the same dice again for the same seed, and what is to become of it."""

    cluster: LiveCluster
    namespace: str
    seed: int
    endpoints: dict[str, Object] = field(default_factory=dict)
    keys: dict[str, Object] = field(default_factory=dict)

    async def work(self, reaper: Reaper) -> None:
        """Create, change and delete, at random, and leave everything at zero replicas."""
        dice = random.Random(self.seed)  # noqa: S311 - to fall the same way again
        for number in itertools.count():
            if number >= ACTIONS and reaper.kills >= KILLS:
                break
            if dice.random() < 0.7:
                await self._touch_endpoint(dice, f"e{dice.randrange(8)}", number)
            else:
                await self._touch_key(dice, f"k{dice.randrange(4)}", number)
            await asyncio.sleep(dice.uniform(0, 0.4))
        for name in self.endpoints:
            await self._change(Ref("InferenceEndpoint", self.namespace, name), {"replicas": 0})

    async def _touch_endpoint(self, dice: random.Random, name: str, number: int) -> None:
        ref = Ref("InferenceEndpoint", self.namespace, name)
        if name not in self.endpoints:
            spec = builders.endpoint_spec(replicas=0, engine={"env": []})
            await self._create(ref, spec)
        elif dice.random() < 0.25:
            del self.endpoints[name]
            await self.cluster.delete(ref)
            await self.cluster.gone(ref)
        else:
            env = [{"name": "NUMBER", "value": str(number)}]
            config = {"max-model-len": 1024 + number}
            engine = dice.choice([{"env": env}, {"config": config}])
            change: Object = dice.choice([{"replicas": dice.randrange(3)}, {"engine": engine}])
            await self._change(ref, change)

    async def _touch_key(self, dice: random.Random, name: str, number: int) -> None:
        ref = Ref("ApiKey", self.namespace, name)
        if name not in self.keys:
            await self._create(ref, {"endpoints": ["*"]})
        elif dice.random() < 0.25:
            del self.keys[name]  # first: from now on it may go
            await self.cluster.delete(ref)
            await self.cluster.gone(ref)
        else:
            await self._change(ref, {"rotation": {"id": str(number)}})

    async def _create(self, ref: Ref, spec: Object) -> None:
        meta = {"namespace": ref.namespace, "name": ref.name}
        body = {"apiVersion": names.API_VERSION, "kind": ref.kind, "metadata": meta, "spec": spec}
        self._note(await self.cluster.create(body))

    async def _change(self, ref: Ref, spec: Object) -> None:
        self._note(await self.cluster.patch(ref, {"spec": spec}))

    def _note(self, body: Object) -> None:
        known = self.endpoints if body["kind"] == "InferenceEndpoint" else self.keys
        known[body["metadata"]["name"]] = body


@dataclass
class Gateway:
    """What the gateway sees of the keyring; whoever was listed has to stay so."""

    users: Users
    listed: set[tuple[str, str]] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    """Whose a key is, by its hash: the ApiKey's that had the name when it was first seen."""

    async def look_on(self) -> None:
        """Fail as soon as a key that was in force is missing, and nobody deleted it."""
        events = watch(
            self.users.cluster.api,
            RESOURCES["Secret"],
            RING.namespace,
            field_selector=f"metadata.name={RING.name}",
        )
        async for event in events:
            if event.type in ("ADDED", "MODIFIED"):
                self._compare(keyring.read_keyring(event.object))

    def _compare(self, ring: keyring.Keyring) -> None:
        known = {name: body["metadata"]["uid"] for name, body in self.users.keys.items()}
        ours = [entry for entry in ring if entry.namespace == self.users.namespace]
        for entry in ours:
            self.owners.setdefault(entry.sha256, known.get(entry.name, ""))
        listed = {(entry.name, self.owners[entry.sha256]) for entry in ours}
        there = listed & set(known.items())
        expected = self.listed & set(known.items())
        assert expected <= there, f"revoked: {expected - there}"
        self.listed = there


class Reaper:
    """Kills the operator at its n-th write: before the API server has heard of it, or after."""

    def __init__(self, operator: OperatorProcess, seed: int) -> None:
        self._operator = operator
        self._dice = random.Random(seed)  # noqa: S311 - to fall the same way again
        self.kills = 0
        self._choose()

    def _choose(self) -> None:
        self._left, self._done = self._dice.randrange(1, 30), self._dice.random() < 0.5

    def __call__(self, done: bool) -> None:
        if done is self._done and self.kills < KILLS:
            self._left -= 1
            if self._left <= 0 and self._operator.is_running():
                self._operator.kill()
                self.kills += 1
                self._choose()


async def keep_running(operator: OperatorProcess) -> None:
    """Start it whenever it does not run, as the kubelet does."""
    while True:
        if not operator.is_running():
            operator.launch()
        await asyncio.sleep(0.1)
