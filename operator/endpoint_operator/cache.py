"""What the operator last saw of the cluster: objects by kind, namespace and name.

``cluster`` fills it from watches and from the answers to our own writes, whichever is newer, so
that a reconcile reads its own writes. Pure memory: it does no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from endpoint_operator import names
from endpoint_operator.claimants import Age, Claimants
from endpoint_operator.kinds import INFERENCE_ENDPOINT, OWN_KINDS, POD, SECRET
from endpoint_operator.live import Live, Object, Ref, ref_of

Key = TypeVar("Key", bound=Hashable)

MOST_GONE: Final = 1024
"""How many deletions are remembered; answers to our own writes come later by seconds at most."""


class Index(Generic[Key]):
    """The addresses of objects, by something that is read of them."""

    def __init__(self, keys: Callable[[Live], Iterable[Key]]) -> None:
        self._keys = keys
        self._refs: defaultdict[Key, set[Ref]] = defaultdict(set)

    def add(self, live: Live) -> None:
        """Enter an object under its keys."""
        for key in self._keys(live):
            self._refs[key].add(live.ref)

    def discard(self, live: Live) -> None:
        """Take an object out again."""
        for key in self._keys(live):
            self._refs[key].discard(live.ref)
            if not self._refs[key]:
                del self._refs[key]

    def get(self, key: Key) -> list[Ref]:
        """Return what is entered under a key, in a stable order."""
        return sorted(self._refs.get(key, ()))


class Cache:
    """The newest known version of each object, also by owner and by label."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Ref, Live]] = defaultdict(dict)
        self._owned = Index(lambda live: [live.controller] if live.controller else [])
        self._pods = Index(lambda live: [_label(live)] if live.ref.kind == POD else [])
        self._orphans = Index(lambda live: [_label(live)] if live.is_orphan else [])
        self._indexes = (self._owned, self._pods, self._orphans)
        self._gone: dict[str, int] = {}  # the version of each deletion, by uid
        self.claimants = Claimants()

    def get(self, ref: Ref) -> Live | None:
        """Return an object, or None if there is none that we know of."""
        return self._objects[ref.kind].get(ref)

    def of_kind(self, kind: str) -> Iterator[Live]:
        """Yield every known object of a kind."""
        yield from list(self._objects[kind].values())

    def owned_by(self, owner: Live) -> list[Live]:
        """Return the known objects that an owner controls, in a stable order."""
        return self._found(self._owned.get(owner.as_owner()))

    def pods_of(self, endpoint: Ref) -> list[Live]:
        """Return the known pods that bear an endpoint's label."""
        return self._found(self._pods.get((endpoint.namespace, endpoint.name)))

    def orphans_of(self, endpoint: Ref) -> list[Live]:
        """Return the known objects that were made for an endpoint and that nobody controls."""
        if endpoint.kind != INFERENCE_ENDPOINT:
            return []
        return self._found(self._orphans.get((endpoint.namespace, endpoint.name)))

    def is_known(self, obj: Object) -> bool:
        """Return whether this version of an object, or a newer one, was seen already."""
        known = self.get(ref_of(obj))
        return known is not None and known.version >= int(obj["metadata"]["resourceVersion"])

    def observe(self, change: str | None, live: Live) -> bool:
        """Take note of a watch event; return whether it was news that concerns us.

        The end of an object of ours always is: who learned of it by asking told nobody else.
        """
        if change == "DELETED":
            self._bury(live)
            return self.remove(live) or live.ref.kind in OWN_KINDS
        if self.concerns_us(live):
            return self.put(live)
        known = self.get(live.ref)
        return known is not None and known.version < live.version and self.remove(live)

    def concerns_us(self, live: Live) -> bool:
        """Return whether to remember an object: anybody may put our label on anything."""
        kind, owner = live.ref.kind, live.controller
        if kind in (*OWN_KINDS, SECRET):
            return True  # some Secrets of ours have no owner, and an ApiKey can adopt a user's
        if kind == POD:
            return bool(live.endpoint)
        if owner is None:
            return live.is_orphan
        return owner.group == names.GROUP and owner.kind in OWN_KINDS

    def put(self, live: Live) -> bool:
        """Remember an object unless a newer version is known; return whether it was news.

        The answer to a write can come after the report that the object was deleted.
        """
        known = self.get(live.ref)
        newest = known.version if known is not None else self._gone.get(live.uid, 0)
        if newest >= live.version:
            return False
        if known is not None:
            self._forget(known)
        self._objects[live.ref.kind][live.ref] = live
        for index in self._indexes:
            index.add(live)
        self.claimants.replace(known, live)
        return True

    def remove(self, live: Live) -> bool:
        """Forget an object that was deleted; return whether it was known.

        A late report about an object whose successor of the same name is known already changes
        nothing.
        """
        known = self.get(live.ref)
        if known is None or (known.uid != live.uid and known.version > live.version):
            return False
        self._forget(known)
        self.claimants.replace(known, None)
        return True

    def _bury(self, live: Live) -> None:
        self._gone[live.uid] = live.version
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _forget(self, live: Live) -> None:
        del self._objects[live.ref.kind][live.ref]
        for index in self._indexes:
            index.discard(live)

    def _found(self, refs: Iterable[Ref]) -> list[Live]:
        return [live for ref in refs if (live := self.get(ref)) is not None]


class Known:
    """What a cluster answers without asking anybody: the part of ``Cluster`` that only reads."""

    def __init__(self) -> None:
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

    def pods_of(self, endpoint: Ref) -> list[Live]:
        """Return what was last seen of the pods that bear an endpoint's label."""
        return self._cache.pods_of(endpoint)

    def orphans_of(self, endpoint: Ref) -> list[Live]:
        """Return what was made for an endpoint and is controlled by nobody, as last seen."""
        return self._cache.orphans_of(endpoint)

    def holder(self, namespace: str, name: str) -> Age | None:
        """Return the endpoint to which a name of a namespace leads, or a host."""
        return self._cache.claimants.holder(namespace, name)

    def affected(self) -> set[Ref]:
        """Return, once, the endpoints that have a name or host whose holder changed."""
        return self._cache.claimants.affected()


def _label(live: Live) -> tuple[str, str]:
    return live.ref.namespace, live.endpoint
