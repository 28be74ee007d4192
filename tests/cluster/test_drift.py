"""What somebody makes of a child that ours can't be beside: a second variant of the same thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import JSON_PATCH, KINDS, LiveCluster

pytestmark = pytest.mark.usefixtures("operator")

Object = dict[str, Any]
Edit = Callable[[Object], None]


def pod(body: Object) -> Object:
    spec: Object = body["spec"]["template"]["spec"]
    return spec


def by_name(items: list[Object], name: str) -> Object:
    return next(item for item in items if item["name"] == name)


def another_port(body: Object) -> None:
    body["spec"]["ports"][0]["port"] = 8001


def another_container_port(body: Object) -> None:
    pod(body)["containers"][0]["ports"][0]["containerPort"] = 8001


def key_as_text(body: Object) -> None:
    variable = by_name(pod(body)["containers"][0]["env"], "VLLM_API_KEY")
    del variable["valueFrom"]
    variable["value"] = "sk-stolen"


def another_probe(body: Object) -> None:
    pod(body)["containers"][0]["livenessProbe"] = {"tcpSocket": {"port": 8000}}


def another_budget(body: Object) -> None:
    del body["spec"]["maxUnavailable"]
    body["spec"]["minAvailable"] = 1


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("Service", another_port),
        ("Deployment", another_container_port),
        ("Deployment", key_as_text),
        ("Deployment", another_probe),
        ("PodDisruptionBudget", another_budget),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_it_goes_and_what_is_beside_it_stays(
    cluster: LiveCluster,
    namespace: str,
    kind: str,
    edit: Edit,
) -> None:
    meta = {"namespace": namespace, "name": "qwen"}
    spec = builders.endpoint_spec(replicas=2)
    await cluster.create(builders.endpoint() | {"metadata": meta, "spec": spec})
    endpoint, child = (
        Ref("InferenceEndpoint", namespace, "qwen"),
        Ref(kind, namespace, "qwen-engine"),
    )
    await cluster.eventually(endpoint, lambda body: "phase" in body.get("status", {}))
    before = await cluster.must_get(child)

    changed = await cluster.must_get(child)
    edit(changed)
    whole = [{"op": "replace", "path": "/spec", "value": changed["spec"]}]
    await cluster.api.request(
        "PATCH",
        KINDS[kind].path(namespace, child.name),
        params={"fieldManager": "kubectl-edit"},
        body=whole,
        content_type=JSON_PATCH,
    )
    await cluster.eventually(child, lambda body: body["spec"] == before["spec"])
