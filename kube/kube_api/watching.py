"""One endless stream of changes per kind: list, then watch, for ever.

Both parts of the product keep a picture of the cluster from such streams. A stream survives
the API server's restarts, compaction and silent connections: what was missed is made up for by
a new list, whose differences are reported as if they had been watched. Consumers never see an
error, but for a permission that is missing from the start, or for as long as they say.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, get_args

from kube_api.client import KubeClient, selectors
from kube_api.connection import Patience
from kube_api.decoding import decode
from kube_api.errors import ApiError, Gone, Unavailable, from_status
from kube_api.resources import Object, Resource

logger = logging.getLogger("kube_api")

EventType = Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
Key = tuple[str, str]

# The server ends each watch after about a minute, with a bookmark, and the next one goes on from
# there: a connection that is silent for longer is dead. (Between changes it may send nothing.)
WATCH_SECONDS = (50, 60)
LONGEST_SILENCE_SECONDS = 75.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 5.0


@dataclass(frozen=True)
class Limits:
    """What a stream bears: seconds of silence of a connection; refusals (403) in a row.

    A server that is starting refuses for a moment what it allows later.
    """

    silence: float = LONGEST_SILENCE_SECONDS
    refusals: float = inf


ENDLESS: Final = Limits()


@dataclass(frozen=True)
class Event:
    """A change of one object, or SYNCED (``object`` is empty): a complete list was delivered."""

    type: EventType
    object: Object


class Watch:
    """The state of one stream: what was last reported, and where to go on."""

    def __init__(
        self,
        api: KubeClient,
        resource: Resource,
        namespace: str | None,
        *,
        params: dict[str, str],
        limits: Limits,
    ) -> None:
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._params = params
        self._patience = Patience(silence=limits.silence)
        self._known: dict[Key, tuple[str, str]] = {}  # uid and version
        self._version = ""
        self._pause = FIRST_PAUSE_SECONDS
        self._synced_once = False
        self._refusals, self._most_refusals = 0, limits.refusals

    async def events(self) -> AsyncIterator[Event]:
        """Yield changes for ever; see ``watch``."""
        now = asyncio.get_running_loop().time
        while True:
            begun, at_least = now(), 0.0
            try:
                if not self._version:
                    async for event in self._relist():
                        yield event
                async for event in self._stream():
                    yield event
                self._refusals = 0
            except ApiError as error:
                if self._is_final(error):
                    raise
                self._take(error)
                at_least = error.retry_after
            if now() - begun > LONGEST_PAUSE_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS  # it worked for a while
            await self._rest(at_least)

    async def _relist(self) -> AsyncIterator[Event]:
        """Report differences as the list is read: decoded, it takes five times its room."""
        gone, version = set(self._known), ""
        async for items, as_of in self._api.pages(self._resource, self._namespace, self._params):
            version = as_of
            for item in items:
                known = self._known.get(key_of(item))
                gone.discard(key_of(item))
                if _identity(item) != known:
                    event = Event("MODIFIED" if known else "ADDED", item)
                    self._remember(event)
                    yield event
        for key in gone:
            event = self._lost(key, version)
            self._remember(event)
            yield event
        self._version = version
        self._synced_once = True
        yield Event("SYNCED", {})

    async def _stream(self) -> AsyncIterator[Event]:
        params = self._params | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311 - spreads the load
        }
        path = self._resource.path(self._namespace)
        async with self._api.open("GET", path, params=params, patience=self._patience) as answer:
            async for line in lines(answer.pieces()):
                event, self._version = parse(line)
                self._pause = FIRST_PAUSE_SECONDS
                if event is not None:
                    self._remember(event)
                    yield event

    def _remember(self, event: Event) -> None:
        if event.type == "DELETED":
            self._known.pop(key_of(event.object), None)
        else:
            self._known[key_of(event.object)] = _identity(event.object)

    def _lost(self, key: Key, version: str) -> Event:
        (namespace, name), (uid, _) = key, self._known[key]
        meta = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": version}
        bare = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
        return Event("DELETED", {**bare, "metadata": meta})

    def _is_final(self, error: ApiError) -> bool:
        if not self._synced_once:
            return error.status in (401, 403)
        self._refusals = self._refusals + 1 if error.status == 403 else 0
        return self._refusals >= self._most_refusals

    def _take(self, error: ApiError) -> None:
        if _is_about_the_version(error):
            self._version = ""
        first_of_outage = self._pause == FIRST_PAUSE_SECONDS
        if first_of_outage and not isinstance(error, Gone):  # compaction is everyday life
            logger.warning("watch of %s interrupted, will go on: %s", self._resource.plural, error)

    async def _rest(self, at_least: float) -> None:
        await asyncio.sleep(max(at_least, self._pause * random.uniform(0.5, 1)))  # noqa: S311
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)


def watch(
    api: KubeClient,
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str = "",
    field_selector: str = "",
    limits: Limits = ENDLESS,
) -> AsyncIterator[Event]:
    """Yield every change of the selected objects, for ever.

    First ADDED for each object there is, then SYNCED, then changes as they happen. After a gap
    the differences come as ADDED, MODIFIED and DELETED events, followed by SYNCED again. The
    object of a DELETED event is complete if the deletion was watched; after a gap it holds
    apiVersion, kind, namespace, name, uid and the last version that was known. Raises
    Unauthorized or Forbidden if the first list is refused; later only Forbidden, and only where
    ``limits`` says when.
    """
    params = selectors(label_selector, field_selector)
    return Watch(api, resource, namespace, params=params, limits=limits).events()


def parse(line: bytes) -> tuple[Event | None, str]:
    """Return what a line of a watch says of an object, if of any, and the version it leads to.

    Raises the ApiError that the line reports; Unavailable if it is none of a watch.
    """
    try:
        raw = decode(line)
        change, obj = raw["type"], raw["object"]
        if change == "ERROR":
            raise from_status(int(obj.get("code", 500)), str(obj.get("message", "")))
        version = str(obj["metadata"]["resourceVersion"])
        if change == "BOOKMARK":
            return None, version
        if change not in get_args(EventType):
            raise ValueError(change)
        key_of(obj)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(0, "a line that is no event of a watch") from error
    return Event(change, obj), version


def key_of(obj: Object) -> Key:
    """Return (namespace, name); the namespace of cluster-wide objects is empty."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _identity(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def _is_about_the_version(error: ApiError) -> bool:
    """Return whether all has to be listed again: a server that is only busy is not asked for it.

    A version can be compacted (410), or, after a restored backup, one that the server has not
    reached (504, which a busy one says too) or can't read (400).
    """
    return error.status in (400, 410) or "Too large resource version" in error.message


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Split into lines of any length."""
    rest = bytearray()
    async for chunk in pieces:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            yield bytes(rest) + chunk[start:end]
            rest.clear()
            start = end + 1
        rest += chunk[start:]
