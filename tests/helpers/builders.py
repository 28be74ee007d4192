"""Objects for tests: valid by default, so that a test shows only what matters to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endpoint_operator import names
from endpoint_operator.desired import files
from endpoint_operator.desired.digests import digest
from endpoint_operator.live import Ref

Object = dict[str, Any]

RELEASE_NAMESPACE = "vllm-system"


def endpoint(
    name: str = "qwen", namespace: str = "team-a", *, uid: str = "uid-1", **spec: Any
) -> Object:
    """Return an InferenceEndpoint; keywords replace fields of its spec."""
    return custom("InferenceEndpoint", name, namespace, uid=uid, spec=endpoint_spec(**spec))


def endpoint_spec(**changes: Any) -> Object:
    """Return the spec of an endpoint; keywords replace its fields."""
    return {"model": {"source": "hf://Qwen/Qwen2.5-7B-Instruct"}, **changes}


def api_key(
    name: str = "ci", namespace: str = "team-a", *, uid: str = "uid-key", **spec: Any
) -> Object:
    """Return an ApiKey; keywords replace fields of its spec."""
    return custom("ApiKey", name, namespace, uid=uid, spec={"endpoints": ["*"], **spec})


def custom(kind: str, name: str, namespace: str, *, uid: str, spec: Object) -> Object:
    """Return an object of ours as the API server returns a new one."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": "1",
            "generation": 1,
        },
        "spec": spec,
    }


def child_refs(deployment: Object) -> list[Ref]:
    """Return the children of a plain endpoint by their Deployment, which names two of them."""
    meta = deployment["metadata"]
    engine, pod = meta["name"], deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    variables = {variable["name"]: variable for variable in container["env"]}
    pairs = [
        ("Service", engine.removesuffix(names.ENGINE_SUFFIX)),
        ("Service", engine),
        ("NetworkPolicy", engine),
        ("Secret", variables["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]["name"]),
        ("ConfigMap", volumes["config"]["configMap"]["name"]),
        ("Deployment", engine),
    ]
    return [Ref(kind, meta["namespace"], name) for kind, name in pairs]


def pod(name: str = "qwen-engine-1", *, endpoint: str = "qwen", status: Object) -> Object:
    """Return a pod of an endpoint, with a status."""
    meta = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "labels": names.child_labels(endpoint),
        "annotations": {names.REVISION: "r", "other": "x"},
        "creationTimestamp": "2026-11-21T12:00:00Z",
        "ownerReferences": [replica_set(names.engine_name(endpoint))],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}


def replica_set(deployment: str) -> Object:
    """Return a reference to a ReplicaSet of a Deployment, which controls its pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{deployment}-6d5f8b7c9",
        "uid": "uid-replica-set",
        "controller": True,
    }


def progressing(reason: str) -> list[Object]:
    """Return the conditions of a Deployment that says this of its rollout."""
    return [{"type": "Progressing", "status": "True", "reason": reason}]


def rolled_out(count: int, *, generation: int) -> Object:
    """Return the status of a Deployment whose pods are all of its current template."""
    counts = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")
    said = {"conditions": progressing("NewReplicaSetAvailable"), "observedGeneration": generation}
    return dict.fromkeys(counts, count) | said


def config_name(endpoint: str) -> str:
    """Return the name of the ConfigMap of an endpoint without options."""
    made = {names.CONFIG_FIELD: files.config_file({}), names.START_FIELD: files.start_file()}
    return names.content_name(endpoint, digest(made))


def secret(name: str, namespace: str, data: Mapping[str, str], *, owner_uid: str = "") -> Object:
    """Return a Secret that nobody of ours made, unless it has an owner."""
    meta: Object = {"name": name, "namespace": namespace}
    if owner_uid:
        meta["ownerReferences"] = [
            {
                "apiVersion": names.API_VERSION,
                "kind": "ApiKey",
                "name": "ci",
                "uid": owner_uid,
                "controller": True,
            }
        ]
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": dict(data)}


def condition_of(body: Object, kind: str) -> Object:
    """Return one condition of an object; an empty one if it has none of that type."""
    known = body.get("status", {}).get("conditions", ())
    return next((condition for condition in known if condition["type"] == kind), {})
