"""The engine: watches fill the cache and the queues, workers empty the queues.

``handlers`` starts and stops it with kopf. Nothing is decided before every first list is in, since
a missing object means "create" and a missing key means "revoke"; and nothing by two operators: the
one that doesn't lead only watches.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from endpoint_operator import names
from endpoint_operator.apikeys import reconcile_api_key
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.context import Context, InUse, Outcome
from endpoint_operator.errors import LeadershipLostError, RootKeyError
from endpoint_operator.kinds import (
    API_KEY,
    DEPLOYMENT,
    INFERENCE_ENDPOINT,
    OWN_KINDS,
    POD,
    RESOURCES,
    SECRET,
)
from endpoint_operator.leader import Leadership
from endpoint_operator.listing import KEYRING, reconcile_keyring
from endpoint_operator.live import Live, Ref
from endpoint_operator.reconcile import let_go, reconcile_endpoint
from endpoint_operator.rootkey import (
    ROOT_KEY,
    ensure_root_key,
    reconcile_root_key,
    root_key_ref,
)
from endpoint_operator.settings import Settings
from endpoint_operator.telemetry import bound
from endpoint_operator.upgrades import Slots, holds_slot
from endpoint_operator.watches import Watches
from endpoint_operator.workqueue import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, WorkQueue
from kube_api import ApiError, Conflict, Gone, Unavailable

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

WORKERS: Final = 8
"""Reconciles at a time; more gain nothing, the API server is the slower part (measured)."""

KEY_WORKERS: Final = 2
"""Besides, for keys: a revocation must not stand in line behind thousands of endpoints."""

STORIES: Final = {
    INFERENCE_ENDPOINT: reconcile_endpoint,
    API_KEY: reconcile_api_key,
    KEYRING.kind: reconcile_keyring,
    ROOT_KEY.kind: reconcile_root_key,
}

LONGEST_URGENT_PAUSE_SECONDS: Final = 15.0
"""After an outage everything is late, and whatever is about keys; else a person is waited for."""


class Controller:
    """Everything that runs besides kopf; ``failure`` is why it ended, if it did by itself."""

    def __init__(
        self, cluster: ApiCluster, watches: Watches, settings: Settings, leadership: Leadership
    ) -> None:
        self._cluster = cluster
        self._watches = watches
        self._settings = settings
        self._leadership = leadership
        self._endpoints: WorkQueue[Ref] = WorkQueue()
        self._keys: WorkQueue[Ref] = WorkQueue()
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    def start(self, *, ended: Callable[[], None]) -> None:
        """Begin; ``ended`` is called if it ends by itself, which only an error can cause."""
        self._task = asyncio.create_task(self._run(), name="controller")
        self._task.add_done_callback(lambda task: self._ended(task, ended))

    async def stop(self) -> None:
        """End: whatever is half done is taken up by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        for kind in OWN_KINDS:
            await patiently(partial(self._watches.require, kind))
        async with asyncio.TaskGroup() as group:
            synced = [asyncio.Event() for _ in RESOURCES]
            for kind, event in zip(RESOURCES, synced, strict=True):
                following = self._watches.follow(kind, changed=self._wake, synced=event.set)
                group.create_task(following, name=f"watch {kind}")
            for event in synced:
                await event.wait()
            async with self._leadership.held():
                await self._lead()

    async def _lead(self) -> None:
        """Work until cancelled, as the only operator that does."""
        for kind in OWN_KINDS:  # not before: what the last leader acted on must not be news
            await patiently(partial(self._watches.refresh, kind))
        context = await self._context()
        hold_slots(context)
        self._wake_all()
        logger.info("every first list is in; reconciling")
        async with asyncio.TaskGroup() as workers:
            self._cluster.follow_references(workers, changed=self._add)
            workers.create_task(self._cluster.keep_posting(), name="events")
            for queue in (*[self._endpoints] * WORKERS, *[self._keys] * KEY_WORKERS):
                workers.create_task(self._work(context, queue))

    async def _context(self) -> Context:
        return Context(
            cluster=self._cluster,
            settings=self._settings,
            in_use=InUse(await patiently(partial(ensure_root_key, self._cluster, self._settings))),
            clock=time.time,
            entropy=secrets.token_bytes,
            slots=Slots(self._settings.upgrade_max_concurrent),
        )

    def _wake(self, live: Live) -> None:
        """Queue what a changed object concerns, and who has a name that it had or has now."""
        for ref in concerned(live, self._settings):
            self._queue_of(ref).forget(ref)
            self._add(ref)
        self._add(*self._cluster.affected())

    def _add(self, *refs: Ref) -> None:
        for ref in refs:
            self._queue_of(ref).add(ref)

    def _queue_of(self, ref: Ref) -> WorkQueue[Ref]:
        return self._endpoints if ref.kind == INFERENCE_ENDPOINT else self._keys

    def _wake_all(self) -> None:
        for kind in OWN_KINDS:
            for live in self._cluster.of_kind(kind):
                self._wake(live)
        self._add(KEYRING, ROOT_KEY)

    async def _work(self, context: Context, queue: WorkQueue[Ref]) -> None:
        while True:
            ref = await queue.get()
            try:
                with bound(kind=ref.kind, namespace=ref.namespace, name=ref.name):
                    await self._reconcile(context, queue, ref)
            finally:
                queue.done(ref)

    async def _reconcile(self, context: Context, queue: WorkQueue[Ref], ref: Ref) -> None:
        """Run one story; whatever fails is tried again later and never stops the others.

        Raises RootKeyError and LeadershipLostError, with which no story can go on.
        """
        try:
            outcome = await STORIES[ref.kind](context, ref)
        except Conflict as error:
            pause = queue.retry(ref)
            logger.debug("changed meanwhile, again in %.2f s: %s", pause, error)
        except ApiError as error:
            longest = longest_pause(ref, error)
            pause = queue.retry(ref, at_least=error.retry_after, at_most=longest)
            logger.warning("failed, again in %.2f s: %s", pause, error)
        except (RootKeyError, LeadershipLostError):
            raise
        except Exception as error:
            pause = queue.retry(ref, at_most=longest_pause(ref, error))
            logger.exception("failed unexpectedly, again in %.2f s", pause)
        else:
            self._go_on(queue, ref, outcome)
            return
        let_go(context, ref)
        self._add(*self._cluster.affected(), *context.slots.next())

    def _go_on(self, queue: WorkQueue[Ref], ref: Ref, outcome: Outcome) -> None:
        self._add(*self._cluster.affected(), *outcome.then)
        if outcome.refused and outcome.again_after is not None:
            queue.retry(ref, first=outcome.again_after)
            return
        queue.forget(ref)
        if outcome.again_after is not None:
            queue.add_after(ref, outcome.again_after)

    def _ended(self, task: asyncio.Task[None], ended: Callable[[], None]) -> None:
        if not task.cancelled():
            self.failure = task.exception()
            ended()


