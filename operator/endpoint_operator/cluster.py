"""The operator's only door to the API server: a cache to read and a few verbs to write.

``reconcile`` and ``apikeys`` see the ``Cluster`` protocol, tests give them one in memory;
``ApiCluster`` is the real one. It decides nothing. Every answer to a write goes into the cache
before the caller gets it, so that the next reconcile knows of it without waiting for the watch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from endpoint_operator import names
from endpoint_operator.cache import Known
from endpoint_operator.claimants import Age
from endpoint_operator.errors import OwnerGoneError
from endpoint_operator.kinds import OWN_KINDS, RESOURCES
from endpoint_operator.live import Live, Object, Ref, ref_of, slim
from endpoint_operator.posting import Posting
from endpoint_operator.references import References
from kube_api import (
    Conflict,
    Forbidden,
    Invalid,
    KubeClient,
    NotFound,
    Resource,
)

logger = logging.getLogger(__name__)

NEVER_AGAIN: Final = "1"
"""The version of an empty cluster, which is given to no object."""

WARNINGS: Final = Resource("", "v1", "events", "Event")
"""Under their first name: under events.k8s.io they can't be selected by their object."""


class Cluster(Protocol):
    """What reconciling needs of a cluster. Every write may raise kube_api's ApiErrors."""

    def get(self, ref: Ref) -> Live | None:
        """Return what was last seen of an object, without asking."""

    def of_kind(self, kind: str) -> Iterator[Live]:
        """Yield what was last seen of every object of a kind."""

    def owned_by(self, owner: Live) -> list[Live]:
        """Return what was last seen of the objects that an owner controls."""

    def pods_of(self, endpoint: Ref) -> list[Live]:
        """Return what was last seen of the pods that bear an endpoint's label."""

    def orphans_of(self, endpoint: Ref) -> list[Live]:
        """Return what was made for an endpoint and is controlled by nobody, as last seen."""

    def holder(self, namespace: str, name: str) -> Age | None:
        """Return the endpoint to which a name of a namespace leads, or a host."""

    def affected(self) -> set[Ref]:
        """Return, once, the endpoints that have a name or host whose holder changed."""

    def is_closed(self, namespace: str) -> bool:
        """Return whether a namespace may not be read: what it holds is not known then."""

    async def warnings_of(self, pod: Object) -> list[Object]:
        """Ask for the Warning events (v1) of this very pod."""

    async def referenced(self, ref: Ref, *, by: Ref) -> Live | None:
        """Return a user's object that another refers to; its changes are looked at from now on."""

    def last_referenced(self, by: Ref) -> Live | None:
        """Return what was last seen of the object that another refers to, without asking."""

    def release(self, by: Ref) -> None:
        """Take note that an object refers to nothing any more."""

    async def read(self, ref: Ref) -> Live | None:
        """Ask for an object; None if there is none."""

    async def apply(self, obj: Object, *, over: Live | None) -> Live:
        """Own and set the given fields of this very object; create it where that is None.

        Raises Conflict where another object has the name.
        """

    async def replace_spec(self, obj: Object, *, over: Live) -> Live:
        """Leave nothing in the spec of this very version but what is given: no field of others."""

    async def delete(self, live: Live) -> None:
        """Delete this very object, if it still exists."""

    async def scale(self, live: Live, replicas: int) -> None:
        """Write a Deployment's number of replicas through its scale subresource."""

    async def write_status(self, live: Live, changed: Object) -> bool:
        """Change fields of this very version's status; return whether that was taken.

        Raises OwnerGoneError where the object is gone.
        """

    def post(self, event: Object) -> None:
        """Create an Event (events.k8s.io/v1) some time soon, if that can be."""


