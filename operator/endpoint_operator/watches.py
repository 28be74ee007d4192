"""What fills the cache: a watch of each kind, in every namespace or in those that are named.

``controller`` runs them and is told of every change. Of our own kinds all objects are watched, of
others those with our label. kopf could watch our own kinds too, but reports nothing that is deleted
while its watch is interrupted, and ends the process at most failures of a watch (ADR 0004).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from endpoint_operator import names
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.errors import MissingKindError
from endpoint_operator.kinds import OWN_KINDS, RESOURCES
from endpoint_operator.live import Live, Ref, ref_of
from endpoint_operator.settings import Settings
from kube_api import Event, Forbidden, KubeClient, Limits, NotFound, watch

logger = logging.getLogger(__name__)

MANAGED: Final = f"{names.MANAGED_BY}={names.MANAGER}"

CLOSED_SECONDS: Final = 30.0
"""How often a namespace is tried that we may not read."""

REFUSALS: Final = 8
"""So many in a row take about five seconds; an API server that is starting does not refuse longer.
"""


class Watches:
    """The watches of one operator, which tell its ``cluster`` what they see."""

    def __init__(self, api: KubeClient, cluster: ApiCluster, settings: Settings) -> None:
        self._api = api
        self._cluster = cluster
        self._namespaces = settings.namespaces or (None,)
        self._release = settings.release_namespace

    async def require(self, kind: str) -> None:
        """Raise MissingKindError if the cluster does not know a kind of ours; and ApiErrors."""
        namespace = next(filter(self._is_needed, self._namespaces))
        try:
            await self._api.request("GET", RESOURCES[kind].path(namespace), params={"limit": "1"})
        except NotFound as error:
            raise MissingKindError(
                f"the cluster does not know {kind}s ({names.API_VERSION}): install the CRDs (crds/)"
            ) from error

    async def follow(
        self, kind: str, *, changed: Callable[[Live], None], synced: Callable[[], None]
    ) -> None:
        """Keep what is known of one kind up to date, for ever.

        Calls ``changed`` with each object that is news, as it is and as it was, and ``synced`` once
        everything has been listed. Raises Forbidden if the first list is refused; but a named
        namespace that is closed to us, then or later, as a deleted one is, does not close the
        others: what is known of it is forgotten, which is news, until it can be listed again.
        """
        unsynced = set(self._namespaces)

        def listed(namespace: str | None) -> None:
            unsynced.discard(namespace)
            if not unsynced:
                synced()

        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                following = self._follow(
                    kind, namespace, changed=changed, listed=partial(listed, namespace)
                )
                group.create_task(following, name=f"watch {kind} {namespace or 'everywhere'}")

    async def refresh(self, kind: str) -> None:
        """List a kind of ours again: what was written before now is known then. Raises ApiErrors.

        A watch brings the same, but some time later; it also finds that a named namespace is
        closed, which is no error here.
        """
        for namespace in self._namespaces:
            try:
                await self._refresh(kind, namespace)
            except Forbidden as error:
                if self._is_needed(namespace):
                    raise
                logger.warning("no %s of namespace %s is listed: %s", kind, namespace, error)

    async def _refresh(self, kind: str, namespace: str | None) -> None:
        listed: set[Ref] = set()
        version = ""
        async for found, as_of in self._api.pages(RESOURCES[kind], namespace, {}):
            version = as_of
            for obj in found:
                listed.add(ref_of(obj))
                self._cluster.observe("ADDED", obj)
        for known in self._cluster.of_kind(kind):
            here = namespace in (None, known.ref.namespace)
            if here and known.ref not in listed and known.version <= int(version):
                self._cluster.observe("DELETED", known.object)

    def _is_needed(self, namespace: str | None) -> bool:
        """Return whether nothing goes without it: everywhere, or the release's own."""
        return namespace in (None, self._release)

    async def _follow(
        self,
        kind: str,
        namespace: str | None,
        *,
        changed: Callable[[Live], None],
        listed: Callable[[], None],
    ) -> None:
        while True:
            try:
                await self._follow_while_open(kind, namespace, changed=changed, listed=listed)
            except Forbidden as error:
                if self._is_needed(namespace):
                    raise
                logger.error("no %s of namespace %s is seen: %s", kind, namespace, error)
                self._cluster.closed.add((namespace or "", kind))
                for known in self._cluster.forget(kind, namespace or ""):
                    changed(known)
                listed()
                await asyncio.sleep(CLOSED_SECONDS)

    async def _follow_while_open(
        self,
        kind: str,
        namespace: str | None,
        *,
        changed: Callable[[Live], None],
        listed: Callable[[], None],
    ) -> None:
        selector = "" if kind in OWN_KINDS else MANAGED
        limits = Limits() if self._is_needed(namespace) else Limits(refusals=REFUSALS)
        async for event in watch(
            self._api, RESOURCES[kind], namespace, label_selector=selector, limits=limits
        ):
            if event.type == "SYNCED":
                self._cluster.closed.discard((namespace or "", kind))
                listed()
            else:
                self._take(event, changed)

    def _take(self, event: Event, changed: Callable[[Live], None]) -> None:
        before = self._cluster.get(ref_of(event.object))
        live = self._cluster.observe(event.type, event.object)
        if live is not None:
            for seen in (before, live):
                if seen is not None:
                    changed(seen)
