"""Notices: which changes of a status become Events, and what these say."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import notices, status
from endpoint_operator.diagnosis import causes
from endpoint_operator.notices import NORMAL, WARNING, Notice
from helpers import builders

Object = dict[str, Any]


def said(**conditions: tuple[str, str]) -> Object:
    """Return a status whose conditions have this value and reason."""
    return {
        "conditions": [
            {"type": kind, "status": value, "reason": reason, "message": f"about {reason}"}
            for kind, (value, reason) in conditions.items()
        ]
    }


NOON = 1795262400.0  # 2026-11-21T12:00:00Z

STARTING = said(
    Accepted=("True", status.VALID),
    Routed=("True", status.IN_CATALOG),
    Progressing=("True", status.ROLLING_OUT),
    Ready=("False", status.STARTING),
)


def test_the_first_good_and_neutral_states_are_no_news() -> None:
    assert notices.notices({}, STARTING) == []


def test_nothing_is_announced_when_nothing_changed() -> None:
    assert notices.notices(STARTING, STARTING) == []


def test_a_message_alone_is_no_change() -> None:
    other = said(Ready=("False", status.STARTING))
    other["conditions"][0]["message"] = "another"
    assert notices.notices(said(Ready=("False", status.STARTING)), other) == []


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        pytest.param(("True", status.SERVING), NORMAL, id="serving"),
        pytest.param(("False", status.NO_REPLICAS), NORMAL, id="idle"),
        pytest.param(("False", status.SUSPENDED), NORMAL, id="suspended"),
        pytest.param(("False", causes.CRASH_LOOP), WARNING, id="crashing"),
        pytest.param(("False", status.INVALID_SPEC), WARNING, id="invalid"),
    ],
)
def test_a_change_is_announced_by_what_it_means(after: tuple[str, str], kind: str) -> None:
    made = notices.notices(said(Ready=("False", status.STARTING)), said(Ready=after))
    assert made == [Notice(kind, after[1], f"about {after[1]}")]


def test_a_first_state_that_is_wrong_is_news() -> None:
    made = notices.notices({}, said(Accepted=("False", status.INVALID_SPEC)))
    assert [notice.type for notice in made] == [WARNING]


def test_a_spec_that_is_accepted_with_a_warning_is_news() -> None:
    made = notices.notices({}, said(Accepted=("True", status.UNPINNED_IMAGE)))
    assert [notice.type for notice in made] == [WARNING]


def test_a_cause_that_two_conditions_tell_is_announced_once() -> None:
    stuck = ("False", causes.IMAGE_PULL_FAILED)
    made = notices.notices(STARTING, said(Progressing=stuck, Ready=stuck))
    assert [notice.reason for notice in made] == [causes.IMAGE_PULL_FAILED]


def test_a_spec_that_is_refused_is_announced_in_the_words_of_accepted() -> None:
    refused = ("False", status.INVALID_SPEC)
    after = said(Accepted=refused, Progressing=refused, Ready=refused)
    after["conditions"][0]["message"] = "spec.x: is wrong"
    made = notices.notices(STARTING, after)
    assert [notice.note for notice in made] == ["spec.x: is wrong"]


def test_an_event_is_about_the_object_and_from_this_operator() -> None:
    notice = Notice(WARNING, causes.CRASH_LOOP, "it crashes")
    body = builders.endpoint("qwen", "team-a")
    made = notices.event(body, notice, at=NOON, instance="operator-0")
    assert made["regarding"] == {
        "apiVersion": "serving.vllm-endpoints.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "namespace": "team-a",
        "name": "qwen",
        "uid": "uid-1",
    }
    assert made["metadata"]["namespace"] == "team-a"
    assert (made["reportingController"], made["reportingInstance"]) == (
        "vllm-endpoints",
        "operator-0",
    )
    assert made["eventTime"] == "2026-11-21T12:00:00.000000Z"
    assert (made["type"], made["reason"], made["note"]) == (WARNING, "CrashLoop", "it crashes")


def test_events_sort_by_time_and_each_has_its_name() -> None:
    body = builders.endpoint("qwen", "team-a")

    def name(at: float) -> str:
        made = notices.event(body, Notice(NORMAL, "Serving", "x"), at=at, instance="i")
        return str(made["metadata"]["name"])

    assert name(NOON).startswith("qwen.")
    assert name(NOON) < name(NOON + 1e-6) < name(NOON + 1)


@pytest.mark.parametrize("letter", ["x", "é", "🦙"])
def test_a_long_note_is_cut_to_what_the_api_server_takes(letter: str) -> None:
    notice = Notice(WARNING, causes.CRASH_LOOP, letter * 2000)
    made = notices.event(builders.endpoint(), notice, at=NOON, instance="i")
    assert 1016 < len(made["note"].encode()) <= 1024
    assert made["note"].endswith("…")
