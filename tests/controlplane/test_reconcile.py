"""The story of an endpoint, told on a cluster in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.controller import hold_slots
from endpoint_operator.keys import RootKey
from endpoint_operator.live import Ref
from endpoint_operator.reconcile import let_go, reconcile_endpoint
from endpoint_operator.settings import HostDomain
from endpoint_operator.settled import Settled
from endpoint_operator.upgrades import Slots
from helpers import builders
from helpers.memory_cluster import MakeContext, MemoryCluster
from kube_api import Conflict, Forbidden, Invalid, Unavailable

Object = dict[str, Any]

ENDPOINT = Ref("InferenceEndpoint", "team-a", "qwen")
DEPLOYMENT = Ref("Deployment", "team-a", "qwen-engine")
ENGINE_SERVICE = Ref("Service", "team-a", "qwen-engine")
GATEWAY_SERVICE = Ref("Service", "team-a", "qwen")
POLICY = Ref("NetworkPolicy", "team-a", "qwen-engine")
SECRET = Ref("Secret", "team-a", "qwen-engine-d26fdcdef82b2c77")
CONFIG = Ref("ConfigMap", "team-a", builders.config_name("qwen"))
BUDGET = Ref("PodDisruptionBudget", "team-a", "qwen-engine")
CHILDREN = [GATEWAY_SERVICE, ENGINE_SERVICE, POLICY, SECRET, CONFIG, BUDGET, DEPLOYMENT]


class Story:
    """An endpoint on a cluster, reconciled on demand; ``writes`` are those of the last time."""

    def __init__(self, make_context: MakeContext, *objects: Object) -> None:
        self.cluster = MemoryCluster(*objects)
        self.context = make_context(self.cluster)
        self.writes: list[tuple[str, Ref]] = []

    async def reconcile(self) -> float | None:
        """Reconcile once; return after how many seconds to look again."""
        self.cluster.writes.clear()
        outcome = await reconcile_endpoint(self.context, ENDPOINT)
        self.writes = list(self.cluster.writes)
        return outcome.again_after

    def set(self, **settings: Any) -> None:
        """Go on with an operator whose settings differ."""
        changed = self.context.settings.model_copy(update=settings)
        self.context = replace(self.context, settings=changed, settled=Settled())

    def condition(self, kind: str) -> Object:
        return builders.condition_of(self.cluster.stored(ENDPOINT), kind)

    def roll_out(self, ref: Ref = DEPLOYMENT, **status: Any) -> None:
        """Have a Deployment say that all pods are of its current template, but for this."""
        deployment = self.cluster.stored(ref)
        count, generation = deployment["spec"]["replicas"], deployment["metadata"]["generation"]
        rollout = builders.rolled_out(count, generation=generation)
        self.cluster.put(deployment | {"status": rollout | status})

    @property
    def mounted(self) -> Ref:
        """The ConfigMap that pods of the current template read."""
        volumes = self.cluster.stored(DEPLOYMENT)["spec"]["template"]["spec"]["volumes"]
        return Ref("ConfigMap", "team-a", volumes[0]["configMap"]["name"])

    @property
    def replicas(self) -> int:
        return int(self.cluster.stored(DEPLOYMENT)["spec"]["replicas"])

    @property
    def image(self) -> str:
        template = self.cluster.stored(DEPLOYMENT)["spec"]["template"]
        return str(template["spec"]["containers"][0]["image"])


@pytest.fixture
def new(make_context: MakeContext) -> Story:
    """A story that begins with a new endpoint."""
    return Story(make_context, builders.endpoint(replicas=3))


@pytest.fixture
async def settled(new: Story) -> Story:
    """A story that goes on with an endpoint whose children exist."""
    await new.reconcile()
    return new


async def test_a_new_endpoint_costs_one_write_per_child_and_one_status(new: Story) -> None:
    await new.reconcile()
    assert new.writes == [*(("apply", child) for child in CHILDREN), ("status", ENDPOINT)]


async def test_a_second_reconcile_writes_nothing(settled: Story) -> None:
    await settled.reconcile()
    assert settled.writes == []


async def test_the_status_of_an_accepted_endpoint_tells_how_to_call_it(settled: Story) -> None:
    said = settled.cluster.stored(ENDPOINT)["status"]
    assert said["url"] == "http://qwen.team-a/v1"
    assert said["servedNames"] == ["Qwen/Qwen2.5-7B-Instruct"]
    assert said["image"] == "vllm/vllm-openai:v0.33.0"
    assert settled.condition("Accepted")["status"] == "True"


async def test_the_url_is_below_the_external_one_if_there_is_one(new: Story) -> None:
    new.set(external_url="https://llm.example.com/")
    await new.reconcile()
    url = new.cluster.stored(ENDPOINT)["status"]["url"]
    assert url == "https://llm.example.com/team-a.qwen/v1"


async def test_an_edit_writes_what_it_changes_and_the_status(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, engine={"image": "vllm/vllm-openai:v0.34.0"})
    await settled.reconcile()
    assert settled.writes == [("apply", DEPLOYMENT), ("status", ENDPOINT)]
    assert settled.image == "vllm/vllm-openai:v0.34.0"


@pytest.mark.parametrize("child", CHILDREN, ids=str)
async def test_a_deleted_child_is_made_again(settled: Story, child: Ref) -> None:
    settled.cluster.remove(child)
    await settled.reconcile()
    assert settled.writes[0] == ("apply", child)
    await settled.reconcile()
    assert settled.writes == []


async def test_drift_is_healed(settled: Story) -> None:
    service = settled.cluster.stored(GATEWAY_SERVICE)
    settled.cluster.put(service | {"spec": service["spec"] | {"externalName": "evil.example"}})
    await settled.reconcile()
    assert settled.writes == [("apply", GATEWAY_SERVICE)]
    healed = settled.cluster.stored(GATEWAY_SERVICE)["spec"]["externalName"]
    assert healed == "vllm-endpoints-gateway.vllm-system.svc.cluster.local"


async def test_what_can_not_be_beside_ours_goes(settled: Story) -> None:
    settled.cluster.refusals[DEPLOYMENT] = Invalid(422, "may not have more than 1 handler type")
    deployment = settled.cluster.stored(DEPLOYMENT)
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = {"tcpSocket": {}}
    settled.cluster.put(deployment)
    await settled.reconcile()
    assert [verb for verb, _ in settled.writes] == ["replace", "apply"]
    assert settled.replicas == 3
    engine = settled.cluster.stored(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]
    assert "httpGet" in engine["livenessProbe"]


async def test_what_is_refused_for_itself_is_said_in_the_words_of_the_first_refusal(
    settled: Story,
) -> None:
    settled.cluster.refusals[DEPLOYMENT] = Invalid(422, "the first")
    settled.cluster.irreplaceable[DEPLOYMENT] = Invalid(400, "the second")
    settled.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    await settled.reconcile()
    assert "the first" in settled.condition("Accepted")["message"]


async def test_a_stolen_label_is_put_back(settled: Story) -> None:
    config = settled.cluster.stored(CONFIG)
    settled.cluster.remove(CONFIG)  # what our watch, which selects by label, sees of it
    settled.cluster.put(config | {"metadata": config["metadata"] | {"labels": {}}}, seen=False)
    await settled.reconcile()
    assert settled.writes == [("apply", CONFIG)]
    assert settled.cluster.stored(CONFIG)["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER


async def test_fields_of_others_stay(settled: Story) -> None:
    service = settled.cluster.stored(GATEWAY_SERVICE)
    meta = service["metadata"] | {"annotations": service["metadata"]["annotations"] | {"x": "y"}}
    settled.cluster.put(service | {"metadata": meta})
    await settled.reconcile()
    assert settled.writes == []
    settled.cluster.edit(ENDPOINT, startupTimeout="1h")
    await settled.reconcile()
    assert settled.cluster.stored(GATEWAY_SERVICE)["metadata"]["annotations"]["x"] == "y"


async def test_a_child_that_is_no_longer_wanted_is_deleted(settled: Story) -> None:
    old = settled.cluster.stored(ENGINE_SERVICE)
    settled.cluster.put(
        old | {"metadata": old["metadata"] | {"name": "qwen-old", "uid": "uid-of-old"}}
    )
    await settled.reconcile()
    assert settled.writes == [("delete", Ref("Service", "team-a", "qwen-old"))]


async def test_pods_of_the_spec_before_keep_their_configuration_until_the_last_is_gone(
    settled: Story,
) -> None:
    settled.roll_out()
    before = settled.cluster.stored(CONFIG)
    settled.cluster.edit(ENDPOINT, engine={"config": {"seed": 1}})
    await settled.reconcile()
    assert settled.mounted != CONFIG
    assert settled.cluster.stored(settled.mounted)["data"]["config.yaml"] == "seed: 1\n"
    assert settled.cluster.stored(CONFIG) == before

    settled.roll_out()
    await settled.reconcile()
    assert ("delete", CONFIG) in settled.writes
    assert [child["metadata"]["name"] for child in settled.cluster.of_this_kind("ConfigMap")] == [
        settled.mounted.name
    ]


async def test_a_refused_edit_changes_nothing_that_runs_and_leaves_nothing(settled: Story) -> None:
    settled.roll_out()
    await settled.reconcile()
    before = [settled.cluster.stored(child) for child in CHILDREN]
    settled.cluster.refusals[DEPLOYMENT] = Forbidden(403, "policy: no")
    settled.cluster.edit(ENDPOINT, engine={"config": {"seed": 1}})
    await settled.reconcile()
    assert settled.condition("Accepted")["reason"] == "RefusedByCluster"
    assert [settled.cluster.stored(child) for child in CHILDREN] == before

    settled.cluster.refusals.clear()
    settled.cluster.edit(ENDPOINT, engine={})
    await settled.reconcile()
    assert len(settled.cluster.of_this_kind("ConfigMap")) == 1
    assert [settled.cluster.stored(child) for child in CHILDREN] == before


async def test_an_invalid_edit_changes_nothing_that_runs(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, engine={"image": "other:1", "config": {"seed": None}})
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    assert settled.condition("Accepted")["reason"] == "InvalidSpec"
    assert "spec.engine.config.seed" in settled.condition("Accepted")["message"]
    assert settled.cluster.stored(ENDPOINT)["status"]["servedNames"]


async def test_a_fault_of_ours_is_a_condition_and_changes_nothing_that_runs(settled: Story) -> None:
    settled.set(default_engine_image=object())
    settled.cluster.edit(ENDPOINT, startupTimeout="1h")
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    assert settled.condition("Accepted")["reason"] == "OperatorFault"


FOREIGN = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "team-a", "name": "qwen"},
    "spec": {"type": "ClusterIP"},
}


async def test_a_name_that_is_taken_is_never_touched_and_nothing_runs(new: Story) -> None:
    before = new.cluster.put(FOREIGN, seen=False)
    again_after = await new.reconcile()
    assert new.cluster.stored(GATEWAY_SERVICE) == before
    assert new.cluster.of_this_kind("Deployment") == []
    accepted = new.condition("Accepted")
    assert accepted["reason"] == "NameConflict"
    assert "Service team-a/qwen exists" in accepted["message"]
    assert again_after == 30

    new.cluster.vanish(GATEWAY_SERVICE)
    assert await new.reconcile() is None
    assert new.condition("Accepted")["status"] == "True"


async def test_every_name_that_is_taken_is_named(new: Story) -> None:
    new.cluster.put(FOREIGN, seen=False)
    secret = builders.secret(SECRET.name, SECRET.namespace, {})
    new.cluster.put(secret, seen=False)
    await new.reconcile()
    message = new.condition("Accepted")["message"]
    assert f"{SECRET}" in message
    assert f"{GATEWAY_SERVICE}" in message


async def test_a_name_that_is_taken_at_the_last_moment_is_never_touched(settled: Story) -> None:
    settled.cluster.vanish(GATEWAY_SERVICE)
    before = settled.cluster.put(FOREIGN, seen=False)
    settled.set(gateway_service="elsewhere")
    with pytest.raises(Conflict):
        await settled.reconcile()
    assert settled.cluster.stored(GATEWAY_SERVICE) == before


async def test_children_of_a_predecessor_are_not_taken_over(settled: Story) -> None:
    settled.cluster.remove(ENDPOINT)
    settled.cluster.put(builders.endpoint(uid="successor"))
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    assert settled.condition("Accepted")["reason"] == "PredecessorGoing"
    assert "Deployment team-a/qwen-engine" in settled.condition("Accepted")["message"]
    assert settled.cluster.posted == []


async def test_what_the_api_server_refuses_is_said_and_tried_again(new: Story) -> None:
    new.cluster.refusals[DEPLOYMENT] = Invalid(422, "spec.template: Invalid value")
    assert await new.reconcile() == 30
    assert new.condition("Accepted")["reason"] == "RefusedByCluster"
    assert "spec.template: Invalid value" in new.condition("Accepted")["message"]


async def test_what_others_have_to_mend_is_looked_at_less_and_less_often(new: Story) -> None:
    new.cluster.refusals[DEPLOYMENT] = Forbidden(403, "exceeded quota")
    outcome = await reconcile_endpoint(new.context, ENDPOINT)
    assert (outcome.again_after, outcome.refused) == (30, True)
    new.cluster.refusals.clear()
    assert not (await reconcile_endpoint(new.context, ENDPOINT)).refused


async def test_a_webhook_that_does_not_answer_is_said_and_what_it_judges_tried_again(
    new: Story,
) -> None:
    failing = 'Internal error occurred: failed calling webhook "policy.example.dev": refused'
    new.cluster.refusals[DEPLOYMENT] = Unavailable(500, failing)
    with pytest.raises(Unavailable):
        await new.reconcile()
    assert new.condition("Accepted")["reason"] == "RefusedByCluster"
    assert "policy.example.dev" in new.condition("Accepted")["message"]


async def test_configurations_of_edits_that_are_refused_do_not_pile_up(settled: Story) -> None:
    settled.roll_out()
    for refused in (settled.cluster.refusals, settled.cluster.irreplaceable):
        refused[DEPLOYMENT] = Invalid(422, "spec.template: Invalid value")
    for size in (1, 2, 3):
        settled.cluster.edit(ENDPOINT, engine={"config": {"max-num-seqs": size}})
        await settled.reconcile()
    configs = settled.cluster.of_this_kind("ConfigMap")
    assert len(configs) == 2
    assert settled.mounted.name in {each["metadata"]["name"] for each in configs}
    assert settled.cluster.stored(BUDGET)


async def test_a_status_that_is_not_taken_is_not_announced(settled: Story) -> None:
    settled.cluster.takes_status = False
    settled.cluster.put(unschedulable_pod(settled))
    await settled.reconcile()
    assert settled.cluster.posted == []


async def test_a_new_endpoint_costs_no_reads(new: Story) -> None:
    await new.reconcile()
    assert new.cluster.reads == []


async def test_a_new_endpoint_that_is_gone_is_forgotten(new: Story) -> None:
    new.cluster.vanish(ENDPOINT)
    await new.reconcile()
    assert new.cluster.get(ENDPOINT) is None
    new.cluster.remove(DEPLOYMENT)  # the garbage collector
    await new.reconcile()
    assert new.writes == []


async def test_nothing_is_made_for_an_endpoint_that_is_gone(settled: Story) -> None:
    settled.cluster.vanish(ENDPOINT)
    settled.cluster.remove(DEPLOYMENT)
    await settled.reconcile()
    assert settled.writes == []
    assert settled.cluster.get(ENDPOINT) is None


async def test_nothing_is_made_for_an_endpoint_that_is_being_deleted(settled: Story) -> None:
    body = settled.cluster.stored(ENDPOINT)
    meta = body["metadata"] | {"deletionTimestamp": "2026-11-21T12:00:00Z"}
    settled.cluster.put(body | {"metadata": meta})
    settled.cluster.remove(CONFIG)
    await settled.reconcile()
    assert settled.writes == []


async def test_no_replica_is_lost_by_an_edit_after_creation(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    await settled.reconcile()
    assert settled.replicas == 3
    assert ("scale", DEPLOYMENT) not in settled.writes


@pytest.mark.parametrize("count", [0, 2, 5])
async def test_a_changed_number_goes_through_scale_and_survives_edits(
    settled: Story, count: int
) -> None:
    settled.cluster.edit(ENDPOINT, replicas=count)
    await settled.reconcile()
    less = [("scale", DEPLOYMENT), ("delete", BUDGET)]  # GPUs first
    assert settled.writes == [
        *(less if count < 2 else [("scale", DEPLOYMENT)]),
        ("status", ENDPOINT),
    ]
    settled.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    await settled.reconcile()
    assert settled.replicas == count
    await settled.reconcile()
    assert settled.writes == []


async def test_a_number_that_changed_meanwhile_is_not_undone(settled: Story) -> None:
    workload = settled.cluster.stored(DEPLOYMENT)
    settled.cluster.put(workload | {"spec": workload["spec"] | {"replicas": 9}}, seen=False)
    settled.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    known = settled.cluster.get(DEPLOYMENT)
    assert known is not None
    assert known.owns_replicas
    with pytest.raises(Conflict):
        await settled.reconcile()
    assert settled.replicas == 9


async def test_an_operator_with_another_default_image_rolls_nothing(settled: Story) -> None:
    settled.set(default_engine_image="vllm:next")
    await settled.reconcile()
    assert settled.writes == []
    settled.cluster.edit(ENDPOINT, replicas=4)
    await settled.reconcile()
    assert settled.image == "vllm/vllm-openai:v0.33.0"
    settled.cluster.remove(DEPLOYMENT)  # by hand: it is made again as it was
    await settled.reconcile()
    assert settled.image == "vllm/vllm-openai:v0.33.0"
    settled.cluster.edit(ENDPOINT, startupTimeout="1h")
    await settled.reconcile()
    assert settled.image == "vllm:next"
    assert settled.cluster.stored(ENDPOINT)["status"]["image"] == "vllm:next"


async def test_an_operator_that_ends_before_its_status_write_keeps_the_image(
    settled: Story,
) -> None:
    settled.set(default_engine_image="vllm:next")
    settled.cluster.edit(ENDPOINT, startupTimeout="1h")
    settled.cluster.refusals[ENDPOINT] = Unavailable(503, "gone")
    with pytest.raises(Unavailable):
        await settled.reconcile()
    assert settled.image == "vllm:next"
    settled.cluster.refusals.clear()
    await settled.reconcile()
    assert settled.image == "vllm:next"
    assert settled.cluster.stored(ENDPOINT)["status"]["image"] == "vllm:next"


def without_owner(body: Object) -> Object:
    meta = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
    return body | {"metadata": meta}


@pytest.mark.parametrize("child", [DEPLOYMENT, ENGINE_SERVICE], ids=str)
async def test_a_child_that_lost_its_owner_is_taken_back(settled: Story, child: Ref) -> None:
    owners = settled.cluster.stored(child)["metadata"]["ownerReferences"]
    settled.cluster.put(without_owner(settled.cluster.stored(child)))
    await settled.reconcile()
    assert settled.writes == [("apply", child)]
    assert settled.cluster.stored(child)["metadata"]["ownerReferences"] == owners


async def test_a_child_that_lost_its_owner_and_is_wanted_no_more_goes(settled: Story) -> None:
    settled.cluster.put(without_owner(settled.cluster.stored(BUDGET)))
    settled.cluster.edit(ENDPOINT, replicas=1)
    await settled.reconcile()
    assert ("delete", BUDGET) in settled.writes


async def test_what_serves_without_an_owner_is_said_to_serve(settled: Story) -> None:
    settled.roll_out()
    settled.cluster.put(without_owner(settled.cluster.stored(DEPLOYMENT)))
    settled.cluster.refusals[SECRET] = Forbidden(403, "no secrets")
    settled.cluster.remove(SECRET)
    await settled.reconcile()
    assert settled.condition("Accepted")["reason"] == "RefusedByCluster"
    assert settled.condition("Ready")["status"] == "True"


async def test_a_child_like_object_that_we_never_applied_is_somebody_elses(new: Story) -> None:
    labels = names.child_labels("qwen")
    foreign = builders.secret(SECRET.name, SECRET.namespace, {})
    new.cluster.put(foreign | {"metadata": foreign["metadata"] | {"labels": labels}})
    await new.reconcile()
    assert new.condition("Accepted")["reason"] == "NameConflict"
    assert new.cluster.stored(SECRET)["data"] == {}


async def test_a_child_that_another_endpoint_lost_is_not_ours(settled: Story) -> None:
    body = without_owner(settled.cluster.stored(DEPLOYMENT))
    labels = body["metadata"]["labels"] | {names.ENDPOINT: "other"}
    settled.cluster.put(body | {"metadata": body["metadata"] | {"labels": labels}})
    await settled.reconcile()
    assert settled.condition("Accepted")["reason"] == "NameConflict"


def unschedulable_pod(story: Story) -> Object:
    """A pod of the current template that fits on no node."""
    template = story.cluster.stored(DEPLOYMENT)["spec"]["template"]["metadata"]
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }
    pod = builders.pod(status={"phase": "Pending", "conditions": [condition]})
    meta = pod["metadata"] | {"annotations": template.get("annotations", {})}
    return pod | {"metadata": meta}


async def test_what_keeps_a_pod_from_running_is_said(settled: Story) -> None:
    settled.cluster.put(unschedulable_pod(settled))
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    assert settled.condition("Ready")["reason"] == "InsufficientGpu"


async def test_a_pod_of_somebody_s_own_with_our_labels_tells_nothing(settled: Story) -> None:
    pod = unschedulable_pod(settled)
    del pod["metadata"]["ownerReferences"]
    settled.cluster.put(pod)
    await settled.reconcile()
    assert settled.condition("Ready")["reason"] == "Starting"


async def test_a_change_of_a_condition_is_announced_once(settled: Story) -> None:
    assert settled.cluster.posted == []
    settled.cluster.put(unschedulable_pod(settled))
    await settled.reconcile()
    await settled.reconcile()
    (event,) = settled.cluster.posted
    assert (event["type"], event["reason"]) == ("Warning", "InsufficientGpu")
    assert event["regarding"]["uid"] == "uid-1"


async def test_events_of_a_pod_are_read_only_where_nothing_else_can_tell(settled: Story) -> None:
    pod = unschedulable_pod(settled)
    scheduled = {"lastTransitionTime": "2026-11-21T11:00:00Z", "status": "True"}
    pod["status"]["conditions"] = [
        scheduled | {"type": "PodScheduled"},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    settled.cluster.put(pod)
    warning = {
        "metadata": {},
        "reason": "FailedMount",
        "message": 'secret "hf" not found',
        "lastTimestamp": "2026-11-21T12:00:00Z",
    }
    settled.cluster.warnings[pod["metadata"]["uid"]] = [warning]
    assert await settled.reconcile() == 60
    assert settled.condition("Ready")["reason"] == "ConfigurationMissing"

    settled.cluster.unreadable[Ref("Event")] = Forbidden(403, "events is forbidden")
    settled.cluster.edit(ENDPOINT, replicas=5)
    assert await settled.reconcile() == 60
    assert settled.condition("Accepted")["observedGeneration"] == 2


async def test_an_endpoint_is_suspended_and_comes_back_as_it_was(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, suspended=True)
    await settled.reconcile()
    assert settled.replicas == 0
    assert settled.condition("Ready")["reason"] == "Suspended"
    settled.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    await settled.reconcile()
    assert settled.replicas == 0
    settled.cluster.edit(ENDPOINT, suspended=False)
    await settled.reconcile()
    assert settled.replicas == 3


@pytest.mark.parametrize("less", [{"suspended": True}, {"replicas": 0}], ids=str)
async def test_nothing_that_is_refused_keeps_a_gpu(settled: Story, less: Object) -> None:
    settled.cluster.refusals[CONFIG] = Forbidden(403, "no")
    settled.cluster.remove(CONFIG)
    settled.cluster.edit(ENDPOINT, **less)
    await settled.reconcile()
    assert settled.condition("Accepted")["status"] == "False"
    assert settled.replicas == 0


async def test_an_image_without_a_version_is_accepted_with_a_warning(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, engine={"image": "vllm:latest"})
    await settled.reconcile()
    accepted = settled.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "UnpinnedImage")


async def test_of_two_endpoints_with_one_name_the_older_has_it(settled: Story) -> None:
    older = builders.endpoint("older", uid="uid-2")
    meta = older["metadata"] | {"creationTimestamp": "2026-01-01T00:00:00Z"}
    said = {"servedNames": ["Qwen/Qwen2.5-7B-Instruct"]}
    body = settled.cluster.stored(ENDPOINT)
    born = body["metadata"] | {"creationTimestamp": "2026-02-02T00:00:00Z"}
    settled.cluster.put(body | {"metadata": born})
    settled.cluster.put(older | {"metadata": meta, "status": said})
    await settled.reconcile()
    assert settled.condition("Routed")["reason"] == "NameTaken"
    assert "older" in settled.condition("Routed")["message"]
    settled.cluster.remove(Ref("InferenceEndpoint", "team-a", "older"))
    await settled.reconcile()
    assert settled.condition("Routed")["status"] == "True"


async def test_a_new_name_wakes_those_who_lose_it(new: Story) -> None:
    younger = Ref("InferenceEndpoint", "team-a", "younger")
    said = {"servedNames": ["Qwen/Qwen2.5-7B-Instruct"]}
    new.cluster.put(builders.endpoint("younger", uid="uid-2") | {"status": said})
    await new.reconcile()
    assert new.cluster.affected() == {younger}
    await new.reconcile()
    assert new.cluster.affected() == set()


ACCESS = {"aliases": ["gpt-4o-mini"], "timeouts": {"idle": "2m"}, "limits": {"maxInFlight": 8}}
TOLD = ACCESS | {"timeouts": {"idleSeconds": 120}}


async def test_another_policy_at_the_gateway_is_one_write_of_the_status(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, access=ACCESS)
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    assert settled.cluster.stored(ENDPOINT)["status"]["access"] == TOLD
    await settled.reconcile()
    assert settled.writes == []
    settled.cluster.edit(ENDPOINT, access={"limits": {"tokensPerMinute": 9}})
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    told = settled.cluster.stored(ENDPOINT)["status"]["access"]
    assert told == {"limits": {"tokensPerMinute": 9}}
    settled.cluster.edit(ENDPOINT, access={})
    await settled.reconcile()
    assert "access" not in settled.cluster.stored(ENDPOINT)["status"]


async def test_a_refused_policy_changes_nothing(settled: Story) -> None:
    settled.cluster.edit(ENDPOINT, access=ACCESS)
    await settled.reconcile()
    settled.cluster.edit(ENDPOINT, access={"hosts": ["A"], "limits": {"maxInFlight": 1}})
    await settled.reconcile()
    assert settled.condition("Accepted")["reason"] == "InvalidSpec"
    assert settled.cluster.stored(ENDPOINT)["status"]["access"] == TOLD


def open_domain(story: Story, *namespaces: str) -> None:
    story.set(host_domains=(HostDomain(domain="example.com", namespaces=namespaces),))


async def test_a_host_that_is_not_allowed_is_left_out_and_said_to_be(settled: Story) -> None:
    open_domain(settled, "team-a")
    settled.roll_out()
    settled.cluster.edit(ENDPOINT, access={"hosts": ["a.example.com", "a.other.org"]})
    await settled.reconcile()
    routed = settled.condition("Routed")
    assert (routed["status"], routed["reason"]) == ("False", "HostNotAllowed")
    assert "the host a.other.org, or" in routed["message"]
    assert "gateway.hostDomains" in routed["message"]
    assert "Allowed domains: example.com." in routed["message"]
    assert settled.cluster.stored(ENDPOINT)["status"]["access"] == {"hosts": ["a.example.com"]}
    assert settled.condition("Ready")["status"] == "True"


async def test_a_domain_that_is_taken_back_ends_hosts_of_a_refused_spec_too(settled: Story) -> None:
    open_domain(settled)
    settled.cluster.edit(ENDPOINT, access={"hosts": ["a.example.com"]})
    await settled.reconcile()
    settled.cluster.edit(ENDPOINT, unknown=1)
    await settled.reconcile()
    told = settled.cluster.stored(ENDPOINT)["status"]["access"]
    assert told == {"hosts": ["a.example.com"]}
    open_domain(settled, "team-b")
    await settled.reconcile()
    assert settled.cluster.stored(ENDPOINT)["status"]["access"]["hosts"] == []
    await settled.reconcile()
    assert settled.writes == []


def claim(story: Story, namespace: str, **access: list[str]) -> Ref:
    """Have an endpoint that is older than the story's claim something."""
    older = builders.endpoint("older", namespace, uid="uid-2")
    body = story.cluster.stored(ENDPOINT)
    born = body["metadata"] | {"creationTimestamp": "2026-02-02T00:00:00Z"}
    story.cluster.put(body | {"metadata": born})
    meta = older["metadata"] | {"creationTimestamp": "2026-01-01T00:00:00Z"}
    said = {"servedNames": ["x"], "access": access}
    story.cluster.put(older | {"metadata": meta, "status": said})
    return Ref("InferenceEndpoint", namespace, "older")


