"""The operator's only door to the API server: a cache to read and a few verbs to write.

``reconcile`` and ``apikeys`` see the ``Cluster`` protocol, tests give them one in memory;
``ApiCluster`` is the real one. It decides nothing. Every answer to a write goes into the cache
before the caller gets it, so that the next reconcile knows of it without waiting for the watch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from endpoint_operator import names
from endpoint_operator.cache import Cache, Live, Object, Ref, ref_of, slim
from endpoint_operator.errors import MissingKindError
from kube_api import Conflict, Forbidden, Invalid, KubeClient, NotFound, Resource, watch

logger = logging.getLogger(__name__)

INFERENCE_ENDPOINT: Final = "InferenceEndpoint"
API_KEY: Final = "ApiKey"
DEPLOYMENT: Final = "Deployment"
CONFIG_MAP: Final = "ConfigMap"
SECRET: Final = "Secret"  # noqa: S105 - a kind of object
CLAIM: Final = "PersistentVolumeClaim"
NETWORK_POLICY: Final = "NetworkPolicy"
DISRUPTION_BUDGET: Final = "PodDisruptionBudget"

RESOURCES: Final = {
    resource.kind: resource
    for resource in (
        Resource(names.GROUP, names.VERSION, "inferenceendpoints", INFERENCE_ENDPOINT),
        Resource(names.GROUP, names.VERSION, "apikeys", API_KEY),
        Resource("apps", "v1", "deployments", DEPLOYMENT),
        Resource("", "v1", "services", "Service"),
        Resource("", "v1", "configmaps", CONFIG_MAP),
        Resource("", "v1", "secrets", SECRET),
        Resource("", "v1", "persistentvolumeclaims", CLAIM),
        Resource("networking.k8s.io", "v1", "networkpolicies", NETWORK_POLICY),
        Resource("policy", "v1", "poddisruptionbudgets", DISRUPTION_BUDGET),
    )
}
"""Every kind that the operator touches, by its name."""

OWN_KINDS: Final = (INFERENCE_ENDPOINT, API_KEY)
CHILD_KINDS: Final = tuple(kind for kind in RESOURCES if kind not in OWN_KINDS)

NEVER_AGAIN: Final = "1"
"""The version of an empty cluster, which is given to no object."""

MANAGED: Final = f"{names.MANAGED_BY}={names.MANAGER}"


class Cluster(Protocol):
    """What reconciling needs of a cluster. Every write may raise kube_api's ApiErrors."""

    def get(self, ref: Ref) -> Live | None:
        """Return what was last seen of an object, without asking."""

    def of_kind(self, kind: str) -> Iterator[Live]:
        """Yield what was last seen of every object of a kind."""

    def owned_by(self, owner: Live) -> list[Live]:
        """Return what was last seen of the objects that an owner controls."""

    async def read(self, ref: Ref) -> Live | None:
        """Ask for an object; None if there is none."""

    async def apply(self, obj: Object, *, over: Live | None) -> Live:
        """Own and set the given fields of this very object; create it where that is None.

        Raises Conflict where another object has the name.
        """

    async def delete(self, live: Live) -> None:
        """Delete this very object, if it still exists."""

    async def scale(self, live: Live, replicas: int) -> None:
        """Write a Deployment's number of replicas through its scale subresource."""

    async def write_status(self, live: Live, changed: Object) -> None:
        """Change fields of this very version's status; one that is gone needs none."""


class ApiCluster:
    """A real cluster."""

    def __init__(self, api: KubeClient) -> None:
        self._api = api
        self._cache = Cache()

    def get(self, ref: Ref) -> Live | None:
        """Return what was last seen of an object."""
        return self._cache.get(ref)

    def of_kind(self, kind: str) -> Iterator[Live]:
        """Yield what was last seen of every object of a kind."""
        return self._cache.of_kind(kind)

    def owned_by(self, owner: Live) -> list[Live]:
        """Return what was last seen of the objects that an owner controls."""
        return self._cache.owned_by(owner)

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
        live = slim(obj)
        if ref.kind not in OWN_KINDS and _is_managed(obj) and self._is_kept(live):
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
        except (Invalid, Forbidden) as error:
            if "metadata.uid: " in error.message:
                raise Conflict(error.status, error.message, reason=error.reason) from error
            logger.warning("the API server refuses %s: %s", ref, error)
            raise
        logger.info("applied %s", ref)
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
        """Write a Deployment's number of replicas; the watch brings the result."""
        await self._patch(live.ref, {"spec": {"replicas": replicas}}, "scale")
        logger.info("scaled %s to %d", live.ref, replicas)

    async def write_status(self, live: Live, changed: Object) -> None:
        """Change fields of this very object's status, and remember the answer.

        An object that is gone is forgotten, so that nothing more is made for it. Raises Conflict
        where the object changed meanwhile, or another one has its name (the version says so; a uid
        in the patch of a status means nothing to the API server). A status that breaks the CRD's
        rules is logged and given up until something changes.
        """
        patch = {"metadata": {"resourceVersion": str(live.version)}, "status": changed}
        try:
            answer = slim(await self._patch(live.ref, patch, "status"))
        except NotFound:
            self._cache.remove(live)  # kopf's watch does not report it if it was interrupted
            return
        except Invalid as error:
            # a fault of ours: the same again would be refused for ever
            logger.error("the API server refuses the status of %s: %s", live.ref, error)
            return
        if self._cache.get(live.ref) is not None:
            self._cache.put(answer)

    async def load(self, kind: str) -> None:
        """Read every object of a kind into the cache. Raises MissingKindError."""
        try:
            found = await self._api.list(RESOURCES[kind])
        except NotFound as error:
            raise MissingKindError(
                f"the cluster does not know {kind}s ({names.API_VERSION}): install the CRDs (crds/)"
            ) from error
        for obj in found:
            self._remember(obj)

    async def follow(
        self, kind: str, *, changed: Callable[[Live], None], synced: Callable[[], None]
    ) -> None:
        """Keep the cache of our children of one kind up to date, for ever.

        Calls ``changed`` with each that is news, also with what it was before if it was another
        owner's then, and ``synced`` after each complete list. Raises Forbidden if the first list
        is refused.
        """
        async for event in watch(self._api, RESOURCES[kind], label_selector=MANAGED):
            if event.type == "SYNCED":
                synced()
                continue
            before = self._cache.get(ref_of(event.object))
            if live := self.observe(event.type, event.object):
                changed(live)
                if before is not None and before.controller != live.controller:
                    changed(before)

    def observe(self, kind: str | None, obj: Object) -> Live | None:
        """Take note of a watch event; return the object if that was news."""
        live = slim(obj)
        if kind == "DELETED":
            news = self._cache.remove(live)
        elif self._is_kept(live):
            news = self._cache.put(live)
        else:
            news = self._forget_older(live)
        return live if news else None

    def _is_kept(self, live: Live) -> bool:
        """Return whether an object concerns us: anybody may put our label on anything."""
        if live.ref.kind in (*OWN_KINDS, SECRET):
            return True  # some Secrets of ours have no owner, and an ApiKey can adopt a user's
        owner = live.controller
        return owner is not None and owner.group == names.GROUP and owner.kind in OWN_KINDS

    def _forget_older(self, live: Live) -> bool:
        known = self._cache.get(live.ref)
        return known is not None and known.version < live.version and self._cache.remove(live)

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
        live = slim(obj)
        self._cache.put(live)
        return live


def _is_managed(obj: dict[str, Any]) -> bool:
    labels: dict[str, str] = obj["metadata"].get("labels", {})
    return labels.get(names.MANAGED_BY) == names.MANAGER
