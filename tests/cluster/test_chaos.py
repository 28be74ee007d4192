"""Killed at any instant, and with an API server that misbehaves, the operator loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import yaml

from endpoint_operator import keyring, names
from endpoint_operator.keys import digest, read_held
from endpoint_operator.kinds import MANAGED_KINDS, OWN_KINDS, POD, RESOURCES
from endpoint_operator.live import Ref
from helpers import builders
from helpers.chaos import Gateway, Reaper, Users, keep_running
from helpers.chaos_proxy import CALM, GALE, STORM, ChaosProxy
from helpers.live_cluster import DEADLINE_SECONDS, LiveCluster
from helpers.live_keys import RING
from helpers.operator_process import OperatorProcess
from kube_api.config import from_kubeconfig

Object = dict[str, Any]

SETTLING_SECONDS = 240


@pytest.fixture
def proxy(operator: OperatorProcess, request: pytest.FixtureRequest) -> Iterator[ChaosProxy]:
    """A misbehaving way to the API server, and nobody else at work there."""
    operator.stop()
    kubeconfig = operator.kubeconfig
    upstream = from_kubeconfig(yaml.safe_load(kubeconfig.read_text()), base=kubeconfig.parent)
    with ChaosProxy(upstream, seed=request.node.callspec.params["seed"]) as running:
        yield running


@asynccontextmanager
async def storm(victim: OperatorProcess, proxy: ChaosProxy, users: Users) -> AsyncIterator[None]:
    """Run an operator that can't rely on any answer, and start it again whenever it ends."""
    proxy.odds = STORM
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(keep_running(victim)),
            group.create_task(Gateway(users).look_on()),
        ]
        yield
        for task in tasks:
            task.cancel()
    proxy.odds = CALM
    assert "failed unexpectedly" not in victim.log(), victim.log()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_everything_is_as_it_should_be_in_the_end(
    cluster: LiveCluster, namespace: str, operator: OperatorProcess, proxy: ChaosProxy, seed: int
) -> None:
    users = Users(cluster, namespace, seed)
    victim = operator.twin("operator-0", url=proxy.url)
    reaper = proxy.on_write = Reaper(victim, seed)
    try:
        async with storm(victim, proxy, users):
            await users.work(reaper)
            # the storm goes on: it has to come to an end in spite of it, and not by luck, since
            # each failure in a row makes the pause after it longer
            proxy.odds = GALE
            await settle(users, victim, within=SETTLING_SECONDS)
        await is_left_alone_by_the_next_one(cluster, users, victim)
    finally:
        if victim.is_running():
            victim.kill()


async def is_left_alone_by_the_next_one(
    cluster: LiveCluster, users: Users, victim: OperatorProcess
) -> None:
    """What the storm left is what a start in calm weather would make."""
    if victim.is_running():
        victim.kill()
    await victim.start()
    await settle(users, victim)
    before = await cluster.writes()
    await victim.restart()
    ref = Ref("InferenceEndpoint", users.namespace, "marker")
    await cluster.create(marker(users.namespace))
    await cluster.eventually(ref, is_accepted)
    assert await cluster.writes() - before <= 10  # those of the marker


def marker(namespace: str) -> Object:
    body = builders.endpoint("marker", namespace, replicas=0)
    return body | {"metadata": {"name": "marker", "namespace": namespace}}


def is_accepted(body: Object) -> bool:
    settled = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
    return settled and builders.condition_of(body, "Accepted").get("status") == "True"


async def settle(
    users: Users, victim: OperatorProcess, *, within: float = DEADLINE_SECONDS
) -> None:
    """Wait until the cluster is what the users have asked for; else say what is not."""

    async def is_settled() -> bool:
        return not await unsettled(users)

    try:
        await users.cluster.until(is_settled, what="everything to settle", within=within)
    except AssertionError as error:
        error.add_note(victim.log()[-20_000:])
        error.add_note(f"not settled: {await unsettled(users)}")
        raise


async def unsettled(users: Users) -> list[str]:
    """Return what in the cluster is more or less than what the users have asked for."""
    found = [
        body
        for kind in (*OWN_KINDS, *MANAGED_KINDS)
        if kind != POD
        for body in await users.cluster.api.list(RESOURCES[kind], users.namespace)
    ]
    owners = {body["metadata"]["uid"]: body for body in found if body["kind"] in OWN_KINDS}
    children = [body for body in found if is_managed(body)]
    if left := [name_of(child) for child in children if owner_of(child) not in owners]:
        return left  # the garbage collector is not done
    wanted = [*users.endpoints.values(), *users.keys.values()]
    assert {body["metadata"]["uid"] for body in wanted} == owners.keys()
    ring = keyring.read_keyring(await users.cluster.get(RING))
    listed = {entry.name for entry in ring if entry.namespace == users.namespace}
    settled: dict[str, Callable[[Object, list[Object]], bool]] = {
        "InferenceEndpoint": endpoint_is_settled,
        "ApiKey": partial(key_is_settled, ring),
    }
    return [
        *(f"{name} in the keyring" for name in listed ^ users.keys.keys()),
        *(
            name_of(body)
            for uid, body in owners.items()
            if not settled[body["kind"]](
                body, [child for child in children if owner_of(child) == uid]
            )
        ),
    ]


def endpoint_is_settled(body: Object, children: list[Object]) -> bool:
    """Return whether an endpoint has exactly its children, and says so."""
    deployments = [child for child in children if child["kind"] == "Deployment"]
    if not is_accepted(body) or len(deployments) != 1:
        return False
    (deployment,) = deployments
    wanted = {(ref.kind, ref.name) for ref in builders.child_refs(deployment)}
    is_complete = builders.condition_of(body, "Progressing").get("reason") == "Complete"
    template = str(deployment["spec"]["template"]["spec"]["containers"][0]["env"])
    numbers = [item["value"] for item in body["spec"]["engine"].get("env", [])]
    return (
        is_complete
        and deployment["spec"]["replicas"] == body["spec"]["replicas"]
        and wanted == {(child["kind"], child["metadata"]["name"]) for child in children}
        and all(number in template for number in numbers)
    )


def key_is_settled(ring: keyring.Keyring, body: Object, children: list[Object]) -> bool:
    """Return whether the keyring lists an ApiKey's keys and no other for it, and no more comes."""
    if builders.condition_of(body, "Ready").get("status") != "True" or len(children) != 1:
        return False
    held = read_held(children[0])
    asked = body["spec"].get("rotation", {}).get("id", held.rotation)
    if held.upcoming or (asked != held.rotation and not held.previous):
        return False
    keys = filter(None, (held.current, held.previous))
    meta = body["metadata"]
    listed = {entry.sha256 for entry in ring.of(meta["namespace"], meta["name"])}
    return listed == set(map(digest, keys))


def name_of(body: Object) -> str:
    return f"{body['kind']} {body['metadata']['name']}"


def is_managed(body: Object) -> bool:
    return bool(body["metadata"].get("labels", {}).get(names.MANAGED_BY) == names.MANAGER)


def owner_of(body: Object) -> str:
    owners = [each["uid"] for each in body["metadata"].get("ownerReferences", ())]
    return str(owners[0]) if owners else ""