@pytest.mark.parametrize(
    ("namespace", "holder"), [("team-a", "endpoint older"), ("team-b", "another endpoint")]
)
async def test_of_two_endpoints_with_one_host_the_older_has_it(
    settled: Story, namespace: str, holder: str
) -> None:
    open_domain(settled)
    older = claim(settled, namespace, hosts=["a.example.com"])
    settled.cluster.edit(ENDPOINT, access={"hosts": ["b.example.com", "a.example.com"]})
    await settled.reconcile()
    routed = settled.condition("Routed")
    assert routed["reason"] == "HostTaken"
    assert f"the host a.example.com ({holder})" in routed["message"]
    assert "team-b" not in routed["message"]
    told = settled.cluster.stored(ENDPOINT)["status"]["access"]["hosts"]
    assert told == ["b.example.com", "a.example.com"]
    settled.cluster.affected()
    settled.cluster.remove(older)
    assert settled.cluster.affected() == {ENDPOINT}
    await settled.reconcile()
    assert settled.condition("Routed")["status"] == "True"


async def test_an_alias_that_an_older_endpoint_has_is_taken(settled: Story) -> None:
    claim(settled, "team-a", aliases=["gpt-4o-mini"])
    settled.cluster.edit(ENDPOINT, access={"aliases": ["gpt-4o-mini"]})
    await settled.reconcile()
    routed = settled.condition("Routed")
    assert routed["reason"] == "NameTaken"
    assert "spec.access.aliases" in routed["message"]
    assert "access" in settled.cluster.stored(ENDPOINT)["status"]


