"""Status: what is said of an endpoint, from what was decided and what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import status
from helpers import builders

Object = dict[str, Any]

FACTS = status.Facts("http://qwen.team-a/v1", ["qwen"], "vllm/vllm-openai:v0.33.0")
INVALID = status.no(status.INVALID_SPEC, "spec.x: is wrong; mend it")


def deployment(wanted: int = 1, *, generation: int = 1, **observed: Any) -> Object:
    seen = {"observedGeneration": 1, **observed}
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": wanted},
        "status": seen,
    }


def rolled_out(count: int = 1) -> Object:
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return deployment(count, **dict.fromkeys(counts, count))


def computed(
    workload: Object | None,
    *,
    accepted: status.Finding = status.ACCEPTANCE,
    body: Object | None = None,
    now: str = "2026-11-21T12:00:00Z",
) -> Object:
    return status.endpoint_status(
        body or builders.endpoint(),
        status.Observation(workload),
        accepted=accepted,
        facts=FACTS if accepted.holds else None,
        now=now,
    )


def summary(made: Object) -> dict[str, tuple[str, str]]:
    return {known["type"]: (known["status"], known["reason"]) for known in made["conditions"]}


@pytest.mark.parametrize(
    ("workload", "accepted", "progressing", "ready"),
    [
        pytest.param(
            deployment(1),
            status.ACCEPTANCE,
            ("True", "RollingOut"),
            ("False", "Starting"),
            id="just created",
        ),
        pytest.param(
            rolled_out(2),
            status.ACCEPTANCE,
            ("False", "Complete"),
            ("True", "Serving"),
            id="rolled out",
        ),
        pytest.param(
            deployment(2, replicas=3, updatedReplicas=1, readyReplicas=2, availableReplicas=2),
            status.ACCEPTANCE,
            ("True", "RollingOut"),
            ("True", "Serving"),
            id="rolling, the old ones serve",
        ),
        pytest.param(
            {**rolled_out(1), "metadata": {"generation": 2}},
            status.ACCEPTANCE,
            ("True", "RollingOut"),
            ("True", "Serving"),
            id="an edit that the deployment controller has not seen",
        ),
        pytest.param(
            rolled_out(0),
            status.ACCEPTANCE,
            ("False", "Complete"),
            ("False", "NoReplicas"),
            id="scaled to none",
        ),
        pytest.param(
            None, INVALID, ("False", "InvalidSpec"), ("False", "InvalidSpec"), id="never accepted"
        ),
        pytest.param(
            rolled_out(1),
            INVALID,
            ("False", "Complete"),
            ("True", "Serving"),
            id="an invalid edit of what serves",
        ),
    ],
)
def test_conditions_follow_from_decision_and_deployment(
    workload: Object | None,
    accepted: status.Finding,
    progressing: tuple[str, str],
    ready: tuple[str, str],
) -> None:
    said = summary(computed(workload, accepted=accepted))
    assert said["Accepted"] == ("True" if accepted.holds else "False", accepted.reason)
    assert said["Progressing"] == progressing
    assert said["Ready"] == ready


def test_an_accepted_spec_tells_url_names_and_image() -> None:
    made = computed(rolled_out(3))
    assert made["url"] == "http://qwen.team-a/v1"
    assert made["servedNames"] == ["qwen"]
    assert made["image"] == "vllm/vllm-openai:v0.33.0"
    assert (made["replicas"], made["readyReplicas"]) == (3, 3)


def test_an_invalid_edit_leaves_what_the_last_accepted_spec_said() -> None:
    before = builders.endpoint() | {"status": computed(rolled_out())}
    before["metadata"]["generation"] = 2
    after = computed(rolled_out(), accepted=INVALID, body=before)
    assert after["servedNames"] == ["qwen"]
    assert after["observedGeneration"] == 2


def test_nothing_changes_when_nothing_changed() -> None:
    body = builders.endpoint() | {"status": computed(rolled_out())}
    again = computed(rolled_out(), body=body, now="2027-01-01T00:00:00Z")
    assert status.changes(body, again) == {}


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    body = builders.endpoint() | {"status": computed(deployment(1))}
    again = computed(rolled_out(), body=body, now="2027-01-01T00:00:00Z")
    times = {known["type"]: known["lastTransitionTime"] for known in again["conditions"]}
    assert times["Accepted"].startswith("2026")
    assert times["Ready"].startswith("2027")


def test_only_what_changed_is_written() -> None:
    body = builders.endpoint() | {"status": computed(deployment(1))}
    changed = status.changes(body, computed(rolled_out(), body=body))
    assert changed.keys() == {"phase", "conditions", "replicas", "readyReplicas"}


def test_conditions_of_others_stay() -> None:
    foreign = {"type": "Audited", "status": "True", "lastTransitionTime": "then"}
    body = builders.endpoint() | {"status": {"conditions": [foreign]}}
    assert foreign in computed(rolled_out(), body=body)["conditions"]


def test_a_message_never_exceeds_what_the_crd_allows() -> None:
    made = computed(None, accepted=status.no(status.INVALID_SPEC, "x" * 10_000))
    assert {len(known["message"]) for known in made["conditions"]} <= set(range(4097))
