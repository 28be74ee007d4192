"""Endpoints of the tiny model, as small as real vLLM gets: for the e2e tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endpoint_operator import names

Object = dict[str, Any]

# no image: the chart's default is the engine's own in the demo
SPEC: Object = {
    "model": {"source": "file:///models/tiny"},
    "engine": {
        "config": {
            "max-model-len": 512,
            "max-num-seqs": 4,
            "dtype": "float32",
            "enforce-eager": True,
            "kv-cache-memory-bytes": 16777216,
        },
        "drainTimeout": "20s",
    },
    "gpu": {"count": 0},
    # without a limit one busy engine keeps a node of two cores from everything else for seconds
    "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "1"}},
}


def small_endpoint(name: str, namespace: str, **changes: Any) -> Object:
    """An endpoint of the tiny model on the CPU, served under its own name.

    Keywords change its spec, field by field.
    """
    spec = merged(SPEC, {"model": {"servedNames": [name]}})
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": merged(spec, changes),
    }


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Object:
    """Both, field by field; where both say something but mappings, what is above counts."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping):
            both[key] = merged(below[key], above[key])
    return both
