"""From Kubernetes objects to what requests are routed by."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from endpoint_gateway.catalog import Catalog, Keyring, Replica
from endpoint_gateway.discovery import Own, WatchedDirectory
from endpoint_gateway.objects import engine_key
from helpers.cluster_objects import (
    ROOT_KEY,
    Object,
    address,
    engine_slice,
    iep,
    keyring_secret,
    secret,
)
from helpers.virtual_clock import run_virtually
from kube_api import Event, Forbidden, Resource


def bearer(root_key: bytes) -> bytes:
    return f"Bearer {engine_key(root_key, 'uid-qwen', 1)}".encode()


OWN = Own("system", "keyring", "root", "gateway")


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
        ours = label_selector == "kubernetes.io/service-name=gateway"
        assert (namespace == "system") is (resource.plural == "secrets" or ours)
        assert bool(label_selector) is (resource.plural == "endpointslices")
        queue = self._queue(resource.plural, "gateway" if ours else field_selector)
        while True:
            yield await queue.get()

    def endpoint(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("inferenceendpoints", "").put_nowait(Event(kind, obj))

    def slice(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("endpointslices", "").put_nowait(Event(kind, obj))

    def gateways(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("endpointslices", "gateway").put_nowait(Event(kind, obj))

    def synced(self) -> None:
        for plural in ("inferenceendpoints", "endpointslices"):
            self._queue(plural, "").put_nowait(Event("SYNCED", {}))

    def counted(self) -> None:
        self._queue("endpointslices", "gateway").put_nowait(Event("SYNCED", {}))

    def keyring(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("secrets", "metadata.name=keyring").put_nowait(Event(kind, obj))

    def root_key(self, obj: Object, kind: Any = "MODIFIED") -> None:
        self._queue("secrets", "metadata.name=root").put_nowait(Event(kind, obj))


class Followed:
    """A directory that follows a cluster, for the length of a block."""

    async def __aenter__(self) -> Followed:
        self.cluster = Cluster()
        self.swaps: asyncio.Queue[Catalog] = asyncio.Queue()
        self.keyrings: list[Keyring] = []
        self.directory = WatchedDirectory(
            self.cluster.watch,
            own=OWN,
            on_change=self.swaps.put_nowait,
            on_keyring=self.keyrings.append,
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
        self.cluster.counted()
        self.cluster.keyring(keyring_secret("sk-1"))
        self.cluster.root_key(secret(root_key=ROOT_KEY))
        return await self.swaps.get()


async def test_what_the_cluster_has_is_in_the_catalog() -> None:
    async with Followed() as followed:
        catalog = await followed.start()
        (endpoint,) = catalog.endpoints
    assert (endpoint.qualified_name, endpoint.served_names) == ("team-a/qwen", ("tiny",))
    assert endpoint.replicas == (Replica("10.0.0.1", 8000),)
    assert endpoint.authorizations == (bearer(ROOT_KEY),)
    assert endpoint.created == 1795240800
    assert followed.directory.ready
    assert {key.name for key in followed.directory.keyring.values()} == {"sk-1"}


@pytest.mark.parametrize("missing", ["endpoints and slices", "keyring", "root key", "gateways"])
async def test_it_is_not_ready_before_all_is_known(missing: str) -> None:
    async with Followed() as followed:
        followed.cluster.endpoint(iep())
        if missing != "endpoints and slices":
            followed.cluster.synced()
        if missing != "keyring":
            followed.cluster.keyring(keyring_secret("sk-1"))
        if missing != "root key":
            followed.cluster.root_key(secret(root_key=ROOT_KEY))
        if missing != "gateways":
            followed.cluster.counted()
        await followed.settled()
        assert not followed.directory.ready


async def test_a_change_is_in_force_soon() -> None:
    async with Followed() as followed:
        await followed.start()
        began = asyncio.get_running_loop().time()
        followed.cluster.endpoint(iep(servedNames=["other"]))
        followed.cluster.slice(
            engine_slice(address("10.0.0.1", terminating=True), address("10.0.0.2"))
        )
        catalog = await followed.swaps.get()
        # well under a second on a machine that does nothing else
        assert asyncio.get_running_loop().time() - began < 5
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
        assert followed.keyrings[-1] is followed.directory.keyring


def gateway_slice(*pods: str, name: str = "gateway-4", ready: bool = True) -> Object:
    """Return an EndpointSlice of the gateway's Service."""
    conditions = {"ready": ready, "terminating": not ready}
    return {
        "metadata": {"namespace": "system", "name": name},
        "endpoints": [
            {"addresses": [f"{name}.{pod}"], "conditions": conditions, "targetRef": {"name": pod}}
            for pod in pods
        ],
    }