async def test_all_that_is_wrong_with_names_and_hosts_is_said_at_once(settled: Story) -> None:
    open_domain(settled)
    claim(settled, "team-a", aliases=["a"], hosts=["a.example.com"])
    access = {"aliases": ["a"], "hosts": ["a.example.com", "a.other.org"]}
    settled.cluster.edit(ENDPOINT, access=access)
    await settled.reconcile()
    routed = settled.condition("Routed")
    assert routed["reason"] == "NameTaken"
    said = ("name a (of older)", "host a.example.com (endpoint older)", "host a.other.org, or")
    assert [text for text in said if text not in routed["message"]] == []


TEMPLATE = Ref("ConfigMap", "team-a", "templates")
REFERENCE = {"configMapRef": {"name": "templates", "key": "chat"}}


def templates(**data: str) -> Object:
    meta = {"namespace": "team-a", "name": "templates"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def test_a_chat_template_of_a_config_map_is_rendered_and_followed(settled: Story) -> None:
    settled.cluster.put(templates(chat="{{ messages }}"), seen=False)
    model = settled.cluster.stored(ENDPOINT)["spec"]["model"]
    settled.cluster.edit(ENDPOINT, model=model | {"chatTemplate": REFERENCE})
    await settled.reconcile()
    files = settled.cluster.stored(settled.mounted)["data"]
    assert files["chat-template.jinja"] == "{{ messages }}"
    assert settled.cluster.referred == {ENDPOINT: TEMPLATE}

    settled.cluster.edit(ENDPOINT, model=model)
    await settled.reconcile()
    assert settled.cluster.referred == {}


async def test_what_changes_while_it_is_rendered_is_rendered_again(settled: Story) -> None:
    settled.cluster.put(templates(chat="old"), seen=False)
    model = settled.cluster.stored(ENDPOINT)["spec"]["model"]
    settled.cluster.edit(ENDPOINT, model=model | {"chatTemplate": REFERENCE})
    settled.cluster.before_write = lambda: settled.cluster.put(templates(chat="new"), seen=False)
    await settled.reconcile()
    await settled.reconcile()
    files = settled.cluster.stored(settled.mounted)["data"]
    assert files["chat-template.jinja"] == "new"


async def test_what_drifts_while_others_are_written_is_healed(settled: Story) -> None:
    def drift() -> None:
        settled.cluster.edit(GATEWAY_SERVICE, ports=[])

    settled.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    settled.cluster.before_write = drift
    await settled.reconcile()
    await settled.reconcile()
    assert settled.cluster.stored(GATEWAY_SERVICE)["spec"]["ports"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(None, "does not exist", id="no ConfigMap"),
        pytest.param(templates(other="x"), "no text under the key chat", id="no key"),
    ],
)
async def test_a_chat_template_that_is_missing_changes_nothing_that_runs(
    settled: Story, found: Object | None, says: str
) -> None:
    if found:
        settled.cluster.put(found, seen=False)
    model = settled.cluster.stored(ENDPOINT)["spec"]["model"]
    settled.cluster.edit(ENDPOINT, model=model | {"chatTemplate": REFERENCE})
    await settled.reconcile()
    assert settled.writes == [("status", ENDPOINT)]
    accepted = settled.condition("Accepted")
    assert accepted["reason"] == "ReferenceNotFound"
    assert "spec.model.chatTemplate.configMapRef" in accepted["message"]
    assert says in accepted["message"]


