"""Leadership: of several operators one works, and a Lease in the release's namespace says which.

``controller`` works only while it holds the Lease; ``__main__`` hangs ``check`` before every write.
The rules are client-go's: a Lease is free if nobody holds it or if it has not changed for as long
as it says, by the clock of who looks at it, so that no two clocks have to agree; every write is
guarded by the version that was seen. It knows nothing of what is done with the leadership.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, Protocol

from endpoint_operator import names
from endpoint_operator.errors import LeadershipLostError
from endpoint_operator.settings import Settings
from kube_api import ApiError, Conflict, Forbidden, NotFound, Object, Resource, Unauthorized

logger = logging.getLogger(__name__)

LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")

LEASE_SECONDS: Final = 15
"""After so long without a change another operator takes the Lease."""
DEADLINE_SECONDS: Final = 10.0
"""After so long without a renewal the holder ends. Five seconds are left for what it has begun: a
connection that takes longer to open is given up (``kube_api``)."""
RENEW_SECONDS: Final = 2.0
ASK_SECONDS: Final = 1.0
ATTEMPT_SECONDS: Final = 3.0
"""A dead connection leaves time for an attempt with a new one; a renewal that is only slow may
still succeed until the deadline."""
RELEASE_SECONDS: Final = 1.0


class LeaseApi(Protocol):
    """What leadership needs of ``kube_api.KubeClient``, which raises ApiErrors."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Return the Lease."""

    async def create(self, resource: Resource, obj: Object) -> Object:
        """Create the Lease. Raises Conflict where there is one."""

    async def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        patch: Object,
        field_manager: str,
    ) -> Object:
        """Change the Lease. Raises Conflict where it has another version."""


class Leadership:
    """One operator's part in the election; ``clock`` counts seconds and never goes back."""

    def __init__(
        self, api: LeaseApi, settings: Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._namespace = settings.release_namespace
        self._name = settings.lease_name
        self._identity = settings.identity or f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._clock = clock
        self._lease: Object = {}
        self._changed = clock()  # when we saw it change
        self._claims = False  # whether it may be ours
        self._renewed = -math.inf  # when we began what made it ours, or kept it so

    def check(self) -> None:
        """Raise LeadershipLostError unless it is certain that nobody else leads."""
        if self._left() <= 0:
            raise LeadershipLostError(
                f"Lease {self._namespace}/{self._name} is not held, or was not renewed for"
                f" {DEADLINE_SECONDS:.0f} s: another operator may lead"
            )

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Lead while the context lasts, from when that is possible, and let another lead then.

        Raises LeadershipLostError within the context when the Lease can't be kept; Unauthorized or
        Forbidden where it can't be had.
        """
        try:
            await self._acquire()
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep(), name="lease")
                yield
                keeping.cancel()
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while True:
            if await self._take():
                logger.info("%s leads", self._identity)
                return
            await asyncio.sleep(ASK_SECONDS)

    async def _take(self) -> bool:
        """Return whether the Lease is ours now."""
        begun = self._clock()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await self._look()
                if not self._is_free():
                    return False
                self._claims = True
                await self._write(self._claim())
        except (Unauthorized, Forbidden):
            raise
        except (ApiError, TimeoutError) as error:  # a Conflict: another one was faster
            logger.warning("could not take the Lease, will try again: %s", error)
            return False
        self._renewed = begun
        return True

    async def _keep(self) -> None:
        """Renew for ever. Raises LeadershipLostError once that is not possible in time."""
        while True:
            await asyncio.sleep(min(RENEW_SECONDS, self._left()))
            await self._renew_by_attempts()

    async def _renew_by_attempts(self) -> None:
        """Begin one attempt after another until one has ended, well or not."""
        ended: set[asyncio.Task[None]] = set()
        waiting: set[asyncio.Task[None]] = set()
        try:
            while not ended:
                self.check()
                waiting.add(asyncio.create_task(self._renew()))
                ended, waiting = await asyncio.wait(
                    waiting, timeout=ATTEMPT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            for attempt in waiting:
                attempt.cancel()
        for attempt in ended:
            attempt.result()

    async def _renew(self) -> None:
        begun = self._clock()
        try:
            async with asyncio.timeout(self._left()):
                await self._write_over_ours(self._claim())
        except (ApiError, TimeoutError) as error:
            logger.warning("could not renew the Lease, will try again: %s", error)
        else:
            self._renewed = begun

    async def _release(self) -> None:
        """Let another one lead at once, unless one does already; the deadline is not far."""
        if not self._claims:
            return
        self._renewed = -math.inf
        nobody = {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._write_over_ours(nobody)
        except (ApiError, TimeoutError, LeadershipLostError) as error:
            logger.warning("the Lease is not released: %s", error)

    async def _write_over_ours(self, spec: Object) -> None:
        """Write whatever the version is; raises LeadershipLostError if it is another's by now."""
        try:
            await self._write(spec)
        except (Conflict, NotFound):  # or our own last write, whose answer was lost
            await self._look()
            if self._holder not in ("", self._identity):
                raise LeadershipLostError(f"{self._holder} leads now") from None
            await self._write(spec)

    async def _look(self) -> None:
        before = self._holder
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
        except NotFound:
            lease = {}
        self._remember(lease)
        if self._holder not in ("", self._identity, before):
            logger.info("%s leads, %s stands by", self._holder, self._identity)

    async def _write(self, spec: Object) -> None:
        """Create the Lease, or change the version that was seen last."""
        if self._lease:
            version = {"resourceVersion": self._lease["metadata"]["resourceVersion"]}
            patch = {"metadata": version, "spec": spec}
            written = await self._api.merge_patch(
                LEASES, self._namespace, self._name, patch=patch, field_manager=names.MANAGER
            )
        else:
            meta = {"namespace": self._namespace, "name": self._name}
            body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta}
            written = await self._api.create(LEASES, body | {"spec": spec})
        self._remember(written)

    def _remember(self, lease: Object) -> None:
        if lease.get("spec") != self._spec:
            self._changed = self._clock()
        self._lease = lease
        self._claims = self._holder == self._identity

    def _claim(self) -> Object:
        now = _now()
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS}
        if self._holder != self._identity:
            changes = self._spec.get("leaseTransitions", -1) + 1
            spec |= {"acquireTime": now, "leaseTransitions": changes}
        return spec | {"renewTime": now}

    def _is_free(self) -> bool:
        silent = self._clock() - self._changed
        lasts = self._spec.get("leaseDurationSeconds") or LEASE_SECONDS
        return self._holder in ("", self._identity) or silent > lasts

    def _left(self) -> float:
        return self._renewed + DEADLINE_SECONDS - self._clock()

    @property
    def _spec(self) -> Object:
        spec: Object = self._lease.get("spec", {})
        return spec

    @property
    def _holder(self) -> str:
        return self._spec.get("holderIdentity") or ""


def _now() -> str:
    """Return the time for people to read; nobody decides by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
