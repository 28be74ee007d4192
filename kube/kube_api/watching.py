"""One endless stream of changes per kind: list, then watch, for ever.

Both parts of the product keep a picture of the cluster from such streams. A stream survives
the API server's restarts, compaction and silent connections: what was missed is made up for by
a new list, whose differences are reported as if they had been watched. Consumers never see an
error, but for a permission that was missing from the start.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import aiohttp
import orjson

from kube_api.client import KubeClient, selectors
from kube_api.errors import ApiError, Gone, from_status
from kube_api.resources import Object, Resource

logger = logging.getLogger("kube_api")

EventType = Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
Key = tuple[str, str]

# The server ends each watch after about a minute, with a bookmark, and the next one goes on from
# there: a connection that is silent for longer is dead. (Between changes it may send nothing.)
WATCH_SECONDS = (50, 60)
SILENCE = aiohttp.ClientTimeout(total=None, connect=5, sock_read=75)
# a version that is compacted, or (after a restored backup) one that the server has not reached:
# list again. A server that is only busy is not asked for everything.
TOO_OLD_OR_TOO_NEW = (400, 410, 504)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 5.0


@dataclass(frozen=True)
class Event:
    """A change of one object, or SYNCED (``object`` is empty): a complete list was delivered."""

    type: EventType
    object: Object


class Watch:
    """The state of one stream: what was last reported, and where to go on."""

    def __init__(
        self, api: KubeClient, resource: Resource, namespace: str | None, params: dict[str, str]
    ) -> None:
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._params = params
        self._known: dict[Key, Object] = {}
        self._version = ""
        self._pause = FIRST_PAUSE_SECONDS
        self._synced_once = False

    async def events(self) -> AsyncIterator[Event]:
        """Yield changes for ever; see ``watch``."""
        while True:
            try:
                if not self._version:
                    for event in await self._relist():
                        yield event
                async for event in self._stream():
                    yield event
                await asyncio.sleep(FIRST_PAUSE_SECONDS)  # a server that hangs up at once
            except ApiError as error:
                if error.status in (401, 403) and not self._synced_once:
                    raise
                if error.status in TOO_OLD_OR_TOO_NEW:
                    self._version = ""
                await self._wait_after(error)

    async def _relist(self) -> list[Event]:
        items, version = await self._api.list_page_by_page(
            self._resource, self._namespace, self._params
        )
        seen = {key_of(item) for item in items}
        events = [Event("DELETED", self._known[key]) for key in self._known.keys() - seen]
        events += [
            Event("MODIFIED" if key_of(item) in self._known else "ADDED", item)
            for item in items
            if _version(item) != _version(self._known.get(key_of(item)))
        ]
        for event in events:
            self._remember(event)
        self._version = version
        self._synced_once = True
        return [*events, Event("SYNCED", {})]

    async def _stream(self) -> AsyncIterator[Event]:
        params = self._params | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311 - spreads the load
        }
        path = self._resource.path(self._namespace)
        async with self._api.open("GET", path, params=params, timeout=SILENCE) as response:
            async for line in lines(response.content):
                raw = orjson.loads(line)
                kind, obj = raw["type"], raw["object"]
                if kind == "ERROR":
                    raise from_status(obj.get("code", 500), obj.get("message", ""))
                self._version = obj["metadata"]["resourceVersion"]
                self._pause = FIRST_PAUSE_SECONDS
                if kind != "BOOKMARK":
                    event = Event(kind, obj)
                    self._remember(event)
                    yield event

    def _remember(self, event: Event) -> None:
        key = key_of(event.object)
        if event.type == "DELETED":
            self._known.pop(key, None)
        else:
            self._known[key] = _identity(event.object)

    async def _wait_after(self, error: ApiError) -> None:
        first_of_outage = self._pause == FIRST_PAUSE_SECONDS
        if first_of_outage and not isinstance(error, Gone):  # compaction is everyday life
            logger.warning("watch of %s interrupted, will go on: %s", self._resource.plural, error)
        await asyncio.sleep(max(error.retry_after, self._pause * random.uniform(0.5, 1)))  # noqa: S311
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)


def watch(
    api: KubeClient,
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str = "",
    field_selector: str = "",
) -> AsyncIterator[Event]:
    """Yield every change of the selected objects, for ever.

    First ADDED for each object there is, then SYNCED, then changes as they happen. After a gap
    the differences come as ADDED, MODIFIED and DELETED events, followed by SYNCED again. The
    object of a DELETED event is complete if the deletion was watched; after a gap it holds
    apiVersion, kind and those metadata that identify it. Raises Unauthorized or Forbidden if the
    first list is refused, and nothing later.
    """
    params = selectors(label_selector, field_selector)
    return Watch(api, resource, namespace, params).events()


def key_of(obj: Object) -> Key:
    """Return (namespace, name); the namespace of cluster-wide objects is empty."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(obj: Object | None) -> str | None:
    return obj["metadata"]["resourceVersion"] if obj else None


def _identity(obj: Object) -> Object:
    kept = ("name", "namespace", "uid", "labels", "ownerReferences", "resourceVersion")
    meta = {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata": meta}


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split into lines of any length (StreamReader.readline refuses long ones)."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            yield bytes(rest) + chunk[start:end]
            rest.clear()
            start = end + 1
        rest += chunk[start:]
