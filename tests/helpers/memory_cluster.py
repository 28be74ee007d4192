"""A cluster in memory: enough of server-side apply for the stories of the operator.

One field manager, no defaults, no controllers. What the API server really does is for the tests
under cluster/ to show. ``writes`` lists every write as (verb, Ref).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from endpoint_operator.cache import Known
from endpoint_operator.context import Context
from endpoint_operator.errors import OwnerGoneError
from endpoint_operator.live import Live, Object, Ref, ref_of, slim
from helpers import builders
from kube_api import ApiError, Conflict


class MemoryCluster(Known):
    """The Cluster protocol, with its objects at hand."""

    def __init__(self, *objects: Object) -> None:
        super().__init__()
        self._stored: dict[Ref, Live] = {}
        self._applied: dict[Ref, Object] = {}
        self._version = 0
        self.writes: list[tuple[str, Ref]] = []
        self.reads: list[Ref] = []
        self.referred: dict[Ref, Ref] = {}
        self.posted: list[Object] = []
        self.warnings: dict[str, list[Object]] = {}
        self.refusals: dict[Ref, ApiError] = {}
        self.irreplaceable: dict[Ref, ApiError] = {}
        self.unreadable: dict[Ref, ApiError] = {}
        self.before_write: Callable[[], object] = lambda: None
        self.takes_status = True
        self.closed: set[str] = set()
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object, *, seen: bool = True) -> Object:
        """Store an object as somebody else's write; ``seen``: the operator's watch reports it."""
        known = self._stored.get(ref_of(obj))
        owns_replicas = known is not None and known.owns_replicas
        live = self._store(copy.deepcopy(obj), owns_replicas=owns_replicas)
        if seen:
            self._cache.put(live)
        return live.object

    def vanish(self, ref: Ref) -> None:
        """Delete an object behind the operator's back, with no watch reporting it."""
        self._stored.pop(ref, None)
        self._applied.pop(ref, None)

    def remove(self, ref: Ref) -> None:
        """Delete an object; the operator's watch reports it."""
        self._cache.remove(self._stored.pop(ref))
        self._applied.pop(ref, None)

    def edit(self, ref: Ref, **spec: Any) -> None:
        """Change fields of an object's spec as a user does."""
        obj = self._stored[ref].object
        obj["spec"] |= spec
        obj["metadata"]["generation"] = obj["metadata"].get("generation", 1) + 1
        self.put(obj)

    def stored(self, ref: Ref) -> Object:
        """Return an object as it is now. Raises KeyError if there is none."""
        return self._stored[ref].object

    def of_this_kind(self, kind: str) -> list[Object]:
        """Return the objects of a kind as they are now."""
        return [live.object for ref, live in sorted(self._stored.items()) if ref.kind == kind]

    def is_closed(self, namespace: str) -> bool:
        """Return whether a test closed a namespace."""
        return namespace in self.closed

    async def warnings_of(self, pod: Object) -> list[Object]:
        """Return the Warning events of a pod."""
        if failure := self.unreadable.get(Ref("Event")):
            raise failure
        return self.warnings.get(pod["metadata"]["uid"], [])

    def post(self, event: Object) -> None:
        """Keep an Event."""
        self.posted.append(event)

    async def referenced(self, ref: Ref, *, by: Ref) -> Live | None:
        """Return a user's object as it is now."""
        self.referred[by] = ref
        return self._stored.get(ref)

    def last_referenced(self, by: Ref) -> Live | None:
        """Return a user's object as it is now."""
        return self._stored.get(self.referred[by]) if by in self.referred else None

    def release(self, by: Ref) -> None:
        """Take note that an object refers to nothing any more."""
        self.referred.pop(by, None)

    async def read(self, ref: Ref) -> Live | None:
        """Return an object as it is now; one that is gone is forgotten."""
        self.reads.append(ref)
        if failure := self.unreadable.get(ref):
            raise failure
        known = self._cache.get(ref)
        if known and ref not in self._stored:
            self._cache.remove(known)
        return self._stored.get(ref)

    async def apply(self, obj: Object, *, over: Live | None) -> Live:
        """Create an object, or set the given fields and remove those given last time only."""
        ref = ref_of(obj)
        if refusal := self.refusals.get(ref):
            raise refusal
        self._interfere()
        known = self._stored.get(ref)
        if (known and known.uid) != (over and over.uid):
            raise Conflict(409, "this is another object")
        self.writes.append(("apply", ref))
        wanted = obj["metadata"].get("resourceVersion")
        if known and wanted and wanted != str(known.version):
            raise Conflict(409, "the object has been modified")
        before = known.object if known else {}
        merged = copy.deepcopy(before)
        _unset(merged, self._applied.get(ref, {}), obj)
        _merge(merged, obj)
        if known and merged.get("spec") != before.get("spec"):
            merged["metadata"]["generation"] += 1
        self._applied[ref] = copy.deepcopy(obj)
        live = self._store(merged, owns_replicas="replicas" in obj.get("spec", {}))
        self._cache.put(live)
        return live

    async def replace_spec(self, obj: Object, *, over: Live) -> Live:
        """Set the whole spec; what refused to be merged can be merged then."""
        self.writes.append(("replace", over.ref))
        if refusal := self.irreplaceable.get(over.ref):
            raise refusal
        self.refusals.pop(over.ref, None)
        replaced = self._stored[over.ref].object | {"spec": copy.deepcopy(obj["spec"])}
        live = self._store(replaced, owns_replicas=over.owns_replicas)
        self._cache.put(live)
        return live

    async def delete(self, live: Live) -> None:
        """Delete an object."""
        self.writes.append(("delete", live.ref))
        self._stored.pop(live.ref, None)
        self._applied.pop(live.ref, None)
        self._cache.remove(live)

    async def scale(self, live: Live, replicas: int) -> None:
        """Set the number of replicas, which takes the field from the applied set."""
        self.writes.append(("scale", live.ref))
        obj = self._stored[live.ref].object
        obj["spec"]["replicas"] = replicas
        self._applied.get(live.ref, {"spec": {}})["spec"].pop("replicas", None)
        self._cache.put(self._store(obj))

    async def write_status(self, live: Live, changed: Object) -> bool:
        """Merge a patch into an object's status."""
        if refusal := self.refusals.get(live.ref):
            raise refusal
        known = self._stored.get(live.ref)
        if known is None:
            self._cache.remove(live)
            raise OwnerGoneError(f"{live.ref} was deleted")
        if not self.takes_status:
            return False
        self.writes.append(("status", live.ref))
        if known.version != live.version:
            raise Conflict(409, "the object has been modified")
        obj = known.object
        obj["status"] = _patched(obj.get("status", {}), changed)
        self._cache.put(self._store(obj))
        return True

    def _interfere(self) -> None:
        """Do once what somebody else does just before a write of ours."""
        interfere, self.before_write = self.before_write, lambda: None
        interfere()

    def _store(self, obj: Object, *, owns_replicas: bool = False) -> Live:
        self._version += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("uid", f"uid-of-{obj['kind']}-{meta['name']}-{self._version}")
        meta.setdefault("generation", 1)
        applied = ref_of(obj) in self._applied
        live = slim(obj, release_namespace=builders.RELEASE_NAMESPACE)
        live = replace(live, owns_replicas=owns_replicas, applied=applied)
        self._stored[live.ref] = live
        return live


def _unset(target: Any, before: Any, after: Any) -> None:
    for key, value in before.items() if isinstance(target, dict) else ():
        if key not in after:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(after[key], dict):
            _unset(target.get(key, {}), value, after[key])


def _patched(before: Object, patch: Object) -> Object:
    """Return what a JSON merge patch makes of a value."""
    merged = before | {
        key: _patched(before.get(key, {}), value) if isinstance(value, dict) else value
        for key, value in patch.items()
    }
    return {key: value for key, value in merged.items() if value is not None}


def _merge(target: Object, given: Object) -> None:
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


MakeContext = Callable[[MemoryCluster], Context]
"""Makes the context of an operator on a cluster in memory."""
