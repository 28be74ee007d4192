"""What the operator last saw of the cluster: objects by kind, namespace and name.

``cluster`` fills it from watches and from the answers to our own writes, whichever is newer, so
that a reconcile reads its own writes. Pure memory: no I/O and no decision. Objects are kept
without managedFields, which are half of their size, but for the two facts we need from them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from endpoint_operator import names

Object = dict[str, Any]


@dataclass(frozen=True, order=True)
class Ref:
    """The address of an object; namespace and name are empty for a thing that is one of a kind."""

    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Owner:
    """Who controls an object: all of it has to fit, since anybody may write a reference.

    The group without its version: a reference stays when the API gets a new version.
    """

    group: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Live:
    """An object as it was last seen.

    ``owns_replicas``: our applied set has ``spec.replicas``, so leaving it out would remove it.
    ``applied``: our field manager has applied the object, so we made it or took it over.
    """

    object: Object
    owns_replicas: bool = False
    applied: bool = False

    @cached_property
    def ref(self) -> Ref:
        """The object's address."""
        return ref_of(self.object)

    @property
    def uid(self) -> str:
        """The object's identity: another object of the same name has another."""
        return str(self.object["metadata"]["uid"])

    @property
    def version(self) -> int:
        """The object's resource version, which Kubernetes 1.33 and newer count upwards."""
        return int(self.object["metadata"]["resourceVersion"])

    @property
    def generation(self) -> int:
        """How often the spec was changed; 0 for kinds that don't count it."""
        return int(self.object["metadata"].get("generation", 0))

    @property
    def deleting(self) -> bool:
        """Whether the object is only waiting for finalizers."""
        return "deletionTimestamp" in self.object["metadata"]

    @property
    def controller(self) -> Owner | None:
        """Who controls the object; an owner is always in the namespace of what it owns."""
        owners = self.object["metadata"].get("ownerReferences", ())
        found = next((owner for owner in owners if owner.get("controller")), None)
        return found and _owner(found, self.ref.namespace, found["name"], found["uid"])

    def controls(self, other: Live) -> bool:
        """Return whether this object, and no other of its name, controls the other one."""
        return other.controller == self.as_owner()

    def as_owner(self) -> Owner:
        """Return what a reference to this object says."""
        return _owner(self.object, self.ref.namespace, self.ref.name, self.uid)


class Cache:
    """The newest known version of each object, also by owner."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Ref, Live]] = defaultdict(dict)
        self._owned: dict[Owner, set[Ref]] = defaultdict(set)

    def get(self, ref: Ref) -> Live | None:
        """Return an object, or None if there is none that we know of."""
        return self._objects[ref.kind].get(ref)

    def of_kind(self, kind: str) -> Iterator[Live]:
        """Yield every known object of a kind."""
        yield from list(self._objects[kind].values())

    def owned_by(self, owner: Live) -> list[Live]:
        """Return the known objects that an owner controls, in a stable order."""
        refs = sorted(self._owned.get(owner.as_owner(), ()))
        return [live for ref in refs if (live := self.get(ref)) is not None]

    def put(self, live: Live) -> bool:
        """Remember an object unless a newer version is known; return whether it was news."""
        known = self.get(live.ref)
        if known is not None and known.version >= live.version:
            return False
        if known is not None:
            self._forget(known)
        self._objects[live.ref.kind][live.ref] = live
        if owner := live.controller:
            self._owned[owner].add(live.ref)
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
        return True

    def _forget(self, live: Live) -> None:
        del self._objects[live.ref.kind][live.ref]
        if owner := live.controller:
            self._owned[owner].discard(live.ref)
            if not self._owned[owner]:
                del self._owned[owner]


def ref_of(obj: Object) -> Ref:
    """Return the address of an object."""
    meta = obj["metadata"]
    return Ref(obj["kind"], meta.get("namespace", ""), meta["name"])


def slim(obj: Object) -> Live:
    """Return an object as it is kept: without managedFields."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    ours = list(filter(_is_our_apply, obj["metadata"].get("managedFields", ())))
    return Live(obj | {"metadata": meta}, any(map(_has_replicas, ours)), applied=bool(ours))


def _is_our_apply(entry: Object) -> bool:
    return entry.get("manager") == names.MANAGER and entry.get("operation") == "Apply"


def _has_replicas(entry: Object) -> bool:
    return "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})


def _owner(source: Object, namespace: str, name: str, uid: str) -> Owner:
    group = source.get("apiVersion", "").rpartition("/")[0]
    return Owner(group, source.get("kind", ""), namespace, name, uid)
