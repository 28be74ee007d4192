"""What people and programs do to an endpoint and its children, by the same dice again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from endpoint_operator import names
from endpoint_operator.kinds import MANAGED_KINDS, POD, RESOURCES
from endpoint_operator.live import Ref, ref_of
from helpers.live_cluster import JSON_PATCH, USER, LiveCluster
from helpers.random_specs import Generator
from kube_api import Conflict, Invalid, NotFound

Object = dict[str, Any]
Path = tuple[str | int, ...]

FOREIGN: Final = "foreign"
"""What names of things begin with that are none of ours."""
TEMPLATE: Final = "a"
"""The ConfigMap that specs refer to."""
MERGE_KEYS: Final = ("name", "mountPath", "uid")


def owned(fields: Object, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield what managed fields say somebody owns of an object: where it is, and what."""
    for key, inner in fields.items():
        step = _step(key, value)
        if step is None:
            continue
        yield (*path, step), value[step]
        yield from owned(inner, value[step], (*path, step))


def _step(key: str, value: Any) -> str | int | None:
    """Return name or index of a field or an item, if it still exists."""
    sign, _, said = key.partition(":")
    if sign == "f":
        return said if isinstance(value, dict) and said in value else None
    if sign not in ("k", "v") or not isinstance(value, list):
        return None
    wanted = json.loads(said)
    for index, item in enumerate(value):
        if item == wanted or (sign == "k" and wanted.items() <= item.items()):
            return index
    return None


def ours(body: Object) -> list[tuple[Path, Any]]:
    """Return what is ours of a child, but for owners and what items of lists are known by."""
    entries = [
        each for each in body["metadata"]["managedFields"] if each["manager"] == "vllm-endpoints"
    ]
    found = [
        each
        for entry in entries
        if "subresource" not in entry
        for each in owned(entry["fieldsV1"], body)
    ]
    return [
        (path, value)
        for path, value in found
        if path[:2] != ("metadata", "ownerReferences")
        and path[-1] not in MERGE_KEYS
        and len(path) > 1
    ]


@dataclass
class Damage:
    """Does random harm to one endpoint; ``done`` tells what it was."""

    cluster: LiveCluster
    endpoint: Ref
    specs: Generator
    done: list[str] = field(default_factory=list)
    referred: bool = False
    """Whether the ConfigMap changed that specs refer to, which is seen by no listing."""

    @property
    def dice(self) -> random.Random:
        """What decides."""
        return self.specs.random

    async def happen(self) -> None:
        """Do one thing."""
        what = self.dice.choice(
            [
                *(self._delete, self._change, self._change, self._change, self._add),
                *(self._add, self._orphan, self._leave, self._edit, self._report, self._refer),
            ]
        )
        try:
            await what()
        except (Invalid, Conflict, NotFound) as error:
            self.done.append(f"    refused: {error.message[:200]}")

    async def children(self) -> list[Object]:
        """Return the children that exist, in a stable order."""
        return [
            body
            for kind in MANAGED_KINDS
            if kind != POD
            for body in await self.cluster.api.list(
                RESOURCES[kind],
                self.endpoint.namespace,
                label_selector=f"{names.ENDPOINT}={self.endpoint.name}",
            )
            if "deletionTimestamp" not in body["metadata"]
        ]

    async def _child(self) -> Object:
        return self.dice.choice(await self.children())

    def _note(self, *what: object) -> None:
        self.done.append(" ".join(map(str, what)))

    async def _delete(self) -> None:
        ref = ref_of(await self._child())
        self._note("delete", ref)
        await self.cluster.delete(ref)
        await self.cluster.gone(ref)

    async def _change(self) -> None:
        """Change or remove something of ours, as kubectl edit does."""
        body = self.dice.choice(list(filter(ours, await self.children())))
        path, value = self.dice.choice(ours(body))
        ways = [other for other in _others(value) if other != value]
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
        operation: Object = {"op": "remove", "path": pointer}
        if ways and self.dice.random() < 0.7:
            operation = {"op": "replace", "path": pointer, "value": self.dice.choice(ways)}
        self._note("change", ref_of(body), operation)
        await self._patch(ref_of(body), operation)

    async def _add(self) -> None:
        """Add fields by another field manager."""
        body = await self._child()
        meta = {key: body["metadata"][key] for key in ("name", "namespace")}
        notes = {f"{FOREIGN}/note": str(self.dice.randrange(9))}
        applied = {key: body[key] for key in ("apiVersion", "kind")}
        applied["metadata"] = meta | {"annotations": notes, "labels": notes}
        if body["kind"] == "Deployment":
            applied["spec"] = {"template": self._additions()}
        self._note("add", json.dumps(applied))
        await self.cluster.apply(applied)

    def _additions(self) -> Object:
        sidecar = {"name": f"{FOREIGN}-sidecar", "image": "sidecar:1"}
        variable = {"name": f"{FOREIGN}-variable", "value": "1"}
        engine = {"name": names.ENGINE_CONTAINER, "env": [variable]}
        volume = {"name": f"{FOREIGN}-volume", "emptyDir": {}}
        containers = self.dice.choice([[sidecar], [engine], [engine, sidecar], []])
        spec: Object = {"containers": containers, "volumes": [volume]}
        return {"metadata": {"annotations": {f"{FOREIGN}/pod": "1"}}, "spec": spec}

    async def _orphan(self) -> None:
        ref = ref_of(await self._child())
        self._note("orphan", ref)
        await self.cluster.patch(ref, {"metadata": {"ownerReferences": None}})

    async def _leave(self) -> None:
        """Leave a child behind that nobody wants, as another version of the operator may."""
        body = await self._child()
        kept = {key: body["metadata"].get(key) for key in ("labels", "ownerReferences")}
        meta = kept | {
            "namespace": self.endpoint.namespace,
            "name": f"old-{body['metadata']['name']}",
        }
        rest = {key: value for key, value in body.items() if key not in ("metadata", "status")}
        if body["kind"] == "Service":
            rest["spec"] = {
                key: value for key, value in rest["spec"].items() if "lusterIP" not in key
            }
        self._note("leave", meta["name"])
        await self.cluster.create(rest | {"metadata": meta})

    async def _edit(self) -> None:
        spec = self.specs.good_spec()
        self._note("edit", json.dumps(spec))
        await self._patch(self.endpoint, {"op": "replace", "path": "/spec", "value": spec})

    async def _report(self) -> None:
        """Write nonsense into the endpoint's status, or nothing at all."""
        nonsense = {"servedNames": ["nonsense"], "engineNames": ["nonsense"], "replicas": 7}
        status = self.dice.choice([None, nonsense, {"conditions": None}, {"phase": "Ready"}])
        self._note("status", status)
        await self.cluster.patch(self.endpoint, {"status": status}, subresource="status")

    async def _refer(self) -> None:
        """Change the ConfigMap that specs may refer to."""
        text = str(self.dice.randrange(9))
        self._note("template", text)
        self.referred = True
        await self.cluster.patch(
            Ref("ConfigMap", self.endpoint.namespace, TEMPLATE), {"data": {"b": text}}
        )

    async def _patch(self, ref: Ref, *operations: Object) -> None:
        await self.cluster.api.request(
            "PATCH",
            RESOURCES[ref.kind].path(ref.namespace, ref.name),
            params={"fieldManager": USER},
            body=list(operations),
            content_type=JSON_PATCH,
        )


def _others(value: Any) -> list[Any]:
    """Return other values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 0]
    if isinstance(value, str):
        return [f"{value}x", "x", "1"]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [value[:-1], [*value, "x"]]
    return []
