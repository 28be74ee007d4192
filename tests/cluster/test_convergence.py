"""From any state two reconciles end in the same place, and the second one writes nothing."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

import pytest
import pytest_asyncio
import yaml

from endpoint_operator import names, status
from endpoint_operator.kinds import READ_BY_PODS
from endpoint_operator.live import Ref, ref_of
from helpers import builders
from helpers.damage import FOREIGN, TEMPLATE, Damage
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.operator_process import RELEASE, OperatorProcess
from helpers.random_specs import Generator
from helpers.stepped_operator import stepping
from kube_api import Config
from kube_api.config import from_kubeconfig

Object = dict[str, Any]

EXAMPLES = 40
"""Each is a seed: the same one falls the same way again."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rights(
    plane: ControlPlane,
    cluster: LiveCluster,
    shared_operator: OperatorProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    """What the chart grants; and no other operator at work."""
    if shared_operator.is_running():
        shared_operator.stop()
    target = tmp_path_factory.mktemp("rights") / "kubeconfig"
    await RELEASE.kubeconfig("operator", cluster.api, admin=plane.kubeconfig, target=target)
    return from_kubeconfig(yaml.safe_load(target.read_text()), base=target.parent)


async def create(cluster: LiveCluster, ref: Ref, spec: Object, *, template: str = "0") -> None:
    """Create an endpoint in a namespace with a chat template that it may refer to."""
    meta = {"namespace": ref.namespace, "name": TEMPLATE}
    await cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"b": template}}
    )
    body = builders.endpoint() | {"metadata": {"namespace": ref.namespace, "name": ref.name}}
    await cluster.create(body | {"spec": spec})


@pytest.mark.parametrize("seed", range(EXAMPLES))
async def test_from_any_state_the_second_reconcile_writes_nothing(
    cluster: LiveCluster, namespace: str, rights: Config, seed: int
) -> None:
    specs, endpoint = Generator(seed), Ref("InferenceEndpoint", namespace, "qwen")
    damage = Damage(cluster, endpoint, specs)
    await create(cluster, endpoint, specs.good_spec())
    async with stepping(rights, endpoint) as operator:
        await operator.settle()
        for _ in range(specs.random.randint(1, 6)):
            await damage.happen()
        print("\n".join(damage.done))  # which pytest shows where it fails
        foreign = await foreign_fields(damage)
        if damage.referred or specs.random.random() < 0.5:
            await operator.restart()
        await operator.settle()
        await be_level(cluster, endpoint)
        await operator.rest()
        await operator.restart()
        await operator.rest()
        assert not lost(foreign, await foreign_fields(damage))
    await is_like_a_new_one(cluster, rights, damage)
    await cluster.delete(endpoint)


async def be_level(cluster: LiveCluster, endpoint: Ref) -> None:
    """Wait until the Deployment's controller has done what it can do without a node."""
    ref = Ref("Deployment", endpoint.namespace, names.engine_name(endpoint.name))
    if await cluster.get(ref):
        await cluster.eventually(
            ref, lambda body: status.is_complete(body) or body["spec"]["replicas"]
        )


async def foreign_fields(damage: Damage) -> dict[str, set[str]]:
    """Return what is somebody else's in each child, by the child's uid."""
    return {
        body["metadata"]["uid"]: set(re.findall(rf"{FOREIGN}[/-]\w+", json.dumps(body)))
        for body in await damage.children()
    }


def lost(before: dict[str, set[str]], after: dict[str, set[str]]) -> list[str]:
    """Return what was lost of children that still exist."""
    return [each for uid in before.keys() & after.keys() for each in before[uid] - after[uid]]


async def is_like_a_new_one(cluster: LiveCluster, rights: Config, damage: Damage) -> None:
    """Fail unless an endpoint looks like a new one with its spec, but for what is foreign."""
    body = await cluster.must_get(damage.endpoint)
    accepted = builders.condition_of(body, "Accepted")
    if accepted["status"] != "True":
        # what has lost owner and label is somebody's, and a claim that is kept is never given up
        assert re.search("is not of|PersistentVolumeClaim", accepted["message"]), accepted
        return
    template = await cluster.must_get(Ref("ConfigMap", damage.endpoint.namespace, TEMPLATE))
    new = Ref(damage.endpoint.kind, f"{damage.endpoint.namespace}-new", damage.endpoint.name)
    meta = {"name": new.namespace}
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    await create(cluster, new, body["spec"], template=template["data"]["b"])
    async with stepping(rights, new) as operator:
        await operator.settle()
        await be_level(cluster, new)
        await operator.rest()
    wanted = Damage(cluster, new, damage.specs)
    found, should = [
        yaml.safe_dump(await picture(cluster, each)).splitlines() for each in (damage, wanted)
    ]
    difference = "\n".join(difflib.unified_diff(should, found, lineterm="", n=5))
    assert not difference, difference


async def picture(cluster: LiveCluster, damage: Damage) -> Object:
    """Return endpoint and children without what two endpoints of one spec differ in."""
    endpoint, children = await cluster.must_get(damage.endpoint), await damage.children()
    deployments = [child for child in children if child["kind"] == "Deployment"]
    rolling = not all(map(status.is_complete, deployments))
    seen = {
        str(ref_of(child)): plain(child)
        for child in children
        if is_in_use(child, json.dumps(deployments)) or not may_be_left(child, rolling=rolling)
    }
    text = json.dumps(seen | {"status": None if rolling else said(endpoint)})
    for child in children:
        if child["kind"] == "Secret":
            text = text.replace(child["metadata"]["name"], "SECRET")
    shown: Object = json.loads(text.replace(damage.endpoint.namespace, "NAMESPACE"))
    return shown


def is_in_use(child: Object, template: str) -> bool:
    """Return whether pods of the current spec read an object."""
    return child["kind"] in READ_BY_PODS and f'"{child["metadata"]["name"]}"' in template


def may_be_left(child: Object, *, rolling: bool) -> bool:
    """Return whether an object stays that is not wanted: for pods, or because nobody owns it."""
    is_read = rolling and child["kind"] in READ_BY_PODS
    return is_read or "ownerReferences" not in child["metadata"]


def plain(child: Object) -> Object:
    """Return what somebody wants of a child."""
    meta = child["metadata"]
    notes = {
        key: value
        for key, value in meta.get("annotations", {}).items()
        if key.startswith(names.GROUP)
    }
    notes[names.APPLIED_HASH] = "of the engine's key as well"
    owners = [owner["name"] for owner in meta.get("ownerReferences", ())]
    rest = {key: value for key, value in child.items() if key not in ("metadata", "status")}
    shown = {"labels": meta.get("labels"), "annotations": notes, "owners": owners, **rest}
    wanted: Object = without_foreign(shown)
    return wanted


def without_foreign(value: Any) -> Any:
    """Return a value without foreign fields, and without what the API server gives out."""
    if isinstance(value, dict):
        dropped = ("clusterIP", "clusterIPs", names.REVISION, "api-key")
        return {
            key: without_foreign(item)
            for key, item in value.items()
            if not key.startswith(FOREIGN) and key not in dropped
        }
    if isinstance(value, list):
        return [without_foreign(item) for item in value if not is_foreign(item)]
    return value


def is_foreign(item: Any) -> bool:
    return isinstance(item, dict) and str(item.get("name")).startswith(FOREIGN)


def said(endpoint: Object) -> Object:
    """Return a status without times."""
    found = {key: value for key, value in endpoint["status"].items() if key != "observedGeneration"}
    kept = ("type", "status", "reason", "message")
    found["conditions"] = [{key: each[key] for key in kept} for each in found["conditions"]]
    return found
