"""Endpoints on a real API server: what exists, what heals, what is left alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.api.values import canonical_quantity
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.kinds import POD, RESOURCES
from endpoint_operator.live import Ref, slim
from helpers import builders
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.observed import restarted, written
from helpers.operator_process import OperatorProcess
from kube_api import Conflict, Unavailable

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


def manifest(name: str, namespace: str, **spec: Any) -> Object:
    body = builders.endpoint(name, namespace, **spec)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def endpoint_ref(namespace: str, name: str = "qwen") -> Ref:
    return Ref("InferenceEndpoint", namespace, name)


def deployment_ref(namespace: str, name: str = "qwen") -> Ref:
    return Ref("Deployment", namespace, f"{name}-engine")


async def child_refs(cluster: LiveCluster, namespace: str, name: str = "qwen") -> list[Ref]:
    return builders.child_refs(await cluster.must_get(deployment_ref(namespace, name)))


def image_of(deployment: Object) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def mounted(deployment: Object) -> Ref:
    volume = deployment["spec"]["template"]["spec"]["volumes"][0]
    return Ref("ConfigMap", deployment["metadata"]["namespace"], volume["configMap"]["name"])


def is_true(kind: str) -> Any:
    return lambda body: builders.condition_of(body, kind).get("status") == "True"


def says(kind: str, reason: str) -> Any:
    return lambda body: builders.condition_of(body, kind).get("reason") == reason


def runs(image: str) -> Any:
    return lambda deployment: image_of(deployment) == image


def has_replicas(count: int) -> Any:
    return lambda deployment: deployment["spec"]["replicas"] == count


async def settled(cluster: LiveCluster, namespace: str, name: str = "qwen") -> Object:
    """Wait until an endpoint's current spec is in force and its pods exist.

    Without a node no pod gets ready, so that one of the spec before stays beside them.
    """

    def is_settled(body: Object) -> bool:
        status = body.get("status", {})
        if status.get("observedGeneration") != body["metadata"]["generation"]:
            return False
        return status["replicas"] >= body["spec"]["replicas"] and bool(is_true("Accepted")(body))

    return await cluster.eventually(endpoint_ref(namespace, name), is_settled)


async def has_passed_by(cluster: LiveCluster, namespace: str, marker: str = "marker") -> None:
    """Wait until the operator has worked on everything that was queued before now.

    The marker has no name in common with others: of the same second, it could be the older one.
    """
    model = {"source": f"hf://acme/{marker}"}
    await cluster.create(manifest(marker, namespace, replicas=0, model=model))
    await cluster.eventually(endpoint_ref(namespace, marker), says("Progressing", "Complete"))


async def test_a_new_endpoint_gets_its_children_and_a_status(
    cluster: LiveCluster, namespace: str
) -> None:
    created = await cluster.create(manifest("qwen", namespace))
    body = await settled(cluster, namespace)
    for ref in await child_refs(cluster, namespace):
        child = await cluster.must_get(ref)
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["uid"] == created["metadata"]["uid"]
        assert child["metadata"]["labels"] == names.child_labels("qwen")
    assert body["status"]["url"] == f"http://qwen.{namespace}/v1"
    assert body["status"]["servedNames"] == ["Qwen/Qwen2.5-7B-Instruct"]
    assert body["status"]["phase"] == "Pending"


async def test_an_endpoint_is_ready_when_a_replica_is(
    plane: ControlPlane, cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace, replicas=2))
    await cluster.make_pods_ready(namespace, "qwen", 2)
    body = await cluster.eventually(endpoint_ref(namespace), says("Progressing", "Complete"))
    assert body["status"]["readyReplicas"] == 2
    waited = plane.kubectl(
        "-n", namespace, "wait", "--for=condition=Ready", "iep/qwen", "--timeout=20s"
    )
    assert waited.returncode == 0, waited.stderr
    shown = plane.kubectl("-n", namespace, "get", "iep", "-o", "wide").stdout.splitlines()
    head = ["NAME", "MODEL", "PHASE", "READY", "GPU", "URL", "AGE", "REASON", "IMAGE"]
    assert shown[0].split() == head
    columns = shown[1].split()
    assert columns[:6] == [
        "qwen",
        "hf://Qwen/Qwen2.5-7B-Instruct",
        "Ready",
        "True",
        "1",
        f"http://qwen.{namespace}/v1",
    ]
    assert columns[7:] == ["Serving", "vllm/vllm-openai:v0.33.0"]


async def test_a_new_endpoint_costs_one_write_per_child_and_one_per_step(
    plane: ControlPlane, cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    async with restarted(plane, operator) as sent:
        await cluster.create(manifest("qwen", namespace))
        await settled(cluster, namespace)
        await has_passed_by(cluster, namespace)
    writes = Counter(written(sent, namespace, "qwen"))
    steps = writes.pop("inferenceendpoints/qwen/status")
    assert len(writes) == 6
    assert set(writes.values()) == {1}
    assert steps <= 3  # accepted, a pod that the controllers made, and no node for it


async def test_an_edit_changes_what_it_concerns(cluster: LiveCluster, namespace: str) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    others = (await child_refs(cluster, namespace))[:-1]
    before = await cluster.versions(*others)
    await cluster.patch(endpoint_ref(namespace), {"spec": {"engine": {"image": "vllm:next"}}})
    await cluster.eventually(deployment_ref(namespace), runs("vllm:next"))
    body = await settled(cluster, namespace)
    assert body["status"]["image"] == "vllm:next"
    assert await cluster.versions(*others) == before


async def test_no_edit_is_missed_however_fast_they_come(
    cluster: LiveCluster, namespace: str
) -> None:
    """Edits come while the operator writes status; its answer must not hide them from it."""
    endpoints = [f"e{number}" for number in range(4)]
    for name in endpoints:
        await cluster.create(manifest(name, namespace))
    for version in range(25):
        image = {"spec": {"engine": {"image": f"vllm:{version}"}}}
        for name in endpoints:
            await cluster.patch(endpoint_ref(namespace, name), image)
    for name in endpoints:
        await cluster.eventually(deployment_ref(namespace, name), runs("vllm:24"))
        await settled(cluster, namespace, name)


async def test_a_changed_configuration_is_in_the_file_and_rolls_the_pods(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    before = mounted(await cluster.must_get(deployment_ref(namespace)))
    change = {"spec": {"engine": {"config": {"max-model-len": 4096, "dtype": "float32"}}}}
    await cluster.patch(endpoint_ref(namespace), change)
    rolled = await cluster.eventually(
        deployment_ref(namespace), lambda body: mounted(body) != before
    )
    config = await cluster.must_get(mounted(rolled))
    assert config["data"]["config.yaml"] == "dtype: float32\nmax-model-len: 4096\n"


async def test_a_configuration_stays_until_no_pod_reads_it(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace))
    await cluster.make_pods_ready(namespace, "qwen", 1)
    await cluster.eventually(endpoint_ref(namespace), says("Progressing", "Complete"))
    old = mounted(await cluster.must_get(deployment_ref(namespace)))
    await cluster.patch(endpoint_ref(namespace), {"spec": {"engine": {"config": {"seed": 1}}}})
    await cluster.eventually(deployment_ref(namespace), lambda body: mounted(body) != old)
    await has_passed_by(cluster, namespace)
    await cluster.must_get(old)
    await cluster.make_pods_ready(namespace, "qwen", 2)
    await cluster.gone(old)


async def test_drift_is_healed_and_fields_of_others_survive(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    before = await cluster.must_get(deployment_ref(namespace))
    sidecar = {"name": "sidecar", "image": "sidecar:1"}
    foreign = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "qwen-engine",
            "namespace": namespace,
            "annotations": {"example.com/team": "a"},
        },
        "spec": {
            "template": {"spec": {"containers": [{"name": "engine", "image": "evil:1"}, sidecar]}}
        },
    }
    await cluster.apply(foreign)
    healed = await cluster.eventually(deployment_ref(namespace), runs(image_of(before)))
    containers = healed["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["engine", "sidecar"]
    assert healed["metadata"]["annotations"]["example.com/team"] == "a"


@pytest.mark.parametrize(
    "number", range(6), ids=["gateway", "engine", "policy", "secret", "config", "pods"]
)
async def test_a_deleted_child_is_made_again(
    cluster: LiveCluster, namespace: str, number: int
) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    ref = (await child_refs(cluster, namespace))[number]
    uid = (await cluster.must_get(ref))["metadata"]["uid"]
    await cluster.delete(ref)
    await cluster.eventually(ref, lambda body: body["metadata"]["uid"] != uid)


async def test_a_stolen_label_is_put_back(cluster: LiveCluster, namespace: str) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    ref = mounted(await cluster.must_get(deployment_ref(namespace)))
    await cluster.patch(ref, {"metadata": {"labels": {names.MANAGED_BY: None}}})
    await cluster.eventually(
        ref, lambda body: body["metadata"]["labels"].get(names.MANAGED_BY) == names.MANAGER
    )


async def test_children_that_are_no_longer_wanted_are_deleted(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace, replicas=0))
    await settled(cluster, namespace)
    for ref in await child_refs(cluster, namespace):
        old = await cluster.must_get(ref)
        kept = ("labels", "ownerReferences")
        meta = {key: old["metadata"][key] for key in kept}
        old = {key: old[key] for key in old.keys() - {"status", "metadata"}}
        leftover = Ref(ref.kind, namespace, f"old-{ref.name}")
        await cluster.create(
            old | {"metadata": meta | {"name": leftover.name, "namespace": namespace}}
        )
        await cluster.gone(leftover)


async def test_a_settled_endpoint_costs_nothing(
    plane: ControlPlane, cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    strange = {
        "requests": {"cpu": "1500m", "memory": "1.5Gi"},
        "limits": {"cpu": 4, "memory": "4000M"},
    }
    await cluster.create(manifest("qwen", namespace, resources=strange, gpu={"count": 2}))
    await cluster.make_pods_ready(namespace, "qwen", 1)
    await cluster.eventually(endpoint_ref(namespace), is_true("Ready"))
    await has_passed_by(cluster, namespace)
    async with restarted(plane, operator) as sent:
        touched = {"metadata": {"annotations": {"touched": "yes"}}}
        await cluster.patch(endpoint_ref(namespace), touched)
        await has_passed_by(cluster, namespace, "second-marker")
    assert written(sent, namespace, "second-marker")
    assert written(sent, namespace, "qwen") == []


@pytest.mark.parametrize(
    "quantity", ["1000m", ".5", "2.50", "1000", "1.5Gi", "4000M", "1024Ti", "9000P", "16Ei"]
)
async def test_quantities_are_sent_as_the_api_server_stores_them(
    cluster: LiveCluster, namespace: str, quantity: str
) -> None:
    resources = {"limits": {"memory": quantity}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "x", "resources": resources}]},
    }
    stored = await cluster.create(pod)
    limits = stored["spec"]["containers"][0]["resources"]["limits"]
    assert limits["memory"] == canonical_quantity(quantity)


async def test_an_invalid_edit_that_only_the_operator_sees_changes_nothing_that_runs(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    before = await cluster.must_get(deployment_ref(namespace))
    config = {"--max-model-len": 1}
    await cluster.patch(
        endpoint_ref(namespace), {"spec": {"engine": {"image": "vllm:next", "config": config}}}
    )
    body = await cluster.eventually(endpoint_ref(namespace), says("Accepted", "InvalidSpec"))
    message = builders.condition_of(body, "Accepted")["message"]
    assert "spec.engine.config.--max-model-len" in message
    assert "without dashes" in message
    assert body["status"]["servedNames"] == ["Qwen/Qwen2.5-7B-Instruct"]
    assert body["status"]["image"] == image_of(before)
    after = await cluster.must_get(deployment_ref(namespace))
    assert after["metadata"]["generation"] == before["metadata"]["generation"]

    await cluster.patch(
        endpoint_ref(namespace), {"spec": {"engine": {"config": {"--max-model-len": None}}}}
    )
    await cluster.eventually(deployment_ref(namespace), runs("vllm:next"))


@pytest.mark.parametrize(
    ("field", "value"), [("nodeAffinity", {}), ("hostNetwork", "yes")], ids=["unknown", "no bool"]
)
async def test_a_pod_template_that_kubernetes_does_not_take_is_said_to_be_so(
    cluster: LiveCluster, namespace: str, field: str, value: object
) -> None:
    await cluster.create(manifest("qwen", namespace, podTemplate={"spec": {field: value}}))
    body = await cluster.eventually(endpoint_ref(namespace), says("Accepted", "RefusedByCluster"))
    message = builders.condition_of(body, "Accepted")["message"]
    assert f".spec.template.spec.{field}" in message
    assert "Correct spec.podTemplate" in message


async def test_a_number_set_by_somebody_else_is_healed(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace, replicas=2))
    await cluster.eventually(deployment_ref(namespace), has_replicas(2))
    await cluster.patch(deployment_ref(namespace), {"spec": {"replicas": 9}}, subresource="scale")
    await cluster.eventually(deployment_ref(namespace), has_replicas(2))


async def test_a_name_that_is_taken_is_named_and_never_touched(
    cluster: LiveCluster, namespace: str
) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "qwen-engine", "namespace": namespace},
        "spec": {"ports": [{"port": 1}]},
    }
    taken = Ref("Service", namespace, "qwen-engine")
    await cluster.create(foreign)
    before = await cluster.versions(taken)
    await cluster.create(manifest("qwen", namespace))
    body = await cluster.eventually(endpoint_ref(namespace), says("Accepted", "NameConflict"))
    assert f"Service {namespace}/qwen-engine" in builders.condition_of(body, "Accepted")["message"]
    assert await cluster.versions(taken) == before
    assert await cluster.get(deployment_ref(namespace)) is None

    await cluster.delete(taken)
    await cluster.patch(endpoint_ref(namespace), {"spec": {"replicas": 0}})  # wakes the operator
    await settled(cluster, namespace)


async def test_a_successor_starts_when_its_predecessor_is_gone(
    cluster: LiveCluster, namespace: str
) -> None:
    service = Ref("Service", namespace, "qwen-engine")
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    await cluster.patch(service, {"metadata": {"finalizers": ["example.com/load-balancer"]}})
    await cluster.delete(endpoint_ref(namespace))
    await cluster.create(manifest("qwen", namespace))
    body = await cluster.eventually(endpoint_ref(namespace), says("Accepted", "PredecessorGoing"))
    assert f"{service}" in builders.condition_of(body, "Accepted")["message"]
    await cluster.patch(service, {"metadata": {"finalizers": None}})
    await settled(cluster, namespace)


async def test_one_replica_at_a_time_can_be_evicted(cluster: LiveCluster, namespace: str) -> None:
    await cluster.create(manifest("qwen", namespace, replicas=2))
    await cluster.make_pods_ready(namespace, "qwen", 2)
    budget = Ref("PodDisruptionBudget", namespace, "qwen-engine")
    await cluster.eventually(
        budget, lambda body: body.get("status", {}).get("disruptionsAllowed") == 1
    )
    one, two = await cluster.api.list(RESOURCES[POD], namespace)
    await evict(cluster, one)
    with pytest.raises(Unavailable, match="disruption budget"):
        await evict(cluster, two)


async def evict(cluster: LiveCluster, pod: Object) -> None:
    """Ask for a pod to go as kubectl drain does."""
    meta = {"namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"]}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = RESOURCES[POD].path(meta["namespace"], meta["name"])
    await cluster.api.request("POST", f"{path}/eviction", body=body)


async def test_a_status_never_lands_on_a_successor_of_the_same_name(
    cluster: LiveCluster, namespace: str
) -> None:
    await cluster.create(manifest("qwen", namespace))
    body = await settled(cluster, namespace)
    predecessor = slim(body)
    await cluster.delete(endpoint_ref(namespace))
    await cluster.create(manifest("qwen", namespace))
    with pytest.raises(Conflict):
        await ApiCluster(cluster.api, "").write_status(predecessor, {"url": "http://wrong"})


async def test_an_operator_with_another_default_image_rolls_nothing(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    await cluster.create(manifest("qwen", namespace))
    await settled(cluster, namespace)
    before = await cluster.versions(*(await child_refs(cluster, namespace)))
    await operator.restart(DEFAULT_ENGINE_IMAGE="vllm:next")
    await has_passed_by(cluster, namespace)
    assert await cluster.versions(*(await child_refs(cluster, namespace))) == before
    marker = await cluster.must_get(deployment_ref(namespace, "marker"))
    assert image_of(marker) == "vllm:next"
    await operator.restart()
