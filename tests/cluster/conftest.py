"""One control plane and one operator for the whole tier, one namespace for each test."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from helpers.chaos_proxy import ChaosProxy, recorder
from helpers.live_cluster import ControlPlane, LiveCluster, control_plane
from helpers.operator_process import NAMESPACE, RELEASE, OperatorProcess
from helpers.release import RIGHTS
from kube_api import KubeClient, load_config

HERE = Path(__file__).parent
NUMBERS = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in one event loop, which the clients of the session live in.

    Several waits of ``DEADLINE_SECONDS`` fit into the time that each has.
    """
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.timeout(300))
        if inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane with the chart's CRDs and rights."""
    with control_plane(f"test-{os.getpid()}") as started:
        created = started.kubectl("create", "namespace", NAMESPACE)
        assert created.returncode == 0, created.stderr
        RELEASE.install(started, "CustomResourceDefinition")
        RELEASE.install(started, *RIGHTS)
        waited = started.kubectl("wait", "--for=condition=Established", "crd", "--all")
        assert waited.returncode == 0, waited.stderr
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(plane: ControlPlane) -> AsyncIterator[LiveCluster]:
    """The administrator's hands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(plane.kubeconfig))
        config = load_config()
    async with KubeClient(config, user_agent="tests") as api:
        yield LiveCluster(api)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_operator(
    plane: ControlPlane, cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OperatorProcess]:
    """The operator with the rights of its ServiceAccount and no other."""
    folder = tmp_path_factory.mktemp("operator")
    kubeconfig = await RELEASE.kubeconfig(
        "operator", cluster.api, admin=plane.kubeconfig, target=folder / "kubeconfig"
    )
    process = OperatorProcess(kubeconfig, folder / "log")
    await process.start()
    yield process
    process.stop()
    log = process.log()
    assert "is forbidden: user" not in log.lower(), log
    assert "failed unexpectedly" not in log, log


@pytest_asyncio.fixture(loop_scope="session")
async def operator(shared_operator: OperatorProcess) -> OperatorProcess:
    """The operator, running, whatever the last test did to it."""
    if not shared_operator.is_running():
        await shared_operator.start()
    return shared_operator


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ChaosProxy]:
    """A way to the API server on which everything is written down."""
    with recorder(plane.kubeconfig) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(cluster: LiveCluster) -> str:
    """A namespace for one test; it ends with the control plane, so that no test sees it go."""
    name = f"team-{next(NUMBERS)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name