OTHER = Ref("InferenceEndpoint", "team-a", "other")
OTHER_DEPLOYMENT = Ref("Deployment", "team-a", "other-engine")


@pytest.fixture
async def upgraded(settled: Story) -> Story:
    """Two endpoints that serve, and an operator whose key and so whose pods are others."""
    settled.cluster.put(builders.endpoint("other", uid="uid-2"))
    await reconcile_endpoint(settled.context, OTHER)
    settled.roll_out()
    settled.roll_out(OTHER_DEPLOYMENT)
    await reconcile_endpoint(settled.context, OTHER)
    await settled.reconcile()
    settled.context.in_use.root_key = RootKey(b"n" * 32)
    return settled


async def test_an_upgrade_rolls_one_endpoint_after_the_other(upgraded: Story) -> None:
    await reconcile_endpoint(upgraded.context, OTHER)
    before = [upgraded.cluster.stored(child) for child in (DEPLOYMENT, SECRET, CONFIG)]
    await upgraded.reconcile()
    assert upgraded.condition("Progressing")["reason"] == "UpgradeWaiting"
    assert [upgraded.cluster.stored(child) for child in (DEPLOYMENT, SECRET, CONFIG)] == before
    await upgraded.reconcile()
    assert upgraded.writes == []

    upgraded.roll_out(OTHER_DEPLOYMENT)
    outcome = await reconcile_endpoint(upgraded.context, OTHER)
    assert outcome.then == (ENDPOINT,)
    await upgraded.reconcile()
    assert upgraded.condition("Progressing")["reason"] == "RollingOut"
    upgraded.roll_out()
    await upgraded.reconcile()
    assert ("delete", SECRET) in upgraded.writes
    await upgraded.reconcile()
    assert upgraded.writes == []


