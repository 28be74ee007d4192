"""The operator without its watches and its queue: it looks, and takes one step, when told to.

What it knows is what it saw when it looked last, so that a test says in which order things happen.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from endpoint_operator.cluster import ApiCluster
from endpoint_operator.context import Context, InUse
from endpoint_operator.keys import RootKey
from endpoint_operator.kinds import DEPLOYMENT, OWN_KINDS, POD, RESOURCES
from endpoint_operator.live import Ref, ref_of
from endpoint_operator.reconcile import reconcile_endpoint
from endpoint_operator.settings import load_settings
from endpoint_operator.upgrades import Slots
from endpoint_operator.watches import MANAGED
from helpers.operator_process import RELEASE
from kube_api import Config, Conflict, KubeClient

SETTINGS = load_settings(RELEASE.environment("operator"))
FOLLOWED = [kind for kind in RESOURCES if kind != "ApiKey"]
# what may come to be said, and what is not read any more, once the controllers have worked
LATER = "/status |^DELETE .*/(configmaps|secrets|persistentvolumeclaims)/"


class Recorder(KubeClient):
    """A client that notes what it has written."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, user_agent="operator")
        self.writes: list[str] = []

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request."""
        answer = await super().request(method, path, **options)
        if method != "GET":
            self.writes.append(f"{method} {path} {options.get('body')}")
        return answer


class SteppedOperator:
    """An operator that serves one endpoint; ``stepping`` makes it."""

    def __init__(self, api: Recorder, endpoint: Ref) -> None:
        self._api, self._endpoint = api, endpoint
        self._reports: object = None
        self._begin()

    async def restart(self) -> None:
        """Forget everything."""
        await self.stop()
        self._begin()

    async def stop(self) -> None:
        """Follow nothing any more."""
        self._stopped.set()
        self._cluster.release(self._endpoint)
        await self._following

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._cluster.follow_references(tasks, changed=self._context.settled.forget)
            await self._stopped.wait()

    def _begin(self) -> None:
        self._stopped = asyncio.Event()
        self._cluster = ApiCluster(self._api, SETTINGS.release_namespace)
        self._context = Context(
            cluster=self._cluster,
            settings=SETTINGS,
            in_use=InUse(RootKey(b"r" * 32)),
            clock=time.time,
            entropy=lambda size: b"e" * size,
            slots=Slots(1),
        )
        self._following = asyncio.create_task(self._follow())

    async def look(self) -> bool:
        """See everything as it is now; return whether the controllers had something new to say."""
        listed = await asyncio.gather(*map(self._list, FOLLOWED))
        found = {ref_of(body): body for body in itertools.chain(*listed)}
        for kind in FOLLOWED:
            for known in self._cluster.of_kind(kind):
                if known.ref not in found:
                    self._cluster.observe("DELETED", known.object | {"kind": kind})
        for body in found.values():
            self._cluster.observe("ADDED", body)
        before = self._reports
        self._reports = [
            (live.ref, live.reported, live.wanted if kind == POD else b"")
            for kind in (DEPLOYMENT, POD)
            for live in sorted(self._cluster.of_kind(kind), key=lambda live: live.ref)
        ]
        return before != self._reports

    async def step(self) -> list[str]:
        """Reconcile by what was seen; return what that wrote."""
        self._api.writes.clear()
        while True:
            try:
                await reconcile_endpoint(self._context, self._endpoint)
            except Conflict:
                await self.look()
            else:
                return list(self._api.writes)

    async def settle(self) -> None:
        """Take the one step that does everything, and go on until nothing is left to be said.

        Fails if a later step changes more than a status, or what pods no longer read; or if it
        writes although the controllers have done nothing since the last one.
        """
        await self.look()
        await self.step()
        await self.rest()

    async def rest(self) -> None:
        """Do what ``settle`` does after its first step."""
        writes = ["nothing yet"]
        while writes:
            moved = await self.look()
            writes = await self.step()
            more = [each for each in writes if not re.search(LATER, each)]
            assert not more, more
            assert moved or not writes, writes

    async def _list(self, kind: str) -> list[dict[str, Any]]:
        selector = "" if kind in OWN_KINDS else MANAGED
        return await self._api.list(
            RESOURCES[kind], self._endpoint.namespace, label_selector=selector
        )


@asynccontextmanager
async def stepping(config: Config, endpoint: Ref) -> AsyncIterator[SteppedOperator]:
    """An operator that serves one endpoint."""
    async with Recorder(config) as api:
        operator = SteppedOperator(api, endpoint)
        try:
            yield operator
        finally:
            await operator.stop()
