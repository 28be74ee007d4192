"""A real API server with controllers and no node, and an administrator's hands on it.

Tests wait by asking again until a deadline, never by sleeping a guessed time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from endpoint_operator.kinds import RESOURCES
from endpoint_operator.live import Ref
from helpers import builders
from kube_api import Invalid, KubeClient, NotFound, Resource

Found = TypeVar("Found")
Object = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
USER: Final = "a-user"
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PODS: Final = Resource("", "v1", "pods", "Pod")
KINDS: Final = {**RESOURCES, "Namespace": NAMESPACES, "Pod": PODS}

JSON_PATCH: Final = "application/json-patch+json"
DEADLINE_SECONDS: Final = 60.0
OUR_WRITES: Final = re.compile(
    r'^apiserver_request_total\{code="20[01]"[^}]*resource="(?:inferenceendpoints|apikeys|deployments|services'
    r"|networkpolicies|poddisruptionbudgets|persistentvolumeclaims|configmaps|secrets)"
    r'"[^}]*verb="(?:APPLY|PATCH)"[^}]*\} (\d+)',
    re.MULTILINE,
)
"""Writes that only the operator makes, apart from the tests: controllers PUT, POST and DELETE."""


@dataclass(frozen=True)
class ControlPlane:
    """A started control plane."""

    name: str
    kubeconfig: Path
    kubectl_program: Path

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        command = [str(self.kubectl_program), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=60
        )

    def kill_api(self) -> None:
        """End the API server at once."""
        record = self.kubeconfig.parent / "run" / "apiserver.pid"
        os.kill(int(record.read_text().split()[0]), signal.SIGKILL)

    def start_again(self) -> None:
        """Start what does not run any more, and wait until it is ready."""
        _hack(self.name, "up", "--no-node")


@contextlib.contextmanager
def control_plane(name: str) -> Iterator[ControlPlane]:
    """Start a control plane of our own, and leave no trace of it. Fails if it is not compiled."""
    try:
        _hack(name, "up", "--no-node")
        kubeconfig, kubectl = _hack(name, "kubeconfig"), _hack(name, "which", "kubectl")
        yield ControlPlane(name, Path(kubeconfig), Path(kubectl))
    finally:
        _hack(name, "down")


def _hack(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "hack.cluster", "--name", name, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


class LiveCluster:
    """What tests do to a real cluster, as an administrator."""

    def __init__(self, api: KubeClient) -> None:
        self.api = api

    async def create(self, obj: Object) -> Object:
        """Create an object as kubectl create does."""
        return await self.api.create(KINDS[obj["kind"]], obj)

    async def refusal(self, obj: Object, *, exists: bool = False) -> str:
        """Return why a user may not create an object, or change it to this; empty if they may."""
        path = KINDS[obj["kind"]].path(obj["metadata"]["namespace"])
        params = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": USER}
        try:
            if exists:
                path += f"/{obj['metadata']['name']}"
                change = [{"op": "replace", "path": "/spec", "value": obj["spec"]}]
                await self.api.request(
                    "PATCH", path, params=params, body=change, content_type=JSON_PATCH
                )
            else:
                await self.api.request("POST", path, params=params, body=obj)
        except Invalid as refused:
            return str(refused)
        return ""

    async def apply(self, obj: Object) -> Object:
        """Apply an object as kubectl apply --server-side does."""
        return await self.api.apply(KINDS[obj["kind"]], obj, field_manager=USER)

    async def patch(self, ref: Ref, patch: Object, *, subresource: str = "") -> Object:
        """Change fields of an object as kubectl patch does."""
        return await self.api.merge_patch(
            KINDS[ref.kind],
            ref.namespace,
            ref.name,
            patch=patch,
            subresource=subresource,
            field_manager=USER,
        )

    async def delete(self, ref: Ref) -> None:
        """Delete an object as kubectl delete does, without waiting."""
        await self.api.delete(KINDS[ref.kind], ref.namespace, ref.name)

    async def get(self, ref: Ref) -> Object | None:
        """Return an object, or None."""
        try:
            return await self.api.get(KINDS[ref.kind], ref.namespace, ref.name)
        except NotFound:
            return None

    async def must_get(self, ref: Ref) -> Object:
        """Return an object that must exist."""
        return await self.api.get(KINDS[ref.kind], ref.namespace, ref.name)

    async def versions(self, *refs: Ref) -> list[str]:
        """Return the resource versions of objects."""
        objects = [await self.must_get(ref) for ref in refs]
        return [obj["metadata"]["resourceVersion"] for obj in objects]

    async def eventually(
        self,
        ref: Ref,
        holds: Callable[[Object], object] = bool,
        *,
        within: float = DEADLINE_SECONDS,
    ) -> Object:
        """Wait until an object exists and something holds of it; return it."""

        async def ask() -> Object | None:
            obj = await self.get(ref)
            return obj if obj and holds(obj) else None

        return await self.until(ask, what=f"{ref}", within=within)

    async def gone(self, ref: Ref, *, within: float = DEADLINE_SECONDS) -> None:
        """Wait until there is no such object."""

        async def ask() -> bool:
            return await self.get(ref) is None

        await self.until(ask, what=f"{ref} to go", within=within)

    async def until(
        self,
        ask: Callable[[], Awaitable[Found | None]],
        *,
        what: str,
        within: float = DEADLINE_SECONDS,
    ) -> Found:
        """Ask again until the answer is something true; return it."""
        deadline = asyncio.get_running_loop().time() + within
        while not (found := await ask()):
            assert asyncio.get_running_loop().time() < deadline, f"waited {within} s for {what}"
            await asyncio.sleep(0.05)
        return found

    async def make_pods_ready(self, namespace: str, endpoint: str, count: int) -> None:
        """Play the kubelet: say of so many pods that they are ready, as soon as they exist."""
        selector = f"serving.vllm-endpoints.dev/endpoint={endpoint}"

        async def pods() -> list[Object] | None:
            found = await self.api.list(PODS, namespace, label_selector=selector)
            return found if len(found) >= count else None

        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for pod in await self.until(pods, what=f"{count} pods of {endpoint}"):
            if builders.condition_of(pod, "Ready").get("status") == "True":
                continue
            ref = Ref("Pod", namespace, pod["metadata"]["name"])
            status = {"phase": "Running", "conditions": [ready]}
            with contextlib.suppress(NotFound):  # one that another one has replaced
                await self.patch(ref, {"status": status}, subresource="status")

    async def writes(self) -> int:
        """Return how many writes of the kinds that the operator makes the API server has seen."""
        async with self.api.open("GET", "/metrics") as response:
            text = (await response.read()).decode()
        return sum(int(count) for count in OUR_WRITES.findall(text))
