"""A chat template that is in a ConfigMap of the user's, followed wherever it goes."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


def says(kind: str, reason: str) -> Any:
    return lambda body: builders.condition_of(body, kind).get("reason") == reason


def template(namespace: str, text: str) -> Object:
    meta = {"name": "template", "namespace": namespace}
    data = {"chat.jinja": text}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def manifest(namespace: str, **spec: Any) -> Object:
    reference = {"configMapRef": {"name": "template", "key": "chat.jinja"}}
    model = {"source": "hf://org/model", "chatTemplate": reference}
    meta = {"name": "qwen", "namespace": namespace}
    return builders.endpoint(model=model, **spec) | {"metadata": meta}


def mounted(deployment: Object) -> Ref:
    """Return the ConfigMap that pods of the current template read."""
    (name,) = (
        volume["configMap"]["name"]
        for volume in deployment["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "config"
    )
    return Ref("ConfigMap", deployment["metadata"]["namespace"], name)


async def in_use(cluster: LiveCluster, namespace: str, text: str) -> Ref:
    """Wait until pods are to read a text; return the ConfigMap from which they do."""
    workload = Ref("Deployment", namespace, "qwen-engine")

    async def found() -> Ref | None:
        deployment = await cluster.get(workload)
        config = await cluster.get(mounted(deployment)) if deployment else None
        is_it = config and config["data"].get("chat-template.jinja") == text
        return mounted(deployment) if deployment and is_it else None

    return await cluster.until(found, what=f"pods that read {text!r}")


async def test_a_template_is_awaited_followed_and_kept(
    cluster: LiveCluster, namespace: str
) -> None:
    endpoint = Ref("InferenceEndpoint", namespace, "qwen")
    workload = Ref("Deployment", namespace, "qwen-engine")
    theirs = Ref("ConfigMap", namespace, "template")
    await cluster.create(manifest(namespace))
    body = await cluster.eventually(endpoint, says("Accepted", "ReferenceNotFound"))
    assert f"ConfigMap {namespace}/template" in builders.condition_of(body, "Accepted")["message"]
    assert await cluster.get(workload) is None

    await cluster.create(template(namespace, "one"))
    first = await in_use(cluster, namespace, "one")
    await cluster.eventually(endpoint, says("Accepted", "Valid"))

    await cluster.patch(theirs, {"data": {"chat.jinja": "two"}})
    second = await in_use(cluster, namespace, "two")
    assert second != first
    await cluster.must_get(first)  # which pods of the template before still read

    before = await cluster.must_get(workload)
    await cluster.delete(theirs)
    await cluster.eventually(endpoint, says("Accepted", "ReferenceNotFound"))
    after = await cluster.must_get(workload)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    await cluster.must_get(second)

    await cluster.create(template(namespace, "three"))
    await in_use(cluster, namespace, "three")


async def test_no_change_of_a_template_is_missed_while_its_endpoint_changes_too(
    cluster: LiveCluster, namespace: str
) -> None:
    endpoint = Ref("InferenceEndpoint", namespace, "qwen")
    theirs = Ref("ConfigMap", namespace, "template")
    await cluster.create(template(namespace, "0"))
    await cluster.create(manifest(namespace, replicas=1))
    await in_use(cluster, namespace, "0")
    for number in range(1, 13):
        # another number of replicas makes or takes away a budget, which takes some time
        await cluster.patch(endpoint, {"spec": {"replicas": 1 + number % 2}})
        await cluster.patch(theirs, {"data": {"chat.jinja": str(number)}})
        await in_use(cluster, namespace, str(number))
