"""Each reason of a status, caused for real: by vLLM, kubelet, scheduler, quota and policy.

All of it is applied at once, since a start of vLLM takes its time; a test looks for one reason and
then takes its endpoint away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hack.images.catalog import GATEWAY
from helpers import model_store
from helpers.builders import condition_of
from helpers.demo_cluster import Demo, eventually
from helpers.small_endpoints import small_endpoint

pytestmark = pytest.mark.timeout(900, func_only=True)

NAMESPACE, WITH_QUOTA, RESTRICTED = "reasons", "reasons-quota", "reasons-restricted"
LOOPING = "crash"
NOBODY = [{"name": "HF_ENDPOINT", "value": "http://127.0.0.1:9"}]


@dataclass(frozen=True)
class Cause:
    """What is applied, and what status has to say of it."""

    reason: str
    says: str
    spec: dict[str, Any]
    phase: str = "Failed"
    namespace: str = NAMESPACE


def from_hub(source: str, **model: Any) -> dict[str, Any]:
    """A model of the hub in the cluster."""
    return {
        "model": {"source": f"hf://acme/{source}", **model},
        "engine": {"env": model_store.ENVIRONMENT},
    }


def engine(**fields: Any) -> dict[str, Any]:
    return {"engine": fields}


def variable(secret: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"secretKeyRef": {"name": secret, "key": "x"}}}


def pod(**spec: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": spec}}


def engine_in_pod(**container: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "engine", **container}])


LITTLE = {"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}}  # too little to begin
SCRATCH = {"limits": {"ephemeral-storage": "1Ki"}}
AS_ROOT = {"runAsNonRoot": False, "runAsUser": 0}
NOWHERE = [{"name": "odd", "configMap": {"name": "nowhere"}}]
MOUNT = [{"name": "engine", "volumeMounts": [{"name": "odd", "mountPath": "/odd"}]}]

CAUSES = {
    # what keeps a pod from a node
    "gpus": Cause("InsufficientGpu", "64 GPUs", {"gpu": {"count": 64}}, "Pending"),
    "memory": Cause(
        "Unschedulable",
        "Insufficient memory",
        {"resources": {"requests": {"memory": "100Ti"}}},
        "Pending",
    ),
    "product": Cause(
        "Unschedulable", "node affinity", {"gpu": {"count": 1, "products": ["none"]}}, "Pending"
    ),
    "claim": Cause("VolumeFailed", "nowhere", {"model": {"source": "pvc://nowhere/m"}}, "Pending"),
    "unbound": Cause("VolumeFailed", "unbound", {"model": {"cache": {"size": "1Gi"}}}, "Pending"),
    "quota": Cause(
        "QuotaExceeded", "requests.nvidia.com/gpu", {"gpu": {"count": 1}}, "Pending", WITH_QUOTA
    ),
    "restricted": Cause(
        "RefusedByCluster", "restricted", pod(securityContext=AS_ROOT), namespace=RESTRICTED
    ),
    # what keeps a container from its start
    "image": Cause("ImagePullFailed", "registry.invalid", engine(image="registry.invalid/vllm:v1")),
    "not-vllm": Cause("ImageUnusable", "vllm", engine(image=GATEWAY.reference)),
    "secret": Cause("ConfigurationMissing", "nowhere", engine(env=[variable("nowhere")])),
    "mount": Cause("ConfigurationMissing", "nowhere", pod(volumes=NOWHERE, containers=MOUNT)),
    "root": Cause("PodStartFailed", "root", pod(securityContext={"runAsUser": 0}), "Pending"),
    # what ends it
    "small": Cause("OutOfMemory", "limit", engine_in_pod(resources=LITTLE)),
    LOOPING: Cause(
        "CrashLoop", "exit code 1", engine(env=[{"name": "PYTHONHOME", "value": "/nowhere"}])
    ),
    "evicted": Cause("Evicted", "ephemeral", engine_in_pod(resources=SCRATCH), "Starting"),
    "slow": Cause("StartupTimeout", "spec.startupTimeout", {"startupTimeout": "10s"}),
    "argument": Cause(
        "BadEngineArgument",
        "unrecognized arguments: --no-such-option",
        engine(args=["--no-such-option"]),
    ),
    "length": Cause("BadEngineArgument", "1000000", engine(config={"max-model-len": 1000000})),
    # what it does not get
    "folder": Cause("ModelNotFound", "/models/none", {"model": {"source": "file:///models/none"}}),
    "repository": Cause("ModelNotFound", "acme/none", from_hub("none")),
    "revision": Cause("ModelNotFound", "nowhere", from_hub("tiny", revision="nowhere")),
    "gated": Cause("ModelUnauthorized", "spec.model.tokenSecretRef", from_hub("gated")),
    "architecture": Cause("ModelUnusable", "odd", from_hub("odd")),
    "nobody": Cause(
        "ModelUnreachable",
        "",
        {
            "model": {"source": "hf://acme/tiny"},
            "engine": {"env": [*model_store.ENVIRONMENT[1:], *NOBODY]},
        },
        "Starting",
    ),
}


@pytest.fixture(scope="module")
def failing(hub: Demo) -> Iterator[Demo]:
    """Every endpoint of CAUSES, in namespaces that get in their way."""
    for namespace in (NAMESPACE, WITH_QUOTA, RESTRICTED):
        hub.session.call_kubectl("create", "namespace", namespace)
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    hub.session.call_kubectl("label", "namespace", RESTRICTED, enforce)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": WITH_QUOTA},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    endpoints = [small_endpoint(name, c.namespace, **c.spec) for name, c in CAUSES.items()]
    hub.apply_all([quota, *endpoints])
    yield hub
    for namespace in (NAMESPACE, WITH_QUOTA, RESTRICTED):
        hub.session.call_kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("name", CAUSES)
def test_status_names_the_cause(failing: Demo, name: str) -> None:
    cause = CAUSES[name]
    found = failing.wait_for(name, cause.namespace, Ready=cause.reason, Progressing=cause.reason)
    assert cause.says in condition_of(found, "Ready")["message"]
    assert found["status"]["phase"] == cause.phase
    assert condition_of(found, "Accepted")["reason"] == "Valid"

    def told() -> bool:
        described = failing.session.call_kubectl("describe", "iep", name, "-n", cause.namespace)
        return cause.reason in described.partition("\nEvents:")[2]

    eventually(told, within_seconds=60, every_seconds=0.5)
    if name != LOOPING:
        delete = ["delete", "iep", name, "-n", cause.namespace, "--wait=false"]
        failing.session.call_kubectl(*delete)


def test_a_crash_loop_is_told_once(failing: Demo) -> None:
    failing.wait_for(LOOPING, NAMESPACE, Ready="CrashLoop")

    def last_end() -> str:
        ((state,),) = (
            pod["status"]["containerStatuses"] for pod in failing.pods(LOOPING, NAMESPACE)
        )
        often = state["restartCount"] >= 3
        return str(state["lastState"]["terminated"]["finishedAt"]) if often else ""

    ended = eventually(last_end, within_seconds=120, every_seconds=1)
    get = ["get", "iep", LOOPING, "-n", NAMESPACE, "-o", "json", "--show-managed-fields"]
    entries = json.loads(failing.session.call_kubectl(*get))["metadata"]["managedFields"]
    (written,) = (entry["time"] for entry in entries if entry.get("subresource") == "status")
    assert written < ended