async def test_the_gateways_that_are_ready_are_counted_once_each() -> None:
    async with Followed() as followed:
        assert followed.directory.gateways == 1
        followed.cluster.gateways(gateway_slice("a", "b", "c"))
        followed.cluster.gateways(gateway_slice("a", "b", "c", name="gateway-6"))
        followed.cluster.gateways(gateway_slice("d", name="gateway-x", ready=False))
        await followed.settled()
        assert followed.directory.gateways == 3
        followed.cluster.gateways(gateway_slice(name="gateway-6"), "DELETED")
        followed.cluster.gateways(gateway_slice("a"))
        await followed.settled()
        assert followed.directory.gateways == 1
        followed.cluster.gateways(gateway_slice())
        await followed.settled()
        assert followed.directory.gateways == 1


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
    "not a time": {
        "data": {
            "keyring.json": base64.b64encode(
                b'{"version":1,"keys":[{"sha256":"00","endpoints":[],"namespace":"","name":"",'
                b'"expires":"soon"}]}'
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


async def test_while_the_root_key_changes_the_one_before_is_known_too() -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.root_key(secret(root_key=b"new" * 11, previous_root_key=ROOT_KEY))
        catalog = await followed.swaps.get()
        assert catalog.endpoints[0].authorizations == (bearer(b"new" * 11), bearer(ROOT_KEY))
        followed.cluster.root_key(secret(root_key=b"new" * 11, previous_root_key=b""))
        catalog = await followed.swaps.get()
        assert catalog.endpoints[0].authorizations == (bearer(b"new" * 11),)


async def test_a_new_root_key_alone_stands_beside_the_one_before_until_that_is_taken_out() -> None:
    async with Followed() as followed:
        await followed.start()
        for _ in range(2):  # the second time with another label, for example
            followed.cluster.root_key(secret(root_key=b"new" * 11))
        catalog = await followed.swaps.get()
        assert catalog.endpoints[0].authorizations == (bearer(b"new" * 11), bearer(ROOT_KEY))
        followed.cluster.root_key(secret(root_key=b"new" * 11, previous_root_key=ROOT_KEY))
        await followed.swaps.get()
        followed.cluster.root_key(secret(root_key=b"new" * 11))
        catalog = await followed.swaps.get()
        assert catalog.endpoints[0].authorizations == (bearer(b"new" * 11),)


@pytest.mark.parametrize(
    "bad", [secret(root_key=b""), {"data": {"root-key": "%"}}, {"data": {"root-key": "eHh4"}}]
)
async def test_a_root_key_that_is_none_changes_nothing(
    bad: Object, caplog: pytest.LogCaptureFixture
) -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.root_key(bad)
        followed.cluster.endpoint(iep(servedNames=["other"]))
        catalog = await followed.swaps.get()
    assert catalog.endpoints[0].authorizations == (bearer(ROOT_KEY),)
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


async def closed(
    resource: Resource,
    *,
    namespace: str | None = None,
    label_selector: str = "",
    field_selector: str = "",
) -> AsyncIterator[Event]:
    """Watch in a cluster of which one namespace refuses us, and nothing happens."""
    if namespace == "gone":
        raise Forbidden(403, f"{resource.plural}{label_selector}{field_selector} are not for us")
    await asyncio.Event().wait()
    yield Event("SYNCED", {})


def test_a_namespace_that_stays_closed_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        directory = WatchedDirectory(
            closed,
            own=OWN,
            watched=["gone"],
            on_change=list[Catalog]().append,
            on_keyring=list[Keyring]().append,
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(directory.run(), 3600)

    run_virtually(story())
    assert len(caplog.records) == 2  # endpoints and their slices


MALFORMED = {
    "a port without a number": engine_slice(
        address("10.0.0.9"), ports=[{"name": "http"}, {"name": "http", "port": None}]
    ),
    "a port that is none": engine_slice(
        address("10.0.0.9"), ports=[{"name": "http", "port": "8000"}]
    ),
    "a port that can't be": engine_slice(
        address("10.0.0.9"), ports=[{"name": "http", "port": 70000}]
    ),
    "ports that are none": engine_slice(address("10.0.0.9"), ports="http"),
    "an address without address": engine_slice({"conditions": {}}),
    "no addresses": engine_slice({"addresses": []}),
    "an address that is a number": engine_slice({"addresses": [7]}),
    "conditions that are a text": engine_slice({"addresses": ["10.0.0.9"], "conditions": "ready"}),
    "endpoints that are a text": engine_slice(endpoints="10.0.0.9"),
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED)
async def test_a_slice_that_is_none_stops_nobody(bad: Object) -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.slice({**bad, "metadata": {**bad["metadata"], "name": "bad"}})
        followed.cluster.endpoint(iep("later"))
        catalog = await followed.swaps.get()
    assert [each.name for each in catalog.endpoints] == ["later", "qwen"]
    assert catalog.qualified["team-a", "qwen"].replicas == (Replica("10.0.0.1", 8000),)


MALFORMED_ENDPOINTS: dict[str, Object] = {
    "names that can't be looked up": {"status": {"servedNames": [["x"], {}]}},
    "names that are a number": {"status": {"servedNames": 7}},
    "a status that is a text": {"status": "ready"},
    "a spec that is a list": {"spec": []},
    "a source that is a number": {"spec": {"model": {"source": 7}}},
    "a model that is a text": {"spec": {"model": "tiny"}},
    "no such time": {"metadata": {**iep()["metadata"], "creationTimestamp": "yesterday"}},
}


@pytest.mark.parametrize("bad", MALFORMED_ENDPOINTS.values(), ids=MALFORMED_ENDPOINTS)
async def test_an_endpoint_that_is_none_stops_nobody_and_stays_as_it_was(
    bad: Object, caplog: pytest.LogCaptureFixture
) -> None:
    async with Followed() as followed:
        await followed.start()
        followed.cluster.endpoint({**iep(), **bad})
        followed.cluster.endpoint(iep("later"))
        catalog = await followed.swaps.get()
    assert [each.name for each in catalog.endpoints] == ["later", "qwen"]
    assert catalog.qualified["team-a", "qwen"].served_names == ("tiny",)
    assert "team-a/qwen is not as it should be" in caplog.text
