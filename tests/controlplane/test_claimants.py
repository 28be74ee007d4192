"""Names that several endpoints claim: the oldest has each, and only changes of that are told."""

from __future__ import annotations

from endpoint_operator.claimants import Claimants
from endpoint_operator.live import Live, Ref, slim
from helpers import builders


def endpoint(name: str, *served: str, born: int = 1) -> Live:
    body = builders.endpoint(name)
    meta = body["metadata"] | {"creationTimestamp": f"2026-01-{born:02}T00:00:00Z"}
    return slim(body | {"metadata": meta, "status": {"servedNames": list(served)}})


def ref(name: str) -> Ref:
    return Ref("InferenceEndpoint", "team-a", name)


def holder(claimants: Claimants, name: str) -> str | None:
    found = claimants.holder("team-a", name)
    return found.name if found else None


def test_a_name_leads_to_the_oldest_and_then_to_the_next() -> None:
    claimants, old, young = Claimants(), endpoint("old", "x"), endpoint("young", "x", born=2)
    claimants.replace(None, young)
    claimants.replace(None, old)
    assert holder(claimants, "x") == "old"
    assert claimants.holder("team-b", "x") is None
    claimants.replace(old, None)
    assert holder(claimants, "x") == "young"
    claimants.replace(young, endpoint("young", "y", born=2))
    assert holder(claimants, "x") is None


def test_an_endpoint_is_also_called_by_its_own_name() -> None:
    claimants = Claimants()
    claimants.replace(None, endpoint("llama", "x"))
    claimants.replace(None, endpoint("other", "llama", born=2))
    assert holder(claimants, "llama") == "llama"


def test_those_who_lose_or_get_a_name_are_told_once() -> None:
    claimants, old, young = Claimants(), endpoint("old", "x"), endpoint("young", "x", born=2)
    claimants.replace(None, young)
    assert claimants.affected() == set()
    claimants.replace(None, old)
    assert claimants.affected() == {ref("young")}
    assert claimants.affected() == set()
    claimants.replace(old, endpoint("old", "y"))
    assert claimants.affected() == {ref("young")}


def test_who_has_no_say_in_a_name_wakes_nobody() -> None:
    claimants = Claimants()
    for number in range(1, 29):
        claimants.replace(None, endpoint(f"e{number}", "x", born=number))
    assert claimants.affected() == set()
    last = endpoint("e28", "x", born=28)
    claimants.replace(last, last)
    claimants.replace(last, None)
    assert claimants.affected() == set()
