"""Pods and Deployments as scheduler, kubelet and controllers describe them (Kubernetes 1.36).

A pod is healthy and serving unless told otherwise; times are seconds after the pod's creation.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from endpoint_operator import names

Object = dict[str, Any]

CREATED = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
REVISION = "9c1f3f1d2b7a4e55"


def at(seconds: float) -> str:
    """Return the time so many seconds after the first pod was created."""
    return (CREATED + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(
    *,
    gpus: int = 1,
    replicas: int = 1,
    limits: Object | None = None,
    startup_failures: int = 360,
    **status: Any,
) -> Object:
    """Return a Deployment that has no available pod; keywords replace fields of its status."""
    accelerators = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    engine = {
        "name": names.ENGINE_CONTAINER,
        "image": "vllm/vllm-openai:v0.33.0",
        "resources": {"limits": {**accelerators, **(limits or {})}},
        "startupProbe": {"periodSeconds": 5, "failureThreshold": startup_failures},
    }
    return {
        "metadata": {"name": "qwen-engine", "namespace": "team-a", "generation": 1},
        "spec": {
            "replicas": replicas,
            "template": {
                "metadata": {"annotations": {names.REVISION: REVISION}},
                "spec": {"containers": [engine]},
            },
        },
        "status": {"observedGeneration": 1, **status},
    }


def condition(kind: str, status: str, *, since: float = 0, **more: str) -> Object:
    """Return a condition of a pod or a Deployment."""
    return {"type": kind, "status": status, "lastTransitionTime": at(since), **more}


def pod(
    *containers: Object,
    name: str = "qwen-engine-6d5f8b7c9-x2x7k",
    created: float = 0,
    revision: str = REVISION,
    node: str = "gpu-node-1",
    conditions: tuple[Object, ...] = (),
    **status: Any,
) -> Object:
    """Return a pod with these statuses of its containers; conditions replace those of a pod
    that has its node and its sandbox and is not ready."""
    usual = {
        "PodScheduled": condition("PodScheduled", "True", since=created),
        "PodReadyToStartContainers": condition("PodReadyToStartContainers", "True", since=created),
        "Initialized": condition("Initialized", "True", since=created),
        "ContainersReady": condition(
            "ContainersReady", "False", since=created, reason="ContainersNotReady"
        ),
        "Ready": condition("Ready", "False", since=created, reason="ContainersNotReady"),
    }
    given = {each["type"]: each for each in conditions}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"uid-{name}",
            "creationTimestamp": at(created),
            "annotations": {names.REVISION: revision},
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": "Pending" if not containers else "Running",
            "conditions": list((usual | given).values()),
            "containerStatuses": list(containers),
            **status,
        },
    }


def serving(**fields: Any) -> Object:
    """Return a pod that serves."""
    ready = (condition("ContainersReady", "True"), condition("Ready", "True"))
    return pod(running(ready=True, started=True), conditions=ready, **fields)


def unscheduled(message: str, **fields: Any) -> Object:
    """Return a pod that the scheduler finds no node for."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    made = pod(node="", conditions=(refused,), **fields)
    kept = [each for each in made["status"]["conditions"] if each["type"] == "PodScheduled"]
    return made | {"status": {"phase": "Pending", "conditions": kept}}


def without_sandbox(*, since: float = 0, **fields: Any) -> Object:
    """Return a pod that has a node, whose volumes or network are not there yet."""
    no = condition("PodReadyToStartContainers", "False", since=since)
    return pod(waiting("ContainerCreating"), conditions=(no,), phase="Pending", **fields)


def waiting(reason: str, message: str = "", *, last: Object | None = None, **fields: Any) -> Object:
    """Return the status of a container that does not run now; ``last``: how it ended before."""
    why = {"reason": reason, **({"message": message} if message else {})}
    return container({"waiting": why}, last, **fields)


def running(*, last: Object | None = None, began: float = 2, **fields: Any) -> Object:
    """Return the status of a container that runs."""
    return container({"running": {"startedAt": at(began)}}, last, **fields)


def ended(
    message: str = "",
    *,
    exit_code: int = 1,
    reason: str = "Error",
    began: float = 2,
    finished: float = 40,
) -> Object:
    """Return how a run of a container ended."""
    known = {"message": message} if message else {}
    return {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": at(began),
        "finishedAt": at(finished),
        **known,
    }


def container(
    state: Object, last: Object | None = None, *, name: str = names.ENGINE_CONTAINER, **fields: Any
) -> Object:
    """Return the status of a container."""
    return {
        "name": name,
        "image": "vllm/vllm-openai:v0.33.0",
        "ready": False,
        "started": False,
        "restartCount": 1 if last else 0,
        "state": state,
        "lastState": {"terminated": last} if last else {},
        **fields,
    }


def crashing(message: str = "", **how: Any) -> Object:
    """Return a pod whose engine has ended at its start, again and again."""
    back_off = (
        "back-off 5m0s restarting failed container=engine pod=qwen-engine-6d5f8b7c9-x2x7k_team-a"
    )
    return pod(waiting("CrashLoopBackOff", back_off, last=ended(message, **how)))