async def test_an_edit_does_not_wait_for_an_upgrade(upgraded: Story) -> None:
    await reconcile_endpoint(upgraded.context, OTHER)
    await upgraded.reconcile()
    upgraded.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    await upgraded.reconcile()
    assert upgraded.image == "x:2"


async def test_an_endpoint_that_goes_gives_its_turn_to_the_next(upgraded: Story) -> None:
    await reconcile_endpoint(upgraded.context, OTHER)
    await upgraded.reconcile()
    upgraded.cluster.remove(OTHER)
    outcome = await reconcile_endpoint(upgraded.context, OTHER)
    assert outcome.then == (ENDPOINT,)


async def test_an_upgrade_that_can_not_be_written_gives_its_turn_to_the_next(
    upgraded: Story,
) -> None:
    upgraded.cluster.refusals[DEPLOYMENT] = Unavailable(500, "later")
    with pytest.raises(Unavailable):
        await upgraded.reconcile()
    await reconcile_endpoint(upgraded.context, OTHER)
    assert not upgraded.context.slots.next()
    let_go(upgraded.context, ENDPOINT)
    assert upgraded.context.slots.next() == (OTHER,)
    await reconcile_endpoint(upgraded.context, OTHER)
    let_go(upgraded.context, OTHER)
    assert upgraded.context.slots.has(OTHER)  # its pods roll


