"""Golden renderings: inputs and what the operator makes of them, for people to review in diffs.

``python tests/helpers/golden.py`` writes them anew after a wanted change; the test only compares.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.desired import EngineDefaults, Inputs, desired_objects

DIRECTORY = Path(__file__).parents[1] / "controlplane" / "golden"
DEFAULTS = EngineDefaults(
    gateway_namespace="vllm-system",
    gateway_labels={"app.kubernetes.io/component": "gateway"},
)
INPUTS = Inputs(
    image="vllm/vllm-openai:v0.33.0",
    engine_key="sk-engine-0123456789abcdef",
    gateway_host="vllm-endpoints-gateway.vllm-system.svc.cluster.local",
    defaults=DEFAULTS,
)


def sources() -> list[Path]:
    """Return the files with endpoints."""
    return sorted(DIRECTORY.glob("*.endpoint.yaml"))


def expected(source: Path) -> Path:
    """Return the file with what is rendered for an endpoint."""
    return source.with_name(source.name.replace(".endpoint.", ".children."))


def inputs(source: Path) -> Inputs:
    """Return what an endpoint is rendered with: INPUTS, changed as the file beside it says."""
    beside = source.with_name(source.name.replace(".endpoint.", ".inputs."))
    changes = yaml.safe_load(beside.read_text()) if beside.exists() else {}
    defaults = replace(DEFAULTS, **changes.pop("defaults", {}))
    return replace(INPUTS, defaults=defaults, **changes)


def rendered(source: Path) -> list[dict[str, Any]]:
    """Return the children of the endpoint in a file; what all of them have alike is cut short."""
    body = yaml.safe_load(source.read_text())
    body["metadata"] |= {"uid": "3b8c1e9a-0000-4000-8000-000000000001", "generation": 1}
    children = desired_objects(parse_endpoint(body), inputs(source))
    for child in children:
        if names.START_FIELD in child.get("data", {}):
            child["data"][names.START_FIELD] = f"(desired/inside/{names.START_FIELD})"
    return children


def main() -> None:
    """Write every expected rendering."""
    for source in sources():
        text = yaml.safe_dump_all(rendered(source), sort_keys=False, width=100)
        expected(source).write_text(text)
        sys.stdout.write(f"{expected(source).name}\n")


if __name__ == "__main__":
    main()
