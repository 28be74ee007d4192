"""The gateway's policy on a real API server: from a spec to the status by which gateways go."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from endpoint_operator.keyring import Limits
from endpoint_operator.live import Ref
from helpers import builders, live_keys
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.observed import restarted, written
from helpers.operator_process import HOST_DOMAIN, OperatorProcess

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


def manifest(name: str, namespace: str, **access: Any) -> Object:
    body = builders.endpoint(name, namespace, replicas=0, access=access)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def endpoint(namespace: str, name: str = "qwen") -> Ref:
    return Ref("InferenceEndpoint", namespace, name)


def routed(reason: str) -> Any:
    return lambda body: builders.condition_of(body, "Routed").get("reason") == reason


def is_complete(body: Object) -> bool:
    return builders.condition_of(body, "Progressing").get("reason") == "Complete"


def tells(access: Object | None) -> Any:
    return lambda body: body["status"].get("access") == access


async def test_all_of_a_policy_arrives_in_the_status(cluster: LiveCluster, namespace: str) -> None:
    access = {
        "aliases": ["gpt-4o-mini"],
        "hosts": [f"{namespace}.{HOST_DOMAIN}"],
        "modelField": "Match",
        "routes": ["chat.completions", "score"],
        "timeouts": {"connect": "5s", "firstByte": "1h30m", "idle": "2m", "total": "24h"},
        "limits": {"requestsPerMinute": 600, "tokensPerMinute": 200000, "maxInFlight": 64},
        "loadBalancing": {"strategy": "PrefixHash"},
    }
    await cluster.create(manifest("qwen", namespace, **access))
    body = await cluster.eventually(endpoint(namespace), is_complete)
    seconds = {"connect": 5, "firstByte": 5400, "idle": 120, "total": 86400}
    told = {f"{name}Seconds": number for name, number in seconds.items()}
    assert body["status"]["access"] == access | {"timeouts": told}
    assert builders.condition_of(body, "Routed")["reason"] == "InCatalog"


async def test_a_change_of_the_policy_is_one_write_of_the_status(
    plane: ControlPlane, cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    async with restarted(plane, operator) as sent:
        await cluster.create(manifest("qwen", namespace, limits={"maxInFlight": 8}))
        await cluster.eventually(endpoint(namespace), is_complete)
        before = len(sent)
        changes: list[tuple[Object, Object | None]] = [
            ({"limits": {"maxInFlight": None, "tokensPerMinute": 9}}, {"tokensPerMinute": 9}),
            ({"limits": None}, None),
        ]
        for change, limits in changes:
            await cluster.patch(endpoint(namespace), {"spec": {"access": change}})
            told = {"limits": limits} if limits else None
            await cluster.eventually(endpoint(namespace), tells(told))
    writes = Counter(written(sent[before:], namespace, "qwen"))
    assert writes == {"inferenceendpoints/qwen/status": 2}


async def test_a_host_is_the_oldest_endpoint_s_of_the_whole_cluster(
    cluster: LiveCluster, namespace: str
) -> None:
    host, other = f"{namespace}.{HOST_DOMAIN}", f"a-{namespace}"  # first within a second too
    older = manifest("older", other, hosts=[host])
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    await cluster.create(older)
    await cluster.eventually(endpoint(other, "older"), routed("InCatalog"))
    await cluster.create(manifest("qwen", namespace, hosts=[host, "llm.example.org"]))
    body = await cluster.eventually(endpoint(namespace), routed("HostTaken"))
    message = builders.condition_of(body, "Routed")["message"]
    assert f"{host} (another endpoint)" in message
    assert "the host llm.example.org" in message
    assert other not in message
    await cluster.delete(endpoint(other, "older"))
    await cluster.eventually(endpoint(namespace), routed("HostNotAllowed"))


async def test_the_limits_of_a_key_arrive_in_the_keyring(
    cluster: LiveCluster, namespace: str
) -> None:
    limits = {"requestsPerMinute": 60, "tokensPerMinute": 50000, "maxInFlight": 8}
    await cluster.create(live_keys.manifest("ci", namespace, limits=limits))
    await live_keys.in_force(cluster, namespace)

    def lists(*expected: Limits) -> Any:
        return lambda ring: (
            [entry.limits for entry in live_keys.entries_of(ring, namespace)] == [*expected]
        )

    await cluster.eventually(live_keys.RING, lists(Limits(60, 50000, 8)))
    key = Ref("ApiKey", namespace, "ci")
    await cluster.patch(key, {"spec": {"limits": {"tokensPerMinute": None, "maxInFlight": 1}}})
    await cluster.eventually(live_keys.RING, lists(Limits(60, max_in_flight=1)))