def restart(story: Story, *, key: bytes) -> None:
    """Go on with an operator that has just started, with another root key."""
    story.context = replace(story.context, settled=Settled(), slots=Slots(1))
    story.context.in_use.root_key = RootKey(key * 32)
    hold_slots(story.context)


def revision(story: Story, ref: Ref) -> str:
    template = story.cluster.stored(ref)["spec"]["template"]
    return str(template["metadata"]["annotations"][names.REVISION])


@pytest.mark.parametrize("key", [b"f", b"r"], ids=["a version that mends it", "the one before"])
async def test_an_upgrade_that_is_stuck_is_replaced_after_a_restart(
    upgraded: Story, key: bytes
) -> None:
    await reconcile_endpoint(upgraded.context, OTHER)
    await upgraded.reconcile()
    before = revision(upgraded, OTHER_DEPLOYMENT)
    conditions = builders.progressing("ProgressDeadlineExceeded")
    upgraded.roll_out(OTHER_DEPLOYMENT, replicas=2, conditions=conditions)

    restart(upgraded, key=key)
    await upgraded.reconcile()
    await reconcile_endpoint(upgraded.context, OTHER)
    assert revision(upgraded, OTHER_DEPLOYMENT) != before

    upgraded.roll_out(OTHER_DEPLOYMENT)
    await reconcile_endpoint(upgraded.context, OTHER)
    await upgraded.reconcile()
    upgraded.roll_out()
    await upgraded.reconcile()
    assert upgraded.condition("Progressing")["reason"] == "Complete"


