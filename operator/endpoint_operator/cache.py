"""What the operator last saw of the cluster: objects by kind, namespace and name.

``cluster`` fills it from watches and from the answers to our own writes, whichever is newer, so
that a reconcile reads its own writes. Pure memory: no I/O and no decision. Objects are kept as JSON
(decoded they take five times the room), without managedFields but for the two facts we need of
them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from endpoint_operator import names

Object = dict[str, Any]


@dataclass(frozen=True, order=True, slots=True)
class Ref:
    """The address of an object; namespace and name are empty for a thing that is one of a kind."""

    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who controls an object: all of it has to fit, since anybody may write a reference.

    The group without its version: a reference stays when the API gets a new version.
    """

    group: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Live:
    """An object as it was last seen; ``slim`` makes it.

    ``owns_replicas``: our applied set has ``spec.replicas``, so leaving it out would remove it.
    ``applied``: our field manager has applied the object, so we made it or took it over.
    ``wanted`` is the JSON of what somebody wants (metadata, spec, data: everything that has no
    part of its own here), ``reported`` that of the status. ``wanted`` has no resource version, so
    that it is the same bytes when only the status changed.
    """

    ref: Ref
    uid: str
    version: int
    generation: int
    deleting: bool
    controller: Owner | None
    owns_replicas: bool
    applied: bool
    wanted: bytes = field(repr=False)
    reported: bytes = field(repr=False)

    @property
    def object(self) -> Object:
        """The object, fresh at each access: what a caller changes stays its own."""
        body: Object = orjson.loads(self.wanted)
        body["metadata"]["resourceVersion"] = str(self.version)
        return body | ({"status": self.status} if self.reported else {})

    @property
    def status(self) -> Object:
        """The object's status, fresh at each access; empty if it has none."""
        return orjson.loads(self.reported) if self.reported else {}

    def controls(self, other: Live) -> bool:
        """Return whether this object, and no other of its name, controls the other one."""
        return other.controller == self.as_owner()

    def as_owner(self) -> Owner:
        """Return what a reference to this object of ours says."""
        return Owner(names.GROUP, self.ref.kind, self.ref.namespace, self.ref.name, self.uid)


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
        if live.controller:
            self._owned[live.controller].add(live.ref)
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
    # thousands of objects say the same few words
    return Ref(sys.intern(obj["kind"]), sys.intern(meta.get("namespace", "")), meta["name"])


def slim(obj: Object) -> Live:
    """Return an object as it is kept."""
    meta, ref = obj["metadata"], ref_of(obj)
    dropped = ("managedFields", "resourceVersion")
    kept = {key: value for key, value in meta.items() if key not in dropped}
    wanted = {key: value for key, value in obj.items() if key != "status"} | {"metadata": kept}
    ours = list(filter(_is_our_apply, meta.get("managedFields", ())))
    return Live(
        ref=ref,
        uid=meta.get("uid", ""),
        # Kubernetes 1.33 and newer count resource versions upwards
        version=int(meta["resourceVersion"]),
        generation=meta.get("generation", 0),
        deleting="deletionTimestamp" in meta,
        controller=_controller(meta, ref.namespace),
        owns_replicas=any(map(_has_replicas, ours)),
        applied=bool(ours),
        wanted=orjson.dumps(wanted),
        reported=orjson.dumps(obj["status"]) if obj.get("status") else b"",
    )


def _controller(meta: Object, namespace: str) -> Owner | None:
    """Return who controls an object; an owner is always in the namespace of what it owns."""
    owners = meta.get("ownerReferences", ())
    found = next((owner for owner in owners if owner.get("controller")), None)
    if found is None:
        return None
    group = sys.intern(found.get("apiVersion", "").rpartition("/")[0])
    kind = sys.intern(found.get("kind", ""))
    return Owner(group, kind, namespace, found["name"], found["uid"])


def _is_our_apply(entry: Object) -> bool:
    return entry.get("manager") == names.MANAGER and entry.get("operation") == "Apply"


def _has_replicas(entry: Object) -> bool:
    return "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
