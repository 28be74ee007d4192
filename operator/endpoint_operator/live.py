"""An object as the operator keeps it: a few facts, and the rest as JSON.

``slim`` makes a ``Live`` of what the API server sends; everything that reasons about the cluster is
handed these. JSON, since decoded objects take five times the room; without managedFields, which are
half of an object, but for the two facts that we need of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from endpoint_operator import names
from endpoint_operator.kinds import DEPLOYMENT, INFERENCE_ENDPOINT, POD, SECRET
from kube_api import shallow

Object = dict[str, Any]

LARGEST_SECRET: Final = 8192
"""Bytes; ours have less. Anybody can put our label on many large ones, which would take all our
memory; so would one text of that length, and no gateway takes such a key."""


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

    ``endpoint``: the name of the endpoint whose label it bears.
    ``born``: when an endpoint was created.
    ``calls``: the names by which clients call an endpoint, as its status tells the gateway;
    ``hosts``: the hosts that lead to it.
    ``replicas``: how many a Deployment is to have.
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
    endpoint: str
    born: str
    calls: tuple[str, ...]
    hosts: tuple[str, ...]
    replicas: int
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

    @property
    def is_orphan(self) -> bool:
        """Whether we made this for an endpoint, and nobody controls it (any more)."""
        return self.applied and bool(self.endpoint) and self.controller is None

    def controls(self, other: Live) -> bool:
        """Return whether this object, and no other of its name, controls the other one."""
        return other.controller == self.as_owner()

    def as_owner(self) -> Owner:
        """Return what a reference to this object of ours says."""
        return Owner(names.GROUP, self.ref.kind, self.ref.namespace, self.ref.name, self.uid)


def at_version_of(live: Live | None, obj: Object) -> Object:
    """Return what to apply: what was decided without knowing of a change must not undo it."""
    version = {"resourceVersion": str(live.version)} if live else {}
    return obj | {"metadata": obj["metadata"] | version}


def ref_of(obj: Object) -> Ref:
    """Return the address of an object."""
    meta = obj["metadata"]
    # thousands of objects say the same few words
    return Ref(sys.intern(obj["kind"]), sys.intern(meta.get("namespace", "")), meta["name"])


def slim(obj: Object, *, release_namespace: str = "") -> Live:
    """Return an object as it is kept; of pods, and of Secrets too large to be ours, what is read.

    Those of the release's namespace are kept as they are: only administrators write there.
    """
    meta, ref = obj["metadata"], ref_of(obj)
    body = _pod(obj) if ref.kind == POD else obj
    status = body.get("status")
    wanted = _packed(_wanted(body))
    strange = ref.kind == SECRET and ref.namespace != release_namespace
    if strange and len(wanted) > LARGEST_SECRET:
        wanted = _packed(_secret(obj))
    ours = list(filter(_is_our_apply, meta.get("managedFields", ())))
    return Live(
        ref=ref,
        uid=meta.get("uid", ""),
        # Kubernetes 1.33 and newer count resource versions upwards
        version=int(meta["resourceVersion"]),
        generation=meta.get("generation", 0),
        deleting="deletionTimestamp" in meta,
        controller=_controller(meta, ref.namespace),
        endpoint=sys.intern(meta.get("labels", {}).get(names.ENDPOINT, "")),
        born=meta.get("creationTimestamp", "") if ref.kind == INFERENCE_ENDPOINT else "",
        calls=calls(ref, status or {}) if ref.kind == INFERENCE_ENDPOINT else (),
        hosts=_hosts(status or {}) if ref.kind == INFERENCE_ENDPOINT else (),
        replicas=obj.get("spec", {}).get("replicas", 1) if ref.kind == DEPLOYMENT else 0,
        owns_replicas=any(map(_has_replicas, ours)),
        applied=bool(ours),
        wanted=wanted,
        reported=_packed(status) if status else b"",
    )


def _packed(value: Object) -> bytes:
    """Return JSON in memory of its own size: orjson 3.13 keeps 16 KiB for what is one or two.

    What is too deep for orjson is cut: the model refuses it, and it must not stop all others.
    """
    try:
        packed = orjson.dumps(value)
    except orjson.JSONEncodeError:
        packed = orjson.dumps(shallow(value))
    return bytes(memoryview(packed))


def _wanted(body: Object) -> Object:
    dropped = ("managedFields", "resourceVersion")
    meta = {key: value for key, value in body["metadata"].items() if key not in dropped}
    return {key: value for key, value in body.items() if key != "status"} | {"metadata": meta}


_META = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
_POD_STATUS = (
    *("phase", "reason", "message", "conditions"),
    *("containerStatuses", "initContainerStatuses"),
)


def _pod(obj: Object) -> Object:
    """Return a tenth of a pod."""
    meta = _only(_META, obj["metadata"])
    revision = _only((names.REVISION,), obj["metadata"].get("annotations", {}))
    return {
        "metadata": meta | {"annotations": revision},
        "spec": _only(("nodeName",), obj.get("spec", {})),
        "status": _only(_POD_STATUS, obj.get("status", {})),
    }


_KEYS = (names.API_KEY_FIELD, names.PREVIOUS_API_KEY_FIELD, names.NEXT_API_KEY_FIELD)
_KEY_NOTES = (names.ROTATION, names.PREVIOUS_UNTIL, names.NEXT_FROM)


def _secret(obj: Object) -> Object:
    """Return the keys in a Secret, and what is said of them."""
    meta = obj["metadata"]
    labels = _only((names.MANAGED_BY,), meta.get("labels", {}))
    notes = _short(_KEY_NOTES, meta.get("annotations", {}))
    return {
        **_only(("apiVersion", "kind"), obj),
        "metadata": _only(_META, meta) | {"labels": labels, "annotations": notes},
        "data": _short(_KEYS, obj.get("data", {})),
    }


def _short(keys: Iterable[str], texts: Object) -> Object:
    return {key: text for key, text in _only(keys, texts).items() if len(text) <= LARGEST_SECRET}


def _only(keys: Iterable[str], source: Object) -> Object:
    return {key: source[key] for key in keys if key in source}


def calls(endpoint: Ref, status: Object) -> tuple[str, ...]:
    """Return the names by which clients call an endpoint of this status: its own is one of them."""
    served = status.get("servedNames", ())
    others = (*status.get("adapters", ()), *status.get("access", {}).get("aliases", ()))
    return tuple(dict.fromkeys((endpoint.name, *served, *others))) if served else ()


def _hosts(status: Object) -> tuple[str, ...]:
    return tuple(status.get("access", {}).get("hosts", ()))


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
