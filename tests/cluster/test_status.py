"""A status that explains, with a real scheduler, quota and Events; the kubelet is ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.live import Ref
from helpers import builders, pods
from helpers.live_cluster import PODS, ControlPlane, LiveCluster

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")

CAPTURES = Path(__file__).parents[1] / "controlplane" / "captures" / "pods"
GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
OTHER_MODEL = {"source": "hf://acme/other"}


def manifest(namespace: str, name: str = "qwen", **spec: Any) -> Object:
    body = builders.endpoint(name, namespace, **spec)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def endpoint(namespace: str, name: str = "qwen") -> Ref:
    return Ref("InferenceEndpoint", namespace, name)


def tells(reason: str) -> Any:
    """Hold for an endpoint whose conditions Progressing and Ready have this reason."""
    return lambda body: (
        {builders.condition_of(body, kind).get("reason") for kind in ("Progressing", "Ready")}
        == {reason}
    )


async def only_pod(cluster: LiveCluster, namespace: str, name: str = "qwen") -> Object:
    async def found() -> Object | None:
        selector = f"{names.ENDPOINT}={name}"
        listed = await cluster.api.list(PODS, namespace, label_selector=selector)
        return listed[0] if listed else None

    return await cluster.until(found, what=f"a pod of {name}")


async def bind(cluster: LiveCluster, pod: Object) -> None:
    """Give a pod a node, so that the scheduler is done with it."""
    meta = {key: pod["metadata"][key] for key in ("name", "namespace")}
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": meta,
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"},
    }
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
    await cluster.api.request("POST", path, body=binding)


async def play_kubelet(cluster: LiveCluster, pod: Object, status: Object) -> None:
    ref = Ref("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
    await cluster.patch(ref, {"status": status}, subresource="status")


async def test_the_scheduler_s_reason_is_told(cluster: LiveCluster, namespace: str) -> None:
    await cluster.create(manifest(namespace))
    body = await cluster.eventually(endpoint(namespace), tells("Unschedulable"))
    assert body["status"]["phase"] == "Pending"
    assert "no nodes available" in builders.condition_of(body, "Ready")["message"]


async def test_a_quota_is_told_and_passes(cluster: LiveCluster, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": namespace},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
    }
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await cluster.api.request("POST", path, body=quota)
    await cluster.create(manifest(namespace, gpu={"count": 2}))
    body = await cluster.eventually(endpoint(namespace), tells("QuotaExceeded"))
    message = builders.condition_of(body, "Ready")["message"]
    assert "exceeded quota: gpus, requested: requests.nvidia.com/gpu=2" in message
    await cluster.patch(endpoint(namespace), {"spec": {"gpu": {"count": 1}}})
    await cluster.eventually(endpoint(namespace), tells("Unschedulable"))


async def test_a_rollout_that_somebody_pauses_is_told_and_goes_on(
    cluster: LiveCluster, namespace: str
) -> None:
    deployment = Ref("Deployment", namespace, "qwen-engine")
    await cluster.create(manifest(namespace))
    await cluster.eventually(endpoint(namespace), tells("Unschedulable"))
    await cluster.patch(deployment, {"spec": {"paused": True}})
    await cluster.patch(endpoint(namespace), {"spec": {"engine": {"config": {"seed": 1}}}})
    body = await cluster.eventually(endpoint(namespace), tells("RolloutPaused"))
    message = builders.condition_of(body, "Progressing")["message"]
    assert message.endswith("kubectl rollout resume deployment/qwen-engine.")
    await cluster.patch(deployment, {"spec": {"paused": False}})
    await cluster.eventually(endpoint(namespace), tells("Unschedulable"))


async def test_a_crash_is_told_once_however_often_it_is_tried(
    cluster: LiveCluster, namespace: str
) -> None:
    seen = json.loads((CAPTURES / "BadEngineArgument-argument.json").read_text())["pod"]["status"]
    await cluster.create(manifest(namespace))
    pod = await only_pod(cluster, namespace)
    # the scheduler has had its say, and has none about a pod with a node
    await cluster.eventually(endpoint(namespace), tells("Unschedulable"))
    await bind(cluster, pod)
    await play_kubelet(cluster, pod, seen)
    # the Deployment's controller counts the pod some time after it exists
    told = await cluster.eventually(
        endpoint(namespace),
        lambda body: tells("BadEngineArgument")(body) and body["status"]["replicas"] == 1,
    )
    assert told["status"]["phase"] == "Failed"
    last = seen["containerStatuses"][0]["lastState"]["terminated"]
    for restarts in range(3):
        again = [
            pods.running(last=last, restartCount=10 + restarts),
            pods.waiting("CrashLoopBackOff", f"back-off {restarts}m", last=last),
        ]
        for state in again:
            await play_kubelet(cluster, pod, {"containerStatuses": [state]})
    # whatever the operator was to say of all that, it has said once it is done with another one,
    # which has no name in common with it: of the same second, it could be the older one
    await cluster.create(manifest(namespace, "marker", replicas=0, model=OTHER_MODEL))
    await cluster.eventually(
        endpoint(namespace, "marker"), lambda body: body.get("status", {}).get("phase") == "Idle"
    )
    after = await cluster.must_get(endpoint(namespace))
    assert after["status"] == told["status"]
    assert await cluster.versions(endpoint(namespace)) == [told["metadata"]["resourceVersion"]]


async def test_describe_tells_what_happened_in_its_order(
    plane: ControlPlane, cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest(namespace))
    await cluster.eventually(endpoint(namespace), tells("Unschedulable"))
    await cluster.make_pods_ready(namespace, "qwen", 1)
    await cluster.eventually(
        endpoint(namespace),
        lambda body: builders.condition_of(body, "Ready")["reason"] == "Serving",
    )

    async def described() -> list[str] | None:
        shown = plane.kubectl("-n", namespace, "describe", "iep", "qwen").stdout
        events = shown.partition("\nEvents:")[2].splitlines()
        reasons = [line.split()[1] for line in events if line.startswith(("  Normal", "  Warning"))]
        return reasons if "Serving" in reasons else None

    reasons = await cluster.until(described, what="the Events")
    assert reasons.index("Unschedulable") < reasons.index("Serving")


def shown_in_guide(command: str) -> list[str]:
    """Return the lines that the guide shows as the output of a command."""
    output = GUIDE.read_text().partition(f"$ kubectl -n team-a {command}\n")[2]
    return output.partition("\n```")[0].splitlines()


def labels(lines: list[str]) -> set[str]:
    """Return what stands before the colons, and the heads of tables, with how far in it is."""
    heads = {" ".join(line.split()) for line in lines if line.split()[:2] == ["Type", "Reason"]}
    return heads | {line.partition(":")[0] for line in lines if re.match(r" *\w[\w ]*:", line)}


async def test_kubectl_prints_what_the_guide_shows(
    plane: ControlPlane, cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest(namespace))
    await cluster.eventually(endpoint(namespace), tells("Unschedulable"))

    async def described() -> list[str] | None:
        lines = plane.kubectl("-n", namespace, "describe", "iep", "qwen").stdout.splitlines()
        return lines if "Unschedulable" in lines[-1] else None

    for command in ("get iep", "get iep -o wide"):
        printed = plane.kubectl("-n", namespace, *command.split()).stdout.splitlines()
        assert shown_in_guide(command)[0].split() == printed[0].split()
    printed = await cluster.until(described, what="an Event")
    assert labels(shown_in_guide("describe iep llama")) - labels(printed) == set()
