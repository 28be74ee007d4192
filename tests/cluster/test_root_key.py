"""The root key on a real API server, and how engines follow another one."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from endpoint_operator import keys
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.live_keys import ROOT_KEY, key_of
from helpers.operator_process import OperatorProcess

Object = dict[str, Any]

pytestmark = pytest.mark.usefixtures("operator")


def endpoint(namespace: str) -> Object:
    body = builders.endpoint(namespace=namespace)
    return body | {"metadata": {"name": "qwen", "namespace": namespace}}


def engine_secret(deployment: Object) -> Ref:
    """Return the Secret from which the engines of a Deployment have their key."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (given,) = (item for item in container["env"] if item["name"] == "VLLM_API_KEY")
    name = given["valueFrom"]["secretKeyRef"]["name"]
    return Ref("Secret", deployment["metadata"]["namespace"], name)


async def test_a_deleted_root_key_comes_back_unchanged(cluster: LiveCluster) -> None:
    before = await cluster.must_get(ROOT_KEY)
    await cluster.delete(ROOT_KEY)
    after = await cluster.eventually(
        ROOT_KEY, lambda body: body["metadata"]["uid"] != before["metadata"]["uid"]
    )
    assert after["data"] == before["data"]


async def test_another_root_key_is_taken_up_and_the_one_before_is_kept(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess
) -> None:
    before = (await cluster.must_get(ROOT_KEY))["data"]
    old, new = before["root-key"], base64.b64encode(b"n" * 32).decode()
    try:
        await cluster.patch(ROOT_KEY, {"data": {"root-key": new}})
        secret = await cluster.eventually(
            ROOT_KEY, lambda body: "previous-root-key" in body["data"]
        )
        made = await cluster.create(endpoint(namespace))
        key = keys.engine_key(b"n" * 32, made["metadata"]["uid"], 1)
        deployment = await cluster.eventually(Ref("Deployment", namespace, "qwen-engine"))
        assert key_of(await cluster.must_get(engine_secret(deployment))) == key
    finally:
        await cluster.patch(ROOT_KEY, {"data": before | {"previous-root-key": None}})
        await cluster.eventually(ROOT_KEY, lambda body: "previous-root-key" in body["data"])
        await cluster.patch(ROOT_KEY, {"data": {"previous-root-key": None}})
    assert secret["data"] == {"root-key": new, "previous-root-key": old}
    assert operator.is_running()


async def test_a_root_key_that_is_none_ends_the_operator_with_a_line(
    cluster: LiveCluster, operator: OperatorProcess
) -> None:
    before = await cluster.must_get(ROOT_KEY)
    await cluster.patch(ROOT_KEY, {"data": {"root-key": "eHh4"}})

    async def has_ended() -> bool:
        return not operator.is_running()

    try:
        await cluster.until(has_ended, what="the operator to end")
    finally:
        await cluster.patch(ROOT_KEY, {"data": before["data"]})
    assert "Traceback" not in operator.log()[-1000:]
    assert operator.log().splitlines()[-1].startswith("Secret vllm-system/vllm-endpoints-root-key")
    await operator.start()
