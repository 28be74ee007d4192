"""The chart grants what is used and nothing else: a rule more or less makes a test fail here.

Every request goes through a proxy that writes it down, while the operator does all that it can do.
What is used without being granted fails anyway: the API server refuses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from endpoint_operator import names
from endpoint_operator.kinds import POD, RESOURCES
from endpoint_operator.leader import LEASES
from endpoint_operator.live import Ref
from helpers import builders
from helpers.chaos_proxy import ChaosProxy, Sent
from helpers.gateway_process import gateway_process
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.operator_process import NAMESPACE, RELEASE, OperatorProcess
from helpers.rights import Right, granted, used

Object = dict[str, Any]

SINCE_LONG = "2026-01-01T00:00:00Z"


@pytest_asyncio.fixture(loop_scope="session")
async def observed(
    cluster: LiveCluster, operator: OperatorProcess, proxy: ChaosProxy
) -> AsyncIterator[OperatorProcess]:
    """An operator that is observed, in a cluster that never had one."""
    operator.stop()
    await cluster.api.delete(LEASES, NAMESPACE, "vllm-endpoints-operator")
    process = operator.twin("operator-0", url=proxy.url)
    await process.start()
    yield process
    process.stop()


def rows(rights: set[Right]) -> list[str]:
    return sorted(map(str, rights))


def unused(rules: list[Object], sent: list[Sent]) -> list[str]:
    """Return what rules grant that no request needed."""
    needed = {right for right, _ in used(sent)}
    nameless = {Right(right.group, right.resource, right.verb) for right in needed}
    return rows({right for right in granted(rules) if right not in needed | nameless})


def not_granted(rules: list[Object], sent: list[Sent]) -> list[str]:
    """Return what requests needed that no rule grants."""
    given = set(granted(rules))
    return rows(
        {
            right
            for right, _ in used(sent)
            if not {right, Right(right.group, right.resource, right.verb)} & given
        }
    )


def assert_exactly_granted(rules: list[Object], sent: list[Sent]) -> None:
    """Fail if a right was not used, a rule could go, or anything was refused."""
    assert unused(rules, sent) == []
    assert not_granted(rules, sent) == []
    for rule in rules:
        assert not_granted([other for other in rules if other is not rule], sent), rule
    assert [request for request in sent if request.status == 403] == []


async def test_the_operator_uses_every_right_that_it_has(
    cluster: LiveCluster, namespace: str, observed: OperatorProcess, proxy: ChaosProxy
) -> None:
    await everything(cluster, namespace, observed)
    assert_exactly_granted(RELEASE.rules("operator"), proxy.sent)


async def test_the_gateway_uses_every_right_that_it_has(
    plane: ControlPlane, cluster: LiveCluster, proxy: ChaosProxy, tmp_path: Path
) -> None:
    kubeconfig = await RELEASE.kubeconfig(
        "gateway", cluster.api, admin=plane.kubeconfig, target=tmp_path / "config", url=proxy.url
    )
    told = RELEASE.environment("gateway") | {"KUBECONFIG": str(kubeconfig)}
    environ = {name: value for name, value in told.items() if not name.endswith("_PORT")}
    async with gateway_process(environ) as gateway:
        assert (await gateway.client.get("/readyz")).status_code == 200
    assert_exactly_granted(RELEASE.rules("gateway"), proxy.sent)


# -- everything that the operator does ---------------------------------------------------

CACHE = {"size": "1Gi", "accessMode": "ReadWriteMany", "onDelete": "Delete"}
TEMPLATE = {"configMapRef": {"name": "template", "key": "chat.jinja"}}


async def everything(cluster: LiveCluster, namespace: str, operator: OperatorProcess) -> None:
    """Have the operator do all that it ever does."""
    template = {"data": {"chat.jinja": "{{ messages }}"}, "apiVersion": "v1", "kind": "ConfigMap"}
    await cluster.create(template | {"metadata": {"namespace": namespace, "name": "template"}})
    model = {"source": "hf://Qwen/Qwen2.5-7B-Instruct", "cache": CACHE, "chatTemplate": TEMPLATE}
    endpoint, key = Ref("InferenceEndpoint", namespace, "qwen"), Ref("ApiKey", namespace, "ci")
    await create(cluster, endpoint, {"model": model, "replicas": 2})
    await create(cluster, key, {"endpoints": ["*"]})
    await cluster.eventually(key, says("Ready", "InForce"))
    await cluster.eventually(endpoint, says("Accepted", "Valid"))
    await lose_track_of_children(cluster, namespace)
    await lose_a_key(cluster, namespace)
    await come_after_another_version(cluster, namespace)
    await wonder_about_a_pod(cluster, namespace)
    await take_children_away(cluster, endpoint, operator)


async def create(cluster: LiveCluster, ref: Ref, spec: Object) -> None:
    meta = {"namespace": ref.namespace, "name": ref.name}
    body = {"apiVersion": names.API_VERSION, "kind": ref.kind, "metadata": meta, "spec": spec}
    await cluster.create(body)


def says(condition: str, reason: str) -> Any:
    """Return whether a condition has a reason."""
    return lambda body: builders.condition_of(body, condition).get("reason") == reason


async def children(cluster: LiveCluster, namespace: str) -> list[Ref]:
    """Return the children of all endpoints and keys of a namespace."""
    return [
        Ref(kind, namespace, body["metadata"]["name"])
        for kind, resource in RESOURCES.items()
        if kind != POD
        for body in await cluster.api.list(
            resource, namespace, label_selector=f"{names.MANAGED_BY}={names.MANAGER}"
        )
    ]


async def lose_track_of_children(cluster: LiveCluster, namespace: str) -> None:
    """Hide every child: the operator creates it again, finds that it exists, and takes it back."""
    for ref in await children(cluster, namespace):
        await cluster.patch(ref, {"metadata": {"labels": {names.MANAGED_BY: None}}})
        await cluster.eventually(ref, is_managed)


async def lose_a_key(cluster: LiveCluster, namespace: str) -> None:
    """Delete a Secret, which is made again if its ApiKey still exists."""
    ref = Ref("Secret", namespace, "ci-api-key")
    before = await cluster.must_get(ref)
    await cluster.delete(ref)
    await cluster.eventually(ref, lambda body: body["metadata"]["uid"] != before["metadata"]["uid"])


async def come_after_another_version(cluster: LiveCluster, namespace: str) -> None:
    """Leave children of kinds that this version makes one of only: they are superfluous."""
    for child in ("Service", "Deployment"):
        body = await cluster.must_get(Ref(child, namespace, "qwen-engine"))
        kept = {key: body["metadata"][key] for key in ("labels", "ownerReferences")}
        meta = kept | {"namespace": namespace, "name": "qwen-other"}
        spec = {key: value for key, value in body["spec"].items() if not key.startswith("cluster")}
        left = {key: body[key] for key in ("apiVersion", "kind")} | {"metadata": meta, "spec": spec}
        await cluster.create(left)
        await cluster.gone(Ref(child, namespace, "qwen-other"))


def is_managed(body: Object) -> bool:
    return names.MANAGED_BY in body["metadata"].get("labels", {})


async def wonder_about_a_pod(cluster: LiveCluster, namespace: str) -> None:
    """Show pods that get no containers, about which only their events tell more."""

    async def pods() -> list[Object] | None:
        found = await cluster.api.list(RESOURCES[POD], namespace)
        return found if len(found) == 2 else None

    found = await cluster.until(pods, what="two pods")
    refs = [Ref(POD, namespace, pod["metadata"]["name"]) for pod in found]
    for ref, pod in zip(refs, found, strict=True):
        await wait_for_a_secret(cluster, ref, pod)
    endpoint = Ref("InferenceEndpoint", namespace, "qwen")
    await cluster.eventually(endpoint, says("Ready", "ConfigurationMissing"))
    for ref in refs:  # as no kubelet will
        path = RESOURCES[POD].path(namespace, ref.name)
        await cluster.api.request("DELETE", path, body={"gracePeriodSeconds": 0})


async def wait_for_a_secret(cluster: LiveCluster, ref: Ref, pod: Object) -> None:
    """Play scheduler and kubelet to a pod, which mounts what is not there."""
    path = RESOURCES[POD].path(ref.namespace, ref.name)
    node = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "nowhere"}}
    await cluster.api.request(
        "POST", f"{path}/binding", body=node | {"metadata": {"name": ref.name}}
    )
    event: Object = {
        "metadata": {"namespace": ref.namespace, "name": f"{ref.name}-mount"},
        "involvedObject": {"kind": "Pod", "name": ref.name, "uid": pod["metadata"]["uid"]},
        "type": "Warning",
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "config" : secret "gone" not found',
    }
    event["involvedObject"] |= {"namespace": ref.namespace}
    await cluster.api.request("POST", f"/api/v1/namespaces/{ref.namespace}/events", body=event)
    conditions = [
        {"type": kind, "status": status, "lastTransitionTime": SINCE_LONG}
        for kind, status in (("PodScheduled", "True"), ("PodReadyToStartContainers", "False"))
    ]
    await cluster.patch(ref, {"status": {"conditions": conditions}}, subresource="status")


async def take_children_away(
    cluster: LiveCluster, endpoint: Ref, operator: OperatorProcess
) -> None:
    """Change the spec so that each child that can be superfluous is."""
    before = await children(cluster, endpoint.namespace)
    model = {"cache": None, "chatTemplate": None}
    await cluster.patch(endpoint, {"spec": {"replicas": 0, "model": model}})
    await cluster.patch(endpoint, {"spec": {"engine": {"keyGeneration": 2}}})
    await operator.restart(NETWORK_POLICY="false")
    kept = ("Service", "Deployment")
    for ref in before:
        is_of_the_key = ref.kind == "Secret" and not ref.name.startswith(endpoint.name)
        if ref.kind not in kept and not is_of_the_key:
            await cluster.gone(ref)