class ApiCluster(Known):
    """A real cluster."""

    def __init__(self, api: KubeClient, release_namespace: str) -> None:
        super().__init__()
        self._api = api
        self._slim = partial(slim, release_namespace=release_namespace)
        self._references = References(api)
        self._posting = Posting(api)
        self.closed: set[tuple[str, str]] = set()  # namespaces and kinds that ``watches`` can't see

    def is_closed(self, namespace: str) -> bool:
        """Return whether a namespace may not be read."""
        return any(namespace == closed for closed, _ in self.closed)

    async def warnings_of(self, pod: Object) -> list[Object]:
        """Ask for the Warning events of this very pod."""
        meta = pod["metadata"]
        selector = f"involvedObject.uid={meta['uid']},type=Warning"
        return await self._api.list(WARNINGS, meta["namespace"], field_selector=selector)

    async def referenced(self, ref: Ref, *, by: Ref) -> Live | None:
        """Return a user's object that another refers to."""
        return await self._references.get(ref, by=by)

    def last_referenced(self, by: Ref) -> Live | None:
        """Return what was last seen of the object that another refers to."""
        return self._references.last(by)

    def release(self, by: Ref) -> None:
        """Take note that an object refers to nothing any more."""
        self._references.release(by)

    def follow_references(
        self, tasks: asyncio.TaskGroup, *, changed: Callable[[Ref], None]
    ) -> None:
        """Call ``changed`` from now on with whoever refers to an object that changed."""
        self._references.start(tasks, changed)

    async def read(self, ref: Ref) -> Live | None:
        """Ask for an object; a child of ours is remembered, and whatever is gone forgotten.

        News of our own kinds come by their watches only: remembered here, they would wake nobody.
        A successor that a watch reports while we ask stays.
        """
        known = self._cache.get(ref)
        try:
            obj = await self._api.get(RESOURCES[ref.kind], ref.namespace, ref.name)
        except NotFound:
            if known is not None and self._cache.get(ref) is known:
                self._cache.remove(known)
            return None
        live = self._slim(obj)
        if ref.kind not in OWN_KINDS and _is_managed(obj) and self._cache.concerns_us(live):
            self._cache.put(live)
        return live

    async def apply(self, obj: Object, *, over: Live | None) -> Live:
        """Apply an object with force: what we render is ours, whoever changed it.

        A version that no object can have any more makes the API server create, and never change;
        a uid makes it change that object, and never create or take another one's place.
        """
        ref = ref_of(obj)
        guard = {"uid": over.uid} if over else {"resourceVersion": NEVER_AGAIN}
        guarded = obj | {"metadata": guard | obj["metadata"]}
        try:
            answer = await self._api.apply(
                RESOURCES[ref.kind], guarded, field_manager=names.MANAGER
            )
        except Conflict:
            await self._look_again(over)
            raise
        except (Invalid, Forbidden) as error:
            if "metadata.uid: " in error.message:
                await self._look_again(over)
                raise Conflict(error.status, error.message, reason=error.reason) from error
            if "because it is being terminated" in error.message:
                raise OwnerGoneError(f"{ref.namespace} is being deleted") from error
            logger.warning("the API server refuses %s: %s", ref, error)
            raise
        logger.debug("applied %s", ref)
        return self._remember(answer)

    async def replace_spec(self, obj: Object, *, over: Live) -> Live:
        """Leave nothing in the spec of this very version but what is given."""
        ref = ref_of(obj)
        answer = await self._api.replace_spec(
            RESOURCES[ref.kind], obj, version=str(over.version), field_manager=names.MANAGER
        )
        logger.warning("replaced the spec of %s: ours and somebody else's can't both be", ref)
        return self._remember(answer)

    async def create(self, obj: Object) -> Live:
        """Create an object. Raises Conflict where one of its name exists."""
        ref = ref_of(obj)
        answer = await self._api.create(RESOURCES[ref.kind], obj)
        logger.info("created %s", ref)
        return self._remember(answer)

    async def delete(self, live: Live) -> None:
        """Delete this very object, guarded by its uid."""
        ref = live.ref
        try:
            await self._api.delete(RESOURCES[ref.kind], ref.namespace, ref.name, uid=live.uid)
        except NotFound:
            pass
        else:
            logger.info("deleted %s", ref)
        self._cache.remove(live)

    async def scale(self, live: Live, replicas: int) -> None:
        """Write a Deployment's number of replicas, and learn what that made of it."""
        await self._patch(live.ref, {"spec": {"replicas": replicas}}, "scale")
        logger.info("scaled %s to %d", live.ref, replicas)
        await self.read(live.ref)  # the answer is no Deployment

    async def write_status(self, live: Live, changed: Object) -> bool:
        """Change fields of this very object's status, and remember the answer.

        Raises Conflict where the object changed meanwhile, or another one has its name (the version
        says so; a uid in the patch of a status means nothing to the API server). A status that
        breaks the CRD's rules is logged and given up until something changes.
        """
        patch = {"metadata": {"resourceVersion": str(live.version)}, "status": changed}
        try:
            answer = self._slim(await self._patch(live.ref, patch, "status"))
        except NotFound as error:
            self._cache.remove(live)
            raise OwnerGoneError(f"{live.ref} was deleted") from error
        except Invalid as error:
            # a fault of ours: the same again would be refused for ever
            logger.error("the API server refuses the status of %s: %s", live.ref, error)
            return False
        if self._cache.get(live.ref) is not None:
            self._cache.put(answer)
        return True

    def post(self, event: Object) -> None:
        """Create an Event some time soon."""
        self._posting.post(event)

    async def keep_posting(self) -> None:
        """Create the Events that are posted, for ever."""
        await self._posting.keep_posting()

    def observe(self, change: str, obj: Object) -> Live | None:
        """Take note of what a watch reports; return the object if that was news."""
        if change != "DELETED" and self._cache.is_known(obj):
            return None  # mostly our own writes, which are half of all that is reported
        live = self._slim(obj)
        return live if self._cache.observe(change, live) else None

    def forget(self, kind: str, namespace: str) -> list[Live]:
        """Forget everything of a kind in a namespace; return what was known."""
        known = [live for live in self.of_kind(kind) if live.ref.namespace == namespace]
        for live in known:
            self._cache.remove(live)
        return known

    async def _look_again(self, live: Live | None) -> None:
        """Learn what became of an object that is not as we know it; its watch may never tell."""
        if live is not None:
            await self.read(live.ref)

    async def _patch(self, ref: Ref, patch: Object, subresource: str) -> Object:
        return await self._api.merge_patch(
            RESOURCES[ref.kind],
            ref.namespace,
            ref.name,
            patch=patch,
            subresource=subresource,
            field_manager=names.MANAGER,
        )

    def _remember(self, obj: Object) -> Live:
        live = self._slim(obj)
        self._cache.put(live)
        return live


def _is_managed(obj: Object) -> bool:
    labels: dict[str, str] = obj["metadata"].get("labels", {})
    return labels.get(names.MANAGED_BY) == names.MANAGER
