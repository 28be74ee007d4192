"""Whose turn it is when an operator makes other pods than the one before it."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.live import Ref
from endpoint_operator.upgrades import Slots, holds_slot, is_rolled_out, plan
from helpers import builders

Object = dict[str, Any]

QWEN, LLAMA, GEMMA = (Ref("InferenceEndpoint", "team-a", name) for name in ("q", "l", "g"))
ROLLED_OUT = builders.rolled_out(1, generation=1)


def deployment(
    revision: str = "old", *, spec: str = "s", template: str = "t", applied: str = ""
) -> Object:
    notes = {
        names.SPEC_HASH: spec,
        names.REFERENCED_HASH: template,
        names.APPLIED_HASH: applied or revision,
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": "q-engine", "generation": 1, "annotations": notes},
        "spec": {
            "replicas": 1,
            "template": {"metadata": {"annotations": {names.REVISION: revision}}},
        },
    }


def live(**status: Any) -> Object:
    """A Deployment that runs, with these differences from one that is rolled out."""
    return deployment() | {"status": ROLLED_OUT | status}


OTHERS = [
    {"kind": kind, "metadata": {"name": "x"}}
    for kind in ("Service", "PersistentVolumeClaim", "Secret", "ConfigMap")
]
NEW = [*OTHERS, deployment("new")]


def busy() -> Slots:
    slots = Slots(1)
    assert slots.take(LLAMA)
    return slots


def test_an_upgrade_takes_a_slot_and_writes_that_on_the_deployment() -> None:
    slots = Slots(1)
    planned = plan(slots, QWEN, live(), NEW)
    assert not planned.waiting
    applied = planned.desired[-1]
    assert applied["metadata"]["annotations"][names.UPGRADE] == "new"
    assert not slots.take(LLAMA)
    assert holds_slot(applied)
    assert plan(slots, QWEN, applied | {"status": {}}, NEW).desired[-1] == applied
    assert not holds_slot(applied | {"status": ROLLED_OUT})
    assert not holds_slot(applied | {"spec": applied["spec"] | {"paused": True}})


def test_one_without_a_slot_stays_as_it_is_with_what_its_pods_read() -> None:
    planned = plan(busy(), QWEN, live(), NEW)
    assert planned.waiting
    assert [child["kind"] for child in planned.desired] == ["Service", "PersistentVolumeClaim"]
    assert planned.leave == [Ref("Deployment", "", "q-engine")]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        pytest.param(None, deployment("new"), id="a new endpoint"),
        pytest.param(live(), deployment("new", spec="edited"), id="an edit of the spec"),
        pytest.param(live(), deployment("new", template="edited"), id="an edit of its template"),
        pytest.param(live(), deployment("new", applied="old"), id="drift"),
        pytest.param(live(), deployment("old", applied="new"), id="the same pods"),
        pytest.param(live(readyReplicas=0), deployment("new"), id="nothing that serves"),
    ],
)
def test_what_is_no_upgrade_waits_for_nobody(found: Object | None, wanted: Object) -> None:
    planned = plan(busy(), QWEN, found, [*OTHERS, wanted])
    assert not planned.waiting
    assert planned.desired[-1] == wanted


@pytest.mark.parametrize("version", ["newer", "old"])
def test_who_has_a_slot_goes_on_to_the_version_that_mends_it_or_back(version: str) -> None:
    slots = Slots(1)
    stuck = plan(slots, QWEN, live(), NEW).desired[-1] | {"status": ROLLED_OUT | HALF_WAY}
    planned = plan(slots, QWEN, stuck, [*OTHERS, deployment(version)])
    assert not planned.waiting
    assert planned.desired[-1]["metadata"]["annotations"][names.UPGRADE] == version


HALF_WAY = {"replicas": 2, "conditions": builders.progressing("ReplicaSetUpdated")}
SHORT_OF_ONE = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2, "readyReplicas": 2}


@pytest.mark.parametrize(
    ("status", "done"),
    [
        pytest.param({}, True, id="all run"),
        pytest.param(SHORT_OF_ONE, True, id="one of three failed later"),
        pytest.param(HALF_WAY, False, id="half way"),
        pytest.param({"replicas": 2}, False, id="the reason is of the change before"),
        pytest.param({"replicas": 0, "updatedReplicas": 0}, False, id="the old ones are gone"),
        pytest.param({"observedGeneration": 0}, False, id="not looked at yet"),
        pytest.param({"conditions": []}, False, id="nothing is said"),
    ],
)
def test_a_rollout_is_through_when_its_pods_were_replaced_whatever_fails_later(
    status: Object, done: bool
) -> None:
    found = live(**status)
    assert is_rolled_out(found) is done
    found["metadata"]["annotations"][names.UPGRADE] = "old"
    assert holds_slot(found) is not done


def test_what_is_scaled_to_none_is_through_with_its_rollout() -> None:
    found = live(replicas=0, updatedReplicas=0)
    assert is_rolled_out(found | {"spec": found["spec"] | {"replicas": 0}})


def test_who_is_short_of_a_replica_gets_its_turn_all_the_same() -> None:
    slots = Slots(1)
    assert not plan(slots, QWEN, live(**SHORT_OF_ONE), NEW).waiting
    assert slots.has(QWEN)


def test_a_rollout_of_the_users_is_left_alone_until_it_is_done_and_holds_nobody_up() -> None:
    slots = busy()
    assert not slots.take(QWEN)
    assert not slots.take(GEMMA)
    assert slots.leave(LLAMA) == (QWEN,)
    assert plan(slots, QWEN, live(**HALF_WAY), NEW).waiting
    assert slots.next() == (GEMMA,)


def test_the_next_ones_are_told_in_the_order_in_which_they_came() -> None:
    slots = Slots(2)
    slots.hold(QWEN)
    assert slots.take(LLAMA)
    assert not slots.take(GEMMA)
    assert slots.leave(GEMMA) == ()
    assert not slots.take(GEMMA)
    assert slots.leave(QWEN) == (GEMMA,)
    assert slots.take(GEMMA)


def test_who_leaves_the_line_is_not_told_and_who_is_behind_it_is() -> None:
    slots = busy()
    assert not slots.take(QWEN)
    assert not slots.take(GEMMA)
    assert slots.leave(LLAMA) == (QWEN,)
    assert slots.leave(QWEN) == (GEMMA,)


def test_more_slots_that_were_held_than_there_are_now_tell_nobody() -> None:
    slots = Slots(1)
    for each in (QWEN, LLAMA, Ref("InferenceEndpoint", "team-a", "m")):
        slots.hold(each)
    assert not slots.take(GEMMA)
    assert slots.leave(QWEN) == ()
