"""Objects of users that endpoints refer to, each followed from the first time it is asked for.

``cluster`` has one ``References``. Objects of users bear no label of ours, and to watch all of a
kind could cost more memory than everything else: so each one that is referred to has a watch of its
own, which ends when nobody refers to it any more. Whoever refers to it is told of its changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from endpoint_operator.kinds import RESOURCES
from endpoint_operator.live import Live, Ref, slim
from kube_api import ApiError, KubeClient, Unavailable, watch

logger = logging.getLogger(__name__)

FIRST_ANSWER_SECONDS: Final = 1.0
"""How long a worker is held up; who asks is to ask again."""


@dataclass
class Followed:
    """What was last seen of an object, who refers to it, and the task that watches it."""

    known: asyncio.Event = field(default_factory=asyncio.Event)
    live: Live | None = None
    refusal: ApiError | None = None
    users: set[Ref] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class References:
    """Who refers to what; each refers to one object at most."""

    def __init__(self, api: KubeClient) -> None:
        self._api = api
        self._followed: dict[Ref, Followed] = {}
        self._referred: dict[Ref, Ref] = {}
        self._changed: Callable[[Ref], None]
        self._tasks: asyncio.TaskGroup

    def start(self, tasks: asyncio.TaskGroup, changed: Callable[[Ref], None]) -> None:
        """Watch in these tasks; call ``changed`` with whoever refers to an object that changed."""
        self._tasks, self._changed = tasks, changed

    async def get(self, ref: Ref, *, by: Ref) -> Live | None:
        """Return an object that another refers to from now on, if there is one.

        Raises Forbidden where it may not be read, Unavailable while nothing is known of it.
        """
        if self._referred.get(by) != ref:
            self.release(by)
            self._referred[by] = ref
        followed = self._followed.get(ref) or self._follow(ref)
        followed.users.add(by)
        try:
            async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                await followed.known.wait()
        except TimeoutError as error:
            raise Unavailable(0, f"no answer about {ref} yet") from error
        if followed.refusal:
            if self._followed.get(ref) is followed:
                del self._followed[ref]  # the next who asks tries again
            raise followed.refusal
        return followed.live

    def last(self, by: Ref) -> Live | None:
        """Return what was last seen of the object that another refers to."""
        ref = self._referred.get(by)
        followed = self._followed.get(ref) if ref else None
        return followed.live if followed else None

    def release(self, by: Ref) -> None:
        """Take note that an object refers to nothing any more."""
        ref = self._referred.pop(by, None)
        followed = self._followed.get(ref) if ref else None
        if ref and followed:
            followed.users.discard(by)
            if not followed.users and followed.task:
                del self._followed[ref]
                followed.task.cancel()

    def _follow(self, ref: Ref) -> Followed:
        followed = self._followed[ref] = Followed()
        followed.task = self._tasks.create_task(self._watch(ref, followed), name=f"watch {ref}")
        return followed

    async def _watch(self, ref: Ref, followed: Followed) -> None:
        selector = f"metadata.name={ref.name}"
        events = watch(self._api, RESOURCES[ref.kind], ref.namespace, field_selector=selector)
        try:
            async for event in events:
                if event.type == "SYNCED":
                    followed.known.set()
                    continue
                followed.live = None if event.type == "DELETED" else slim(event.object)
                if followed.known.is_set():
                    logger.info("%s changed", ref)
                    for user in followed.users:
                        self._changed(user)
        except ApiError as error:
            followed.refusal = error
            followed.known.set()
