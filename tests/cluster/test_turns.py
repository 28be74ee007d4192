"""Another version of the operator makes other pods: endpoints take turns, on a real API server.

The version is a default of the chart that is in the pod template; the kubelet is ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.operator_process import OperatorProcess
from kube_api import NotFound

Object = dict[str, Any]

NAMES = ("a", "b", "c")


def says(reason: str) -> Any:
    return lambda body: builders.condition_of(body, "Progressing").get("reason") == reason


@dataclass
class Fleet:
    """Three endpoints that serve, and the operator that serves nobody else."""

    cluster: LiveCluster
    namespace: str
    operator: OperatorProcess

    async def upgrade(self, version: str) -> None:
        """Go on with another version."""
        await self.operator.restart(
            WATCH_NAMESPACES=self.namespace,
            ENGINE_NODE_SELECTOR=f'{{"version": "{version}"}}',
        )

    async def versions(self) -> dict[str, str]:
        """Return which version made the present pods of each endpoint."""
        found = {}
        for name in NAMES:
            if body := await self.cluster.get(self._deployment(name)):
                selector = body["spec"]["template"]["spec"].get("nodeSelector", {})
                found[name] = selector.get("version", "")
        return found

    async def rolling(self, version: str, *, after: tuple[str, ...] = ()) -> str:
        """Wait until exactly one more endpoint is of a version and all others wait; return it."""

        async def found() -> str | None:
            versions = await self.versions()
            begun = [name for name in versions if versions[name] == version and name not in after]
            return begun[0] if begun else None

        (name,) = [await self.cluster.until(found, what=f"a turn of {version}")]
        versions = await self.versions()
        for other in versions.keys() - {name, *after}:
            await self.cluster.eventually(self.endpoint(other), says("UpgradeWaiting"))
            assert versions[other] != version
        return name

    async def come_up(self, name: str) -> None:
        """Play the kubelet to the replica that replaces another one."""
        await self.cluster.make_pods_ready(self.namespace, name, 2)
        await self.cluster.eventually(self.endpoint(name), says("Complete"))

    def endpoint(self, name: str) -> Ref:
        """Return the address of an endpoint."""
        return Ref("InferenceEndpoint", self.namespace, name)

    def _deployment(self, name: str) -> Ref:
        return Ref("Deployment", self.namespace, f"{name}-engine")


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> AsyncIterator[Fleet]:
    """Three endpoints with a replica each; whoever upgrades next finds none of them."""
    fleet = Fleet(cluster, namespace, operator)
    await fleet.upgrade("1")
    for name in NAMES:
        body = builders.endpoint(model={"source": f"hf://org/{name}"})
        await cluster.create(body | {"metadata": {"name": name, "namespace": namespace}})
    for name in NAMES:
        await cluster.make_pods_ready(namespace, name, 1)
        await cluster.eventually(fleet.endpoint(name), says("Complete"))
    yield fleet
    operator.stop()
    for name in NAMES:
        with suppress(NotFound):
            await cluster.delete(fleet.endpoint(name))


async def test_one_endpoint_after_the_other_is_upgraded(fleet: Fleet) -> None:
    await fleet.upgrade("2")
    first = await fleet.rolling("2")
    await fleet.come_up(first)
    second = await fleet.rolling("2", after=(first,))
    await fleet.upgrade("2")  # a restart in the midst of it gives nobody else a turn
    assert await fleet.rolling("2", after=(first,)) == second
    await fleet.come_up(second)
    third = await fleet.rolling("2", after=(first, second))
    await fleet.come_up(third)
    assert {first, second, third} == set(NAMES)
    assert set((await fleet.versions()).values()) == {"2"}


async def test_a_version_that_breaks_is_replaced_by_the_next_and_by_the_one_before(
    fleet: Fleet,
) -> None:
    await fleet.upgrade("broken")
    broken = await fleet.rolling("broken")
    await fleet.upgrade("still-broken")
    assert await fleet.rolling("still-broken") == broken
    await fleet.upgrade("1")

    async def as_before() -> bool:
        return set((await fleet.versions()).values()) == {"1"}

    await fleet.cluster.until(as_before, what="the version before")
    for name in NAMES:
        await fleet.cluster.eventually(fleet.endpoint(name), says("Complete"))


async def test_who_is_deleted_gives_its_turn_to_the_next(fleet: Fleet) -> None:
    await fleet.upgrade("2")
    first = await fleet.rolling("2")
    await fleet.cluster.delete(fleet.endpoint(first))
    second = await fleet.rolling("2", after=(first,))
    await fleet.come_up(second)
    await fleet.rolling("2", after=(first, second))