async def test_a_replica_that_fails_after_an_upgrade_does_not_stop_the_next(
    upgraded: Story,
) -> None:
    await reconcile_endpoint(upgraded.context, OTHER)
    upgraded.roll_out(OTHER_DEPLOYMENT, availableReplicas=0, readyReplicas=0)
    restart(upgraded, key=b"f")
    await upgraded.reconcile()
    assert upgraded.condition("Progressing")["reason"] == "RollingOut"


async def test_who_waits_for_its_turn_still_says_what_is_wrong(upgraded: Story) -> None:
    await reconcile_endpoint(upgraded.context, OTHER)
    upgraded.cluster.put(unschedulable_pod(upgraded))
    upgraded.roll_out(availableReplicas=2, readyReplicas=2)
    await upgraded.reconcile()
    assert upgraded.condition("Progressing")["reason"] == "InsufficientGpu"


async def test_who_can_not_take_its_turn_gives_it_to_the_next(upgraded: Story) -> None:
    third = Ref("InferenceEndpoint", "team-a", "third")
    await reconcile_endpoint(upgraded.context, OTHER)
    await upgraded.reconcile()
    assert not upgraded.context.slots.take(third)
    upgraded.roll_out(replicas=4, conditions=builders.progressing("ReplicaSetUpdated"))
    upgraded.roll_out(OTHER_DEPLOYMENT)
    outcome = await reconcile_endpoint(upgraded.context, OTHER)
    assert outcome.then == (ENDPOINT,)
    outcome = await reconcile_endpoint(upgraded.context, ENDPOINT)
    assert outcome.then == (third,)


async def test_who_is_edited_when_its_turn_comes_gives_it_to_the_next(upgraded: Story) -> None:
    third = Ref("InferenceEndpoint", "team-a", "third")
    await reconcile_endpoint(upgraded.context, OTHER)
    await upgraded.reconcile()
    assert not upgraded.context.slots.take(third)
    upgraded.roll_out(OTHER_DEPLOYMENT)
    await reconcile_endpoint(upgraded.context, OTHER)
    upgraded.cluster.edit(ENDPOINT, engine={"image": "x:2"})
    outcome = await reconcile_endpoint(upgraded.context, ENDPOINT)
    assert outcome.then == (third,)
