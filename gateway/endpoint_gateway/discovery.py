"""Where endpoints and keys come from in a cluster: watches on the Kubernetes API.

Run by app. Turns objects into an immutable Catalog and a keyring, and swaps each whole; a request
that has begun keeps the one that it began with. Reads five things and writes nothing:
InferenceEndpoints, the EndpointSlices of their engines and of the gateways themselves, and the two
Secrets that the operator keeps for us. While the API server is away, or an object can't be read as
what it should be, the last that was known stays in force.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from kube_api import Event, Forbidden, Resource, key_of

from .catalog import Catalog, Keyring, Replica
from .objects import (
    ENDPOINT_LABEL,
    SERVICE_LABEL,
    Described,
    Name,
    Object,
    authorizations,
    parse_endpoint,
    parse_gateways,
    parse_keyring,
    parse_root_keys,
    parse_slice,
)

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

ENDPOINTS = Resource(
    "serving.vllm-endpoints.dev", "v1alpha1", "inferenceendpoints", "InferenceEndpoint"
)
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
SECRETS = Resource("", "v1", "secrets", "Secret")

_SETTLE_SECONDS = 0.05
"""Events come in bursts (a rollout, a restart); the catalog is built once per burst."""

_CLOSED_SECONDS = 30.0
"""How often a namespace that is closed to us is tried again."""


class Watch(Protocol):
    """How objects are watched: `kube_api.watch` with its client bound."""

    def __call__(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Event]:
        """Yield the objects, then SYNCED, then every change, without end."""


class Own(NamedTuple):
    """What is the gateway's own, by name: its namespace, Secrets and Service."""

    namespace: str
    keyring_secret: str
    root_key_secret: str
    service: str


