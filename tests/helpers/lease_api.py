"""One Lease in memory, as the API server keeps it, and failures on demand."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable

from kube_api import Conflict, NotFound, Object, Resource


class MemoryLease:
    """Answers after ``seconds``; ``fail`` sees each request (its verb) first and may raise.

    ``lose_answers``: writes are done and never answered; ``is_silent``: nothing is even done.
    """

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.requests: list[str] = []
        self.fail: Callable[[str], None] = lambda _: None
        self.seconds = 0.01
        self.lose_answers = False
        self.is_silent = False
        self._version = 0

    @property
    def spec(self) -> Object:
        """The spec of the Lease, which must exist."""
        assert self.lease is not None
        spec: Object = self.lease["spec"]
        return spec

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Return the Lease."""
        await self._arrive("get")
        if self.lease is None:
            raise NotFound(404, f"{resource.plural} {namespace}/{name} not found")
        return copy.deepcopy(self.lease)

    async def create(self, resource: Resource, obj: Object) -> Object:
        """Create the Lease unless there is one."""
        await self._arrive("create")
        if self.lease is not None:
            raise Conflict(409, f"{resource.plural} already exists")
        return await self._answer(self._store(obj))

    async def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        patch: Object,
        field_manager: str,
    ) -> Object:
        """Change the Lease if it has the version that the patch says."""
        await self._arrive("patch")
        if self.lease is None:
            raise NotFound(404, f"{resource.plural} {namespace}/{name} not found ({field_manager})")
        if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "the object has been modified")
        spec = {**self.lease["spec"], **patch["spec"]}
        kept = {key: value for key, value in spec.items() if value is not None}
        return await self._answer(self._store({**self.lease, "spec": kept}))

    def _store(self, obj: Object) -> Object:
        self._version += 1
        meta = {**obj["metadata"], "resourceVersion": str(self._version)}
        self.lease = {**obj, "metadata": meta}
        return self.lease

    async def _arrive(self, verb: str) -> None:
        self.requests.append(verb)
        await asyncio.sleep(self.seconds)
        if self.is_silent:
            await asyncio.Event().wait()
        self.fail(verb)

    async def _answer(self, obj: Object) -> Object:
        if self.lose_answers:
            await asyncio.Event().wait()
        return copy.deepcopy(obj)
