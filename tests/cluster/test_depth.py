"""An object as deep as the API server stores them stops nobody, whoever reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.kinds import INFERENCE_ENDPOINT
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.operator_process import OperatorProcess

LEVELS = (300, 1100, 9000)


def deep(name: str, levels: int) -> str:
    """Return an endpoint as text, since Python's own JSON gives up before the API server does."""
    spec = {"model": {"source": "hf://org/name"}, "podTemplate": {"spec": {"affinity": "DEEP"}}}
    body = {"apiVersion": names.API_VERSION, "kind": INFERENCE_ENDPOINT, "spec": spec}
    text = json.dumps(body | {"metadata": {"name": name}})
    return text.replace('"DEEP"', '{"a":' * levels + "1" + "}" * levels)


def is_refused(body: dict[str, Any]) -> bool:
    accepted = builders.condition_of(body, "Accepted")
    return "spec.podTemplate: is nested more than 64 levels" in accepted.get("message", "")


@pytest.mark.parametrize("at_start", [False, True], ids=["watched", "listed"])
async def test_a_deep_endpoint_is_refused_and_the_operator_goes_on(
    plane: ControlPlane,
    cluster: LiveCluster,
    namespace: str,
    operator: OperatorProcess,
    at_start: bool,
) -> None:
    if at_start:
        operator.stop()
    for levels in LEVELS:
        made = plane.kubectl("create", "-n", namespace, "-f", "-", stdin=deep(f"d{levels}", levels))
        assert made.returncode == 0, made.stderr
    if at_start:
        await operator.start()
    body = builders.endpoint("good", namespace, replicas=0)
    await cluster.create(body | {"metadata": {"name": "good", "namespace": namespace}})
    await cluster.eventually(Ref("Deployment", namespace, "good-engine"), bool)
    for levels in LEVELS:
        ref = Ref(INFERENCE_ENDPOINT, namespace, f"d{levels}")
        await cluster.eventually(ref, is_refused)
        await cluster.delete(ref)
