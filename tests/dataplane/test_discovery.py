"""From Kubernetes objects to what requests are routed by."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from endpoint_gateway.catalog import Catalog, Replica
from endpoint_gateway.discovery import (
    WatchedDirectory,
    engine_key,
    parse_endpoint,
    parse_keyring,
    parse_slice,
)
from kube_api import Event, Resource

Object = dict[str, Any]
ROOT_KEY = bytes(range(32))


def iep(name: str = "qwen", **status: Any) -> Object:
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
    return {"addresses": [ip], "conditions": conditions}


def engine_slice(*addresses: Object, name: str = "qwen", **fields: Any) -> Object:
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
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {
        "metadata": {"namespace": "system", "name": "x"},
        "data": {name.replace("_", "-"): value for name, value in encoded.items()},
    }


def keyring_secret(*names: str) -> Object:
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


class Cluster:
    """Watches that say what the test says."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str], asyncio.Queue[Event]] = {}

    def _queue(self, plural: str, selector: str) -> asyncio.Queue[Event]:
        return self._queues.setdefault((plural, selector), asyncio.Queue())

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Event]:
        assert (namespace == "system") is (resource.plural == "secrets")
        assert bool(label_selector) is (resource.plural == "endpointslices")
        queue = self._queue(resource.plural, field_selector)
        while True:
            yield await queue.get()

    def endpoint(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("inferenceendpoints", "").put_nowait(Event(kind, obj))

    def slice(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("endpointslices", "").put_nowait(Event(kind, obj))

    def synced(self) -> None:
        for plural in ("inferenceendpoints", "endpointslices"):
            self._queue(plural, "").put_nowait(Event("SYNCED", {}))

    def keyring(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("secrets", "metadata.name=keyring").put_nowait(Event(kind, obj))

    def root_key(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("secrets", "metadata.name=root").put_nowait(Event(kind, obj))


class Followed:
    """A directory that follows a cluster, for the length of a block."""

    async def __aenter__(self) -> Followed:
        self.cluster = Cluster()
        self.swaps: asyncio.Queue[Catalog] = asyncio.Queue()
        self.directory = WatchedDirectory(
            self.cluster.watch,
            namespace="system",
            keyring_secret="keyring",
            root_key_secret="root",
            on_change=self.swaps.put_nowait,
        )
        self._task = asyncio.create_task(self.directory.run())
        return self

    async def __aexit__(self, *args: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def settled(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def start(self) -> Catalog:
        self.cluster.endpoint(iep())
        self.cluster.slice(engine_slice(address("10.0.0.1", ready=True)))
        self.cluster.synced()
        self.cluster.keyring(keyring_secret("sk-1"))
        self.cluster.root_key(secret(root_key=ROOT_KEY))
        return await self.swaps.get()


async def test_what_the_cluster_has_is_in_the_catalog() -> None:
    async with Followed() as followed:
        catalog = await followed.start()
        (endpoint,) = catalog.endpoints
    assert (endpoint.qualified_name, endpoint.served_names) == ("team-a/qwen", ("tiny",))
    assert endpoint.replicas == (Replica("10.0.0.1", 8000),)
    assert endpoint.authorization == f"Bearer {engine_key(ROOT_KEY, 'uid-qwen')}".encode()
    assert endpoint.created == 1795240800
    assert followed.directory.ready
    assert {key.name for key in followed.directory.keyring.values()} == {"sk-1"}


@pytest.mark.parametrize("missing", ["endpoints and slices", "keyring", "root key"])
async def test_it_is_not_ready_before_all_is_known(missing: str) -> None:
    async with Followed() as followed:
        followed.cluster.endpoint(iep())
        if missing != "endpoints and slices":
            followed.cluster.synced()
        if missing != "keyring":
            followed.cluster.keyring(keyring_secret("sk-1"))
        if missing != "root key":
            followed.cluster.root_key(secret(root_key=ROOT_KEY))
        await asyncio.sleep(0.02)
        assert not followed.directory.ready


async def test_a_change_is_in_force_in_well_under_a_second() -> None:
    async with Followed() as followed:
        await followed.start()
        began = asyncio.get_running_loop().time()
        followed.cluster.endpoint(iep(servedNames=["other"]))
        followed.cluster.slice(
            engine_slice(address("10.0.0.1", terminating=True), address("10.0.0.2"))
        )
        catalog = await followed.swaps.get()
        assert asyncio.get_running_loop().time() - began < 0.5
    assert catalog.endpoints[0].served_names == ("other",)
    assert catalog.endpoints[0].replicas == (Replica("10.0.0.2", 8000),)
    assert followed.directory.catalog is catalog


async def test_a_burst_of_changes_is_one_swap() -> None:
    async with Followed() as followed:
        await followed.start()
        for number in range(50):
            followed.cluster.endpoint(iep(f"e{number}"))
        catalog = await followed.swaps.get()
        assert len(catalog.endpoints) == 51
        assert followed.swaps.empty()


async def test_what_is_deleted_is_gone() -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.endpoint(iep(), "DELETED")
        assert (await followed.swaps.get()).endpoints == ()


async def test_an_endpoint_that_loses_its_accepted_spec_is_gone() -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.endpoint(iep(servedNames=[]))
        assert (await followed.swaps.get()).endpoints == ()


async def test_a_new_keyring_is_in_force_at_once() -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.keyring(keyring_secret("sk-2"))
        await followed.settled()
        assert {key.name for key in followed.directory.keyring.values()} == {"sk-2"}


BAD_SECRETS = {
    "no data": {"metadata": {}},
    "no such key": secret(other=b"x"),
    "not base64": {"data": {"keyring.json": "%", "root-key": "%"}},
    "not JSON": {"data": {"keyring.json": base64.b64encode(b"{").decode()}},
    "another version": {"data": {"keyring.json": base64.b64encode(b'{"version":2}').decode()}},
    "not a digest": {
        "data": {
            "keyring.json": base64.b64encode(
                b'{"version":1,"keys":[{"sha256":"xy","endpoints":[],"namespace":"","name":""}]}'
            ).decode()
        }
    },
}


@pytest.mark.parametrize("bad", BAD_SECRETS.values(), ids=BAD_SECRETS)
async def test_a_keyring_that_is_none_changes_nothing(
    bad: Object, caplog: pytest.LogCaptureFixture
) -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.keyring(bad)
        await followed.settled()
        assert {key.name for key in followed.directory.keyring.values()} == {"sk-1"}
    assert "stays in force" in caplog.text


async def test_a_secret_that_vanishes_revokes_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.keyring(keyring_secret("sk-1"), "DELETED")
        followed.cluster.root_key(secret(), "DELETED")
        await followed.settled()
        assert followed.directory.ready
        assert followed.directory.keyring
    assert "stays in force" in caplog.text


READY = {
    "ready": ({"ready": True}, True),
    "unknown": ({}, True),
    "null": ({"ready": None, "terminating": None}, True),
    "not ready": ({"ready": False}, False),
    "terminating": ({"ready": True, "terminating": True}, False),
    "serving while terminating": ({"ready": False, "serving": True, "terminating": True}, False),
}


@pytest.mark.parametrize(("conditions", "expected"), READY.values(), ids=READY)
def test_only_what_is_ready_and_stays_gets_requests(conditions: Object, expected: bool) -> None:
    parsed = parse_slice(engine_slice(address("10.0.0.1", **conditions)))
    assert parsed == (("team-a", "qwen"), (Replica("10.0.0.1", 8000),) if expected else ())


FOREIGN = {
    "another Service of the endpoint": {"kubernetes.io/service-name": "qwen"},
    "no endpoint": {"serving.vllm-endpoints.dev/endpoint": None},
}


@pytest.mark.parametrize("labels", FOREIGN.values(), ids=FOREIGN)
def test_another_services_addresses_are_not_taken(labels: Object) -> None:
    obj = engine_slice(address("10.0.0.1"))
    obj["metadata"]["labels"] |= labels
    assert parse_slice(obj) is None


def test_addresses_without_our_port_are_not_taken() -> None:
    assert parse_slice(engine_slice(address("10.0.0.1"), ports=[{"name": "x", "port": 1}])) is None


@pytest.mark.parametrize("status", [{"conditions": []}, {"servedNames": []}])
def test_an_endpoint_that_was_never_accepted_is_not_routed(status: Object) -> None:
    assert parse_endpoint(iep(**status)) is None


def test_an_engines_key_is_what_the_operator_makes_it() -> None:
    # as openssl computes it: printf engine-key/u-1/1 | openssl dgst -sha256 -mac HMAC
    digest = "e7f2aa5f5a32645420c98c54cf568be880fca6d68129aa03eabf00509e0fd065"
    assert engine_key(ROOT_KEY, "u-1") == f"sk-engine-{digest}"


@pytest.mark.parametrize(
    ("namespace", "endpoints", "everywhere", "names"),
    [
        ("team-a", ["*"], False, None),
        ("team-a", ["qwen", "small"], False, {"qwen", "small"}),
        ("team-a", ["*/*"], False, {"*/*"}),
        ("system", ["*/*"], True, {"*/*"}),
    ],
)
def test_a_key_opens_what_its_entry_says(
    namespace: str, endpoints: list[str], everywhere: bool, names: set[str] | None
) -> None:
    entry = {"sha256": "00" * 32, "namespace": namespace, "name": "ci", "endpoints": endpoints}
    document = json.dumps({"version": 1, "keys": [entry]}).encode()
    (key,) = parse_keyring(document, release_namespace="system").values()
    assert (key.everywhere, key.endpoints) == (everywhere, names)
