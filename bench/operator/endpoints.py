"""The endpoints of the benchmark, their children, and what a user does with them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from kube_api import KubeClient, Resource, watch

Object = dict[str, Any]

GROUP: Final = "serving.vllm-endpoints.dev"
ENDPOINTS: Final = Resource(GROUP, "v1alpha1", "inferenceendpoints", "InferenceEndpoint")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
CHILDREN: Final = (
    DEPLOYMENTS,
    Resource("", "v1", "services", "Service"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
)
"""Every kind that an endpoint's children may be of."""

CREATORS: Final = 16


def endpoint(namespace: str, name: str, *, replicas: int = 1) -> Object:
    """Return an endpoint as users write them."""
    return {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "model": {"source": "hf://Qwen/Qwen2.5-7B-Instruct", "servedNames": [f"qwen-{name}"]},
            "engine": {
                "image": image(0),
                "config": {"max-model-len": 8192, "gpu-memory-utilization": 0.9},
            },
            "gpu": {"count": 1},
            "resources": {"requests": {"cpu": "4", "memory": "32Gi"}},
            "replicas": replicas,
        },
    }


def image(number: int) -> str:
    """Return an engine's image; each number is another one."""
    return f"vllm/vllm-openai:v0.33.{number}"


async def create_namespace(api: KubeClient, name: str) -> None:
    """Create a namespace."""
    await api.create(NAMESPACES, {"metadata": {"name": name}})


async def create(api: KubeClient, endpoints: Iterable[Object]) -> None:
    """Create endpoints, a few at a time."""
    waiting = iter(endpoints)

    async def creator() -> None:
        for each in waiting:
            await api.create(ENDPOINTS, each)

    async with asyncio.TaskGroup() as group:
        for _ in range(CREATORS):
            group.create_task(creator())


async def number_of(api: KubeClient, resource: Resource, namespace: str) -> int:
    """Return how many objects of a kind there are, without reading them."""
    page = await api.request("GET", resource.path(namespace), params={"limit": "1"})
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


async def children(api: KubeClient, namespace: str) -> list[Object]:
    """Return all children in a namespace."""
    return [obj for resource in CHILDREN for obj in await api.list(resource, namespace)]


async def have_children(api: KubeClient, namespace: str, wanted: Counter[str]) -> bool:
    """Return whether there are so many objects of each kind."""
    for resource in CHILDREN:
        missing = wanted[resource.kind]
        if missing and await number_of(api, resource, namespace) < missing:
            return False
    return True


class Changes:
    """What a watch reports of one kind, for whoever waits for something to become true."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Callable[[Object], bool], asyncio.Future[float]]] = {}

    def expect(self, name: str, holds: Callable[[Object], bool]) -> asyncio.Future[float]:
        """Return the moment (``perf_counter``) at which something is seen to hold of an object."""
        moment: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[name] = holds, moment
        return moment

    async def follow(
        self, api: KubeClient, resource: Resource, namespace: str, synced: asyncio.Event
    ) -> None:
        """Watch for ever."""
        async for event in watch(api, resource, namespace):
            if event.type == "SYNCED":
                synced.set()
            elif found := self._waiting.get(event.object["metadata"]["name"]):
                holds, moment = found
                if not moment.done() and holds(event.object):
                    moment.set_result(time.perf_counter())


@asynccontextmanager
async def changes_of(api: KubeClient, resource: Resource, namespace: str) -> AsyncIterator[Changes]:
    """Watch a kind while the context lasts."""
    changes, synced = Changes(), asyncio.Event()
    following = asyncio.create_task(changes.follow(api, resource, namespace, synced))
    try:
        await synced.wait()
        yield changes
    finally:
        following.cancel()


async def edit(
    api: KubeClient, namespace: str, name: str, *, to: str, deployments: Changes, reports: Changes
) -> float:
    """Change an endpoint's image; return the milliseconds from then to its Deployment's change.

    Returns when the status is written, too, so that the next edit meets an idle operator.
    """
    changed = deployments.expect(f"{name}-engine", lambda seen: _image_of(seen) == to)
    reported = reports.expect(name, lambda seen: _is_reported(seen, to))
    await api.merge_patch(
        ENDPOINTS, namespace, name, patch={"spec": {"engine": {"image": to}}}, field_manager="user"
    )
    edited = time.perf_counter()
    async with asyncio.timeout(60):
        await reported
        # the Deployment may have changed before the answer to our request was read
        return max(0.0, await changed - edited) * 1000


def _image_of(deployment: Object) -> str:
    name: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return name


def _is_reported(seen: Object, name: str) -> bool:
    observed = seen.get("status", {}).get("observedGeneration")
    return bool(
        seen["spec"]["engine"]["image"] == name and observed == seen["metadata"]["generation"]
    )
