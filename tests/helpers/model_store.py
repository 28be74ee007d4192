"""Where e2e engines find models: a small hub in the cluster, and volumes on the node's disk.

All of it is made of the tiny model in the engine's image and lies below the cluster's own
directory, with which it goes.
"""

from __future__ import annotations

from pathlib import Path

from hack.demo.session import JsonObject
from hack.images.catalog import ENGINE
from helpers.demo_cluster import Demo
from helpers.packets import PYTHON
from helpers.tree import ROOT

NAMESPACE = "hub"
PORT = 8090
TOKEN = "hf_granted"
STORAGE_CLASS = "by-hand"
ENVIRONMENT = [
    {"name": "HF_ENDPOINT", "value": f"http://hub.{NAMESPACE}"},
    # which the image sets, so that the demo asks nobody
    {"name": "HF_HUB_OFFLINE", "value": "0"},
    {"name": "TRANSFORMERS_OFFLINE", "value": "0"},
]

# acme/gated wants TOKEN, and nothing knows the architecture of acme/odd
MAKE_REPOSITORIES = f"""
import json, pathlib, shutil
acme = pathlib.Path("/repositories/acme")
for name, source in dict(tiny="tiny", gated="tiny", odd="tiny", lora="tiny-lora").items():
    shutil.copytree(f"/models/{{source}}", acme / name, dirs_exist_ok=True)
(acme / "gated/.tokens").write_text("{TOKEN}")
config = acme / "odd/config.json"
odd = dict(architectures=["OddForCausalLM"], model_type="odd")
config.write_text(json.dumps(json.loads(config.read_text()) | odd))
"""


def start_hub(demo: Demo) -> None:
    """Start the hub, and wait until it answers and its repositories are in ``folder``."""
    demo.session.call_kubectl("create", "namespace", NAMESPACE)
    source = (ROOT / "tests/helpers/model_hub.py").read_text()
    meta = {"name": "hub", "namespace": NAMESPACE}
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": {"app": "hub"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }
    demo.apply_all([code | {"data": {"hub.py": source}}, service, _hub_pod(demo)])
    ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/hub", "--timeout=120s"]
    demo.session.call_kubectl(*ready)


def _hub_pod(demo: Demo) -> JsonObject:
    make, serve = (f"{PYTHON} {rest}" for rest in ('-c "$0"', "/code/hub.py /repositories"))
    container = {
        "name": "hub",
        "image": ENGINE.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f"{make} && exec {serve} --host 0.0.0.0 --port {PORT}"],
        "args": [MAKE_REPOSITORIES],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "code", "mountPath": "/code"},
            {"name": "repositories", "mountPath": "/repositories"},
        ],
    }
    volumes = [
        {"name": "code", "configMap": {"name": "hub"}},
        {"name": "repositories", "hostPath": {"path": str(folder(demo, "repositories"))}},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hub", "namespace": NAMESPACE, "labels": {"app": "hub"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": volumes,
        },
    }


def folder(demo: Demo, name: str) -> Path:
    """A folder on the node that every pod may write to."""
    path = demo.session.kubeconfig.parent / "volumes" / name
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


def volume(path: Path, *, claim: str, namespace: str) -> JsonObject:
    """A volume on the node's disk that waits for one claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": claim},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"name": claim, "namespace": namespace},
            "hostPath": {"path": str(path)},
        },
    }


def claim(name: str, namespace: str) -> JsonObject:
    """A claim for such a volume."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
