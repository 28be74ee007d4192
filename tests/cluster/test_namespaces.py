"""A release with named namespaces serves them and its own, and has no right anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from endpoint_operator.live import Ref
from helpers import builders
from helpers.chaos_proxy import ChaosProxy
from helpers.gateway_process import gateway_process
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.operator_process import OperatorProcess
from helpers.release import RIGHTS, Release

Object = dict[str, Any]

SERVED, OTHER = "served", "not-served"
NAMED = Release("named", "named-system", {"watchNamespaces": [SERVED]})


@pytest.fixture(scope="module")
def rights(plane: ControlPlane) -> None:
    """The release's accounts and rights."""
    for name in (NAMED.namespace, SERVED, OTHER):
        created = plane.kubectl("create", "namespace", name)
        assert created.returncode == 0, created.stderr
    NAMED.install(plane, *RIGHTS)


@pytest_asyncio.fixture(loop_scope="session")
async def named_operator(
    plane: ControlPlane,
    cluster: LiveCluster,
    operator: OperatorProcess,
    proxy: ChaosProxy,
    rights: None,  # noqa: ARG001 - they have to be there
    tmp_path: Path,
) -> AsyncIterator[OperatorProcess]:
    """The release's operator, and no other that would serve all namespaces."""
    operator.stop()
    kubeconfig = await NAMED.kubeconfig(
        *("operator", cluster.api),
        admin=plane.kubeconfig,
        target=tmp_path / "operator",
        url=proxy.url,
    )
    process = OperatorProcess(kubeconfig, tmp_path / "log", release=NAMED)
    await process.start()
    yield process
    process.stop()
    assert [sent for sent in proxy.sent if sent.status == 403] == []


def manifest(name: str, namespace: str) -> Object:
    body = builders.endpoint(name, namespace, replicas=0)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def is_complete(body: Object) -> bool:
    return builders.condition_of(body, "Progressing").get("reason") == "Complete"


async def test_endpoints_elsewhere_are_left_alone_and_nothing_that_is_asked_for_is_refused(
    plane: ControlPlane,
    cluster: LiveCluster,
    named_operator: OperatorProcess,
    proxy: ChaosProxy,
    tmp_path: Path,
) -> None:
    await cluster.create(manifest("qwen", OTHER))
    for namespace in (SERVED, NAMED.namespace):
        await cluster.create(manifest("qwen", namespace))
        await cluster.eventually(Ref("InferenceEndpoint", namespace, "qwen"), is_complete)
    # a second one in a namespace that is served, after everything in the other one was there
    left_alone = await cluster.must_get(Ref("InferenceEndpoint", OTHER, "qwen"))
    assert "status" not in left_alone
    assert await cluster.get(Ref("Deployment", OTHER, "qwen-engine")) is None
    assert named_operator.is_running()
    kubeconfig = await NAMED.kubeconfig(
        *("gateway", cluster.api),
        admin=plane.kubeconfig,
        target=tmp_path / "gateway",
        url=proxy.url,
    )
    told = NAMED.environment("gateway") | {"KUBECONFIG": str(kubeconfig)}
    ports = ("VLLM_ENDPOINTS_GATEWAY_PORT", "VLLM_ENDPOINTS_METRICS_PORT")
    environ = {name: value for name, value in told.items() if name not in ports}
    async with gateway_process(environ) as gateway:
        assert (await gateway.client.get("/readyz")).status_code == 200
    namespaces = {sent.path.partition("/namespaces/")[2].partition("/")[0] for sent in proxy.sent}
    assert namespaces - {""} == {SERVED, NAMED.namespace}
