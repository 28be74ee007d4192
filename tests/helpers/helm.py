"""Runs helm on the chart: the helm that `make tools` compiles for the local cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from helpers.tree import CHART, ROOT

Manifest = dict[str, Any]

# what every user has to set
IMAGES = {
    "operator.image.repository": "registry.example.com/operator",
    "gateway.image.repository": "registry.example.com/gateway",
}


class HelmError(Exception):
    """Helm refused; the message is what it printed."""


@cache
def helm_program() -> str:
    """Return the path of helm. Fails, with what to do, where it has not been compiled."""
    command = [sys.executable, "-m", "hack.cluster", "which", "helm"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        raise HelmError(f"{found.stderr.strip()} (or `make tools`)")
    return found.stdout.strip()


def helm(*arguments: str | Path) -> str:
    """Run helm and return what it wrote to standard output."""
    done = subprocess.run(
        [helm_program(), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HelmError(done.stdout + done.stderr)
    return done.stdout


def render(
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "vllm-endpoints",
    namespace: str = "vllm-system",
    chart: Path = CHART,
) -> list[Manifest]:
    """Return every object that the chart makes of these values and of IMAGES."""
    text = helm("template", release, chart, "--namespace", namespace, *flags(values or {}))
    return [document for document in yaml.safe_load_all(text) if document]


def flags(values: Mapping[str, Any]) -> list[str]:
    """Return helm's flags for these values and IMAGES, which they may replace."""
    return [f"--set-json={key}={json.dumps(value)}" for key, value in {**IMAGES, **values}.items()]


def pick(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one object of this kind and name."""
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


def container(deployment: Manifest) -> dict[str, Any]:
    """Return the only container of a Deployment."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    result: dict[str, Any] = only
    return result