class WatchedDirectory:
    """What the API server says, as far as it is known.

    Endpoints are those of the namespaces in `watched`, or of all. `gateways` is how many of us are
    ready, at least 1.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        own: Own,
        watched: Sequence[str] = (),
        on_change: Callable[[Catalog], None],
        on_keyring: Callable[[Keyring], None],
    ) -> None:
        self.catalog = Catalog()
        self.keyring: Keyring = {}
        self.gateways = 1
        self._watch = watch
        self._own = own
        self._watched: Sequence[str | None] = watched or (None,)
        self._on_change = on_change
        self._on_keyring = on_keyring
        self._endpoints: dict[Name, Described] = {}
        self._slices: dict[Name, tuple[Name, tuple[Replica, ...]]] = {}
        self._gateways: dict[Name, frozenset[str]] = {}
        self._root_keys: tuple[bytes, ...] = ()
        self._given_root_keys: tuple[bytes, ...] = ()
        self._has_keyring = self._has_counted = False
        self._built = False
        self._unsynced = {(kind, each) for kind in (ENDPOINTS, SLICES) for each in self._watched}
        self._pending: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> bool:
        """Say whether keyring and catalog are known, and how many gateways there are."""
        return self._built and self._has_keyring and self._has_counted

    async def run(self) -> None:
        """Follow the API server until cancelled. Raises what the watches raise (Forbidden)."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._watched:
                group.create_task(self._keep_following(ENDPOINTS, namespace))
                group.create_task(self._keep_following(SLICES, namespace))
            group.create_task(self._follow_gateways())
            group.create_task(self._follow_secret(self._own.keyring_secret, self._take_keyring))
            group.create_task(self._follow_secret(self._own.root_key_secret, self._take_root_key))

    async def _keep_following(self, resource: Resource, namespace: str | None) -> None:
        """Follow one kind in one namespace, or in all of them.

        One of several that is closed to us, as a deleted one is, does not close the others.
        """
        said = ""
        while True:
            try:
                await self._follow(resource, namespace)
            except Forbidden as error:
                if namespace in (None, self._own.namespace):
                    raise
                if str(error) != said:
                    said = str(error)
                    logger.error("no endpoint of namespace %s is served: %s", namespace, error)
                self._unsynced.discard((resource, namespace))
                self._changed()
                await asyncio.sleep(_CLOSED_SECONDS)

    async def _follow(self, resource: Resource, namespace: str | None) -> None:
        selector = ENDPOINT_LABEL if resource is SLICES else ""
        async for event in self._watch(resource, namespace=namespace, label_selector=selector):
            if event.type == "SYNCED":
                self._unsynced.discard((resource, namespace))
            elif resource is SLICES:
                _take(event, self._slices, parse_slice)
            else:
                _take(event, self._endpoints, parse_endpoint)
            self._changed()

    async def _follow_gateways(self) -> None:
        selector = f"{SERVICE_LABEL}={self._own.service}"
        async for event in self._watch(
            SLICES, namespace=self._own.namespace, label_selector=selector
        ):
            if event.type == "SYNCED":
                self._has_counted = True
            else:
                _take(event, self._gateways, parse_gateways)
                self.gateways = max(1, len(frozenset().union(*self._gateways.values())))

    async def _follow_secret(self, name: str, take: Callable[[Object], None]) -> None:
        selector = f"metadata.name={name}"
        async for event in self._watch(
            SECRETS, namespace=self._own.namespace, field_selector=selector
        ):
            if event.type in ("ADDED", "MODIFIED"):
                try:
                    take(event.object)
                except (KeyError, TypeError, ValueError) as error:
                    # no trace: it would hold the Secret's content
                    logger.error(
                        "Secret %s is not as the operator writes it (%s); the last one that was "
                        "stays in force",
                        name,
                        type(error).__name__,
                    )
            elif event.type == "DELETED":
                logger.warning("Secret %s is gone; what it held stays in force", name)

    def _take_keyring(self, secret: Object) -> None:
        document = base64.b64decode(secret["data"]["keyring.json"], validate=True)
        self.keyring = parse_keyring(document, release_namespace=self._own.namespace)
        self._has_keyring = True
        self._on_keyring(self.keyring)

    def _take_root_key(self, secret: Object) -> None:
        """Take the keys; a new one that comes alone stands beside the one that engines still have.

        The operator puts that one back into the Secret. One that is taken out later goes.
        """
        given = parse_root_keys(secret)
        if given == self._given_root_keys:
            return
        self._given_root_keys = given
        is_alone = len(given) == 1 and given[0] not in self._root_keys[:1]
        self._root_keys = given + self._root_keys[:1] if is_alone else given
        self._changed()

    def _changed(self) -> None:
        known = not self._unsynced and self._root_keys
        if known and self._pending is None:
            loop = asyncio.get_running_loop()
            delay = _SETTLE_SECONDS if self._built else 0.0
            self._pending = loop.call_later(delay, self._swap)

    def _swap(self) -> None:
        self._pending = None
        self.catalog = build_catalog(
            self._endpoints.values(), self._slices.values(), root_keys=self._root_keys
        )
        self._built = True
        self._on_change(self.catalog)


def _take(event: Event, store: dict[Name, _T], parse: Callable[[Object], _T | None]) -> None:
    """Take over what an event says of one object, which must not be able to stop all others."""
    name = key_of(event.object)
    try:
        parsed = None if event.type == "DELETED" else parse(event.object)
    except ValueError as error:
        logger.error("%s/%s is not as it should be (%s); what was known of it stays", *name, error)
        return
    if parsed is None:
        store.pop(name, None)
    else:
        store[name] = parsed


def build_catalog(
    endpoints: Iterable[Described],
    slices: Iterable[tuple[Name, tuple[Replica, ...]]],
    *,
    root_keys: Sequence[bytes],
) -> Catalog:
    """Return the catalog of these endpoints and their engines' replicas."""
    replicas: dict[Name, list[Replica]] = {}
    for owner, addresses in slices:
        replicas.setdefault(owner, []).extend(addresses)
    return Catalog.of(
        replace(
            each.endpoint,
            authorizations=authorizations(root_keys, each),
            # a pod can be in two slices for a moment
            replicas=tuple(
                sorted(set(replicas.get((each.endpoint.namespace, each.endpoint.name), ())))
            ),
        )
        for each in endpoints
    )
