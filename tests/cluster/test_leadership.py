"""Of two operators one works, whatever happens to it: stopped, killed, or only away for a while."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from endpoint_operator.leader import LEASES
from endpoint_operator.live import Ref
from helpers import builders
from helpers.chaos_proxy import WRITES, Sent, recorder
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.operator_process import NAMESPACE, STANDS_BY, SYNCED, OperatorProcess

Object = dict[str, Any]

LEASE = "vllm-endpoints-operator"
LEASE_SECONDS = 15
QUICK_SECONDS = 10
"""What takes two seconds on a machine that does nothing else."""
WORK = re.compile(r'"message":"(?:applied|created|deleted|scaled) ')


@pytest_asyncio.fixture(loop_scope="session")
async def standby(operator: OperatorProcess) -> AsyncIterator[OperatorProcess]:
    """Another operator, while the first one leads."""
    second = operator.twin("operator-1")
    await second.start(until=STANDS_BY)
    yield second
    if second.is_running():
        second.stop()
    assert "forbidden" not in second.log().lower(), second.log()
    assert "failed unexpectedly" not in second.log(), second.log()


async def create(cluster: LiveCluster, namespace: str, name: str) -> Ref:
    """Create an endpoint; return its address."""
    body = builders.endpoint(name, namespace, replicas=0)
    await cluster.create(body | {"metadata": {"name": name, "namespace": namespace}})
    return Ref("InferenceEndpoint", namespace, name)


def is_settled(body: Object) -> bool:
    return builders.condition_of(body, "Progressing").get("reason") == "Complete"


async def holder(cluster: LiveCluster) -> str:
    lease = await cluster.api.get(LEASES, NAMESPACE, LEASE)
    return str(lease["spec"].get("holderIdentity", ""))


async def test_exactly_one_writes_and_both_are_ready(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess, standby: OperatorProcess
) -> None:
    assert await holder(cluster) == "operator-0"
    for number in range(4):
        ref = await create(cluster, namespace, f"e{number}")
        await cluster.eventually(ref, is_settled)
    assert WORK.search(operator.log())
    assert not WORK.search(standby.log())
    url = f"http://127.0.0.1:{standby.liveness_port}/healthz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200


async def test_one_that_is_stopped_is_followed_by_the_other_at_once(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess, standby: OperatorProcess
) -> None:
    code, seconds = await asyncio.to_thread(operator.stop)
    assert code == 0
    assert seconds < QUICK_SECONDS
    assert await holder(cluster) != "operator-0"  # it let go, nobody waits for the Lease to end
    await standby.says(SYNCED)
    assert await holder(cluster) == "operator-1"
    await cluster.eventually(await create(cluster, namespace, "qwen"), is_settled)


async def test_one_that_only_stood_by_ends_as_quickly(
    cluster: LiveCluster, operator: OperatorProcess, standby: OperatorProcess
) -> None:
    code, seconds = await asyncio.to_thread(standby.stop)
    assert code == 0
    assert seconds < QUICK_SECONDS
    assert operator.is_running()
    assert await holder(cluster) == "operator-0"


async def test_one_that_is_lost_is_followed_by_the_other_when_its_lease_is_over(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess, standby: OperatorProcess
) -> None:
    operator.kill()
    refs = [await create(cluster, namespace, f"e{number}") for number in range(4)]
    assert await standby.says(SYNCED) < LEASE_SECONDS + QUICK_SECONDS
    for ref in refs:
        await cluster.eventually(ref, is_settled)


async def test_one_that_was_away_for_too_long_writes_nothing_and_ends(
    plane: ControlPlane, cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    with recorder(plane.kubeconfig) as proxy:
        away, said = operator.twin("operator-2", url=proxy.url), len(operator.log())
        operator.stop()
        try:
            await away.start()
            await operator.start(until=STANDS_BY)
            refs = [await create(cluster, namespace, f"e{number}") for number in range(24)]
            await cluster.eventually(refs[0], lambda body: "status" in body)
            away.pause()  # in the midst of its work
            await operator.says(SYNCED, since=said)
            for ref in refs:
                await cluster.eventually(ref, is_settled)
            sent = len(proxy.sent)
            away.go_on()
            assert await away.ends() == 1
        finally:
            if away.is_running():
                away.kill()
        assert "another operator may lead" in away.log()
        assert any(map(is_work, proxy.sent[:sent]))
        assert not any(map(is_work, proxy.sent[sent:]))
    assert await holder(cluster) == "operator-0"


def is_work(sent: Sent) -> bool:
    """Return whether a request would change anything but the Lease."""
    return sent.method in WRITES and "/leases/" not in sent.path