def hold_slots(context: Context) -> None:
    """Give the endpoints that are in the middle of an upgrade the slots that they had."""
    mark = names.UPGRADE.encode()
    for live in context.cluster.of_kind(DEPLOYMENT):
        if live.controller and mark in live.wanted and holds_slot(live.object):
            owner = live.controller
            context.slots.hold(Ref(owner.kind, owner.namespace, owner.name))


async def patiently(ask: Callable[[], Awaitable[Found]]) -> Found:
    """Ask again, after growing pauses, for as long as the API server is not there to answer."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await ask()
        except (Unavailable, Conflict, Gone) as error:
            logger.warning("failed, again in %.2f s: %s", pause, error)
            await asyncio.sleep(max(pause, error.retry_after))
            pause = min(2 * pause, LONGEST_URGENT_PAUSE_SECONDS)


def longest_pause(ref: Ref, error: Exception) -> float:
    """Return how many seconds the pauses after a failure may grow to."""
    urgent = isinstance(error, Unavailable) or ref.kind != INFERENCE_ENDPOINT
    return LONGEST_URGENT_PAUSE_SECONDS if urgent else LONGEST_PAUSE_SECONDS


def concerned(live: Live, settings: Settings) -> list[Ref]:
    """Return what has to be looked at when an object changed: itself, its owner, the keyring."""
    if live.ref == root_key_ref(settings):
        return [ROOT_KEY]
    if live.is_orphan or (live.ref.kind == POD and live.endpoint):
        return [Ref(INFERENCE_ENDPOINT, live.ref.namespace, live.endpoint)]
    owner = live.as_owner() if live.ref.kind in OWN_KINDS else live.controller
    if owner is None or owner.group != names.GROUP:
        # the keyring itself, or what an ApiKey may have adopted
        return [KEYRING] if live.ref.kind == SECRET else []
    ref = Ref(owner.kind, owner.namespace, owner.name)
    return {INFERENCE_ENDPOINT: [ref], API_KEY: [ref, KEYRING]}.get(owner.kind, [])
