"""Status: what is said of an endpoint, from what was decided and what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from endpoint_operator import status
from endpoint_operator.conditions import Finding, changes, no
from endpoint_operator.diagnosis import Cause, Diagnosis, causes
from endpoint_operator.status import Observation
from helpers import builders

Object = dict[str, Any]

FACTS = status.Facts("http://qwen.team-a/v1", ["qwen"], "vllm/vllm-openai:v0.33.0")
SUSPENDED = replace(FACTS, suspended=True)
INVALID = no(status.INVALID_SPEC, "spec.x: is wrong; mend it")
TAKEN = no(status.NAME_TAKEN, "qwen is served by endpoint team-a/older")
STUCK = Diagnosis(Cause(causes.INSUFFICIENT_GPU, "no GPU"))
BROKEN = Diagnosis(Cause(causes.BAD_ENGINE_ARGUMENT, "no such option"), started=True)


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


def rolling(wanted: int = 1, ready: int = 1) -> Object:
    """Return a Deployment whose replicas of the spec before serve, and one of the current waits."""
    counts = {"readyReplicas": ready, "availableReplicas": ready}
    return deployment(wanted, replicas=ready + 1, updatedReplicas=1, **counts)


def computed(
    seen: Object | Observation | None,
    *,
    accepted: Finding = status.ACCEPTANCE,
    facts: status.Facts = FACTS,
    body: Object | None = None,
    now: str = "2026-11-21T12:00:00Z",
) -> Object:
    return status.endpoint_status(
        body or builders.endpoint(),
        seen if isinstance(seen, Observation) else Observation(seen),
        accepted=accepted,
        facts=facts if accepted.holds else None,
        now=now,
    )


def summary(made: Object) -> dict[str, tuple[str, str]]:
    return {known["type"]: (known["status"], known["reason"]) for known in made["conditions"]}


YES, NO = "True", "False"


@pytest.mark.parametrize(
    ("seen", "accepted", "phase", "progressing", "ready"),
    [
        pytest.param(
            Observation(deployment(1)),
            status.ACCEPTANCE,
            "Pending",
            (YES, "RollingOut"),
            (NO, "Starting"),
            id="just created",
        ),
        pytest.param(
            Observation(deployment(1), Diagnosis(started=True)),
            status.ACCEPTANCE,
            "Starting",
            (YES, "RollingOut"),
            (NO, "Starting"),
            id="loading the model",
        ),
        pytest.param(
            Observation(deployment(1), STUCK),
            status.ACCEPTANCE,
            "Pending",
            (NO, "InsufficientGpu"),
            (NO, "InsufficientGpu"),
            id="no GPU",
        ),
        pytest.param(
            Observation(deployment(1), BROKEN),
            status.ACCEPTANCE,
            "Failed",
            (NO, "BadEngineArgument"),
            (NO, "BadEngineArgument"),
            id="can't start",
        ),
        pytest.param(
            Observation(rolled_out(2)),
            status.ACCEPTANCE,
            "Ready",
            (NO, "Complete"),
            (YES, "Serving"),
            id="rolled out",
        ),
        pytest.param(
            Observation(rolling(2, ready=2)),
            status.ACCEPTANCE,
            "Ready",
            (YES, "RollingOut"),
            (YES, "Serving"),
            id="rolling, the old ones serve",
        ),
        pytest.param(
            Observation(rolling(1), BROKEN),
            status.ACCEPTANCE,
            "Degraded",
            (NO, "BadEngineArgument"),
            (YES, "Serving"),
            id="a rollout that fails, the old one serves",
        ),
        pytest.param(
            Observation(rolling(2, ready=1)),
            status.ACCEPTANCE,
            "Degraded",
            (YES, "RollingOut"),
            (YES, "Serving"),
            id="one of two serves",
        ),
        pytest.param(
            Observation({**rolled_out(1), "metadata": {"generation": 2}}),
            status.ACCEPTANCE,
            "Ready",
            (YES, "RollingOut"),
            (YES, "Serving"),
            id="an edit that the deployment controller has not seen",
        ),
        pytest.param(
            Observation(rolled_out(1), STUCK),
            status.ACCEPTANCE,
            "Ready",
            (NO, "Complete"),
            (YES, "Serving"),
            id="what was wrong is over",
        ),
        pytest.param(
            Observation(rolled_out(1), routed=TAKEN),
            status.ACCEPTANCE,
            "Degraded",
            (NO, "Complete"),
            (YES, "Serving"),
            id="a name is taken",
        ),
        pytest.param(
            Observation({**rolled_out(1), "metadata": {"generation": 2}}, upgrade_waiting=True),
            status.ACCEPTANCE,
            "Ready",
            (NO, "UpgradeWaiting"),
            (YES, "Serving"),
            id="waiting for its turn of an upgrade",
        ),
        pytest.param(
            Observation(rolled_out(0)),
            status.ACCEPTANCE,
            "Idle",
            (NO, "Complete"),
            (NO, "NoReplicas"),
            id="scaled to none",
        ),
        pytest.param(
            Observation(deployment(0, replicas=1, readyReplicas=1)),
            status.ACCEPTANCE,
            "Idle",
            (YES, "RollingOut"),
            (NO, "NoReplicas"),
            id="the last one is going",
        ),
        pytest.param(
            Observation(None),
            INVALID,
            "Invalid",
            (NO, "InvalidSpec"),
            (NO, "InvalidSpec"),
            id="never accepted",
        ),
        pytest.param(
            Observation(deployment(1), STUCK),
            INVALID,
            "Invalid",
            (NO, "InsufficientGpu"),
            (NO, "InvalidSpec"),
            id="an invalid edit of what does not serve",
        ),
        pytest.param(
            Observation(rolled_out(1)),
            INVALID,
            "Degraded",
            (NO, "InvalidSpec"),
            (YES, "Serving"),
            id="an invalid edit of what serves",
        ),
        pytest.param(
            Observation(None),
            status.ACCEPTANCE,
            "Pending",
            (YES, "RollingOut"),
            (NO, "Starting"),
            id="the Deployment was deleted a moment ago",
        ),
    ],
)
def test_phase_and_conditions_follow_from_decision_and_observation(
    seen: Observation,
    accepted: Finding,
    phase: str,
    progressing: tuple[str, str],
    ready: tuple[str, str],
) -> None:
    made = computed(seen, accepted=accepted)
    said = summary(made)
    assert said["Accepted"] == (YES if accepted.holds else NO, accepted.reason)
    assert said["Routed"] == (YES if seen.routed.holds else NO, seen.routed.reason)
    assert (made["phase"], said["Progressing"], said["Ready"]) == (phase, progressing, ready)


def test_an_endpoint_that_is_suspended_says_so() -> None:
    made = computed(rolled_out(0), facts=SUSPENDED)
    assert made["phase"] == "Suspended"
    assert summary(made)["Ready"] == (NO, "Suspended")


@pytest.mark.parametrize("reason", sorted(causes.MENDING_ITSELF))
def test_what_may_mend_itself_is_no_failure(reason: str) -> None:
    waits = Diagnosis(Cause(reason, "wait"), started=True)
    assert computed(Observation(deployment(1), waits))["phase"] == "Starting"


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


# -- what every running engine knows --------------------------------------------------------------


def served(*names: str, adapters: tuple[str, ...] = (), generation: int = 1) -> status.Facts:
    return replace(FACTS, served_names=names, adapters=adapters, key_generation=generation)


def with_status(made: Object) -> Object:
    return builders.endpoint() | {"status": made}


def test_engines_that_start_will_know_every_name() -> None:
    made = computed(deployment(1), facts=served("a", "b", adapters=("sql",)))
    assert (made["engineNames"], made["adapters"]) == (["a", "b"], ["sql"])


def test_while_names_change_engines_are_asked_by_what_all_of_them_know() -> None:
    before = with_status(computed(rolled_out(), facts=served("a", "b", adapters=("x", "y"))))
    wanted = served("c", "b", adapters=("y", "z"))
    during = computed(rolling(), facts=wanted, body=before)
    assert during["servedNames"] == ["c", "b"]
    assert (during["engineNames"], during["adapters"]) == (["b"], ["y"])
    after = computed(rolled_out(), facts=wanted, body=with_status(during))
    assert (after["engineNames"], after["adapters"]) == (["c", "b"], ["y", "z"])


def test_a_name_that_was_given_up_is_not_known_again_before_all_engines_have_it() -> None:
    before = with_status(computed(rolled_out(), facts=served("a")))
    during = with_status(computed(rolling(), facts=served("b"), body=before))
    assert during["status"]["engineNames"] == []
    back = computed(rolling(), facts=served("a"), body=during)
    assert back["engineNames"] == []
    assert computed(rolled_out(), facts=served("a"), body=with_status(back))["engineNames"] == ["a"]


def test_every_generation_of_the_key_counts_until_the_engines_have_one() -> None:
    before = with_status(computed(rolled_out(), facts=served("a")))
    assert before["status"]["engineKeys"] == [1]
    during = with_status(computed(rolling(), facts=served("a", generation=2), body=before))
    assert during["status"]["engineKeys"] == [2, 1]
    more = with_status(computed(rolling(), facts=served("a", generation=3), body=during))
    assert more["status"]["engineKeys"] == [3, 2, 1]
    after = computed(rolled_out(), facts=served("a", generation=3), body=more)
    assert after["engineKeys"] == [3]


def with_access(access: Object) -> status.Facts:
    return replace(FACTS, access=access)


# -- what is written ------------------------------------------------------------------------------


def test_nothing_changes_when_nothing_changed() -> None:
    body = builders.endpoint() | {"status": computed(rolled_out())}
    again = computed(rolled_out(), body=body, now="2027-01-01T00:00:00Z")
    assert changes(body, again) == {}


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    body = builders.endpoint() | {"status": computed(deployment(1))}
    again = computed(rolled_out(), body=body, now="2027-01-01T00:00:00Z")
    times = {known["type"]: known["lastTransitionTime"] for known in again["conditions"]}
    assert times["Accepted"].startswith("2026")
    assert times["Ready"].startswith("2027")


def failing(message: str) -> Observation:
    return Observation(deployment(1), Diagnosis(Cause(causes.OUT_OF_GPU_MEMORY, message)))


def test_a_message_that_would_only_get_other_numbers_stays() -> None:
    body = builders.endpoint() | {"status": computed(failing("needs 4 GiB, has 3.21 GiB"))}
    again = computed(failing("needs 4 GiB, has 3.18 GiB"), body=body)
    assert changes(body, again) == {}


def test_a_number_that_was_not_measured_is_news() -> None:
    body = builders.endpoint()
    for name in ("qwen-1", "qwen-2"):
        taken = no(status.NAME_CONFLICT, f"Service team-a/{name} exists")
        body["status"] = computed(None, accepted=taken, body=body)
    accepted = builders.condition_of(body, "Accepted")
    assert accepted["message"] == "Service team-a/qwen-2 exists"


def test_the_oldest_of_many_key_generations_is_kept() -> None:
    body = builders.endpoint() | {"status": {"engineKeys": [*range(16, 0, -1)]}}
    made = computed(deployment(1), body=body, facts=replace(FACTS, key_generation=17))
    assert (made["engineKeys"][0], made["engineKeys"][-1]) == (17, 1)
    assert len(made["engineKeys"]) == 16


def test_the_numbers_of_another_spec_are_others() -> None:
    body = builders.endpoint() | {"status": computed(failing("needs 4 GiB, has 3.21 GiB"))}
    body["metadata"]["generation"] = 2
    again = computed(failing("needs 2 GiB, has 1.21 GiB"), body=body)
    assert "needs 2 GiB, has 1.21 GiB" in {known["message"] for known in again["conditions"]}


def test_only_what_changed_is_written() -> None:
    body = builders.endpoint() | {"status": computed(deployment(1))}
    changed = changes(body, computed(rolled_out(), body=body))
    assert changed.keys() == {"phase", "conditions", "replicas", "readyReplicas"}


def test_what_goes_is_written_as_a_null_at_every_depth() -> None:
    told = {"aliases": ["a"], "limits": {"maxInFlight": 1, "tokensPerMinute": 2}}
    body = builders.endpoint() | {"status": computed(rolled_out(), facts=with_access(told))}
    less = {"limits": {"maxInFlight": 1}}
    changed = changes(body, computed(rolled_out(), facts=with_access(less), body=body))
    assert changed == {"access": {"aliases": None, "limits": {"tokensPerMinute": None}}}
    assert changes(body, computed(rolled_out(), body=body)) == {"access": None}


def test_an_invalid_edit_leaves_the_policy_of_the_last_accepted_spec() -> None:
    told = with_access({"aliases": ["a"]})
    body = builders.endpoint() | {"status": computed(rolled_out(), facts=told)}
    body["metadata"]["generation"] = 2
    assert computed(rolled_out(), accepted=INVALID, body=body)["access"] == {"aliases": ["a"]}


def test_conditions_of_others_stay() -> None:
    foreign = {"type": "Audited", "status": "True", "lastTransitionTime": "then"}
    body = builders.endpoint() | {"status": {"conditions": [foreign]}}
    assert foreign in computed(rolled_out(), body=body)["conditions"]


def test_a_message_never_exceeds_what_the_crd_allows() -> None:
    made = computed(None, accepted=no(status.INVALID_SPEC, "x" * 10_000))
    assert {len(known["message"]) for known in made["conditions"]} <= set(range(4097))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param('pods "a" is forbidden: exceeded quota: q', "QuotaExceeded", id="quota"),
        pytest.param('services "a" is forbidden: no', "RefusedByCluster", id="policy"),
    ],
)
def test_what_the_api_server_refuses_has_its_reason(message: str, reason: str) -> None:
    finding = status.refused(message)
    assert (finding.holds, finding.reason) == (False, reason)
