"""The cluster's objects as the gateway sees them, valid by default."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

Object = dict[str, Any]
ROOT_KEY = bytes(range(32))


def iep(name: str = "qwen", **status: Any) -> Object:
    """Return an InferenceEndpoint that serves `tiny`, or has this status."""
    return {
        "metadata": {
            "namespace": "team-a",
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-11-21T06:00:00Z",
        },
        "spec": {"model": {"source": "hf://org/tiny"}},
        "status": status or {"servedNames": ["tiny"]},
    }


def address(ip: str, **conditions: Any) -> Object:
    """Return an endpoint of an EndpointSlice."""
    return {"addresses": [ip], "conditions": conditions}


def engine_slice(*addresses: Object, name: str = "qwen", **fields: Any) -> Object:
    """Return an EndpointSlice of an engine's Service."""
    labels = {
        "serving.vllm-endpoints.dev/endpoint": name,
        "kubernetes.io/service-name": f"{name}-engine",
    }
    return {
        "metadata": {"namespace": "team-a", "name": f"{name}-engine-x", "labels": labels},
        "endpoints": list(addresses),
        "ports": [{"name": "http", "port": 8000}],
        **fields,
    }


def secret(**data: bytes) -> Object:
    """Return a Secret with this data."""
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {
        "metadata": {"namespace": "system", "name": "x"},
        "data": {name.replace("_", "-"): value for name, value in encoded.items()},
    }


def keyring_secret(*names: str) -> Object:
    """Return the keyring of these keys, each of which is its own name."""
    keys = [
        {
            "sha256": sha256(name.encode()).hexdigest(),
            "namespace": "team-a",
            "name": name,
            "endpoints": ["*"],
        }
        for name in names
    ]
    document = json.dumps({"version": 1, "keys": keys}).encode()
    return {**secret(), "data": {"keyring.json": base64.b64encode(document).decode()}}
