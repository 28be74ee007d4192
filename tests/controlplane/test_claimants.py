"""Names that several endpoints claim: the oldest has each, and only changes of that are told."""

from __future__ import annotations

from endpoint_operator.claimants import EVERYWHERE, Claimants
from endpoint_operator.live import Live, Ref, slim
from helpers import builders


def endpoint(
    name: str, *served: str, born: int = 1, namespace: str = "team-a", **access: list[str]
) -> Live:
    body = builders.endpoint(name, namespace)
    meta = body["metadata"] | {"creationTimestamp": f"2026-01-{born:02}T00:00:00Z"}
    status = {"servedNames": list(served), "access": access}
    return slim(body | {"metadata": meta, "status": status})


def ref(name: str, namespace: str = "team-a") -> Ref:
    return Ref("InferenceEndpoint", namespace, name)


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


def test_an_alias_is_a_name_like_any_other() -> None:
    claimants, old = Claimants(), endpoint("old", "x", aliases=["a"])
    claimants.replace(None, endpoint("young", "a", born=2))
    claimants.replace(None, old)
    assert claimants.affected() == {ref("young")}
    assert holder(claimants, "a") == "old"
    claimants.replace(old, endpoint("old", "x"))
    assert claimants.affected() == {ref("young")}
    assert holder(claimants, "a") == "young"


def test_a_host_leads_to_the_oldest_of_the_whole_cluster() -> None:
    claimants, host = Claimants(), "a.example.com"
    young = endpoint("young", "x", born=2, hosts=[host])
    old = endpoint("old", "x", namespace="team-b", hosts=[host])
    claimants.replace(None, young)
    claimants.replace(None, old)
    found = claimants.holder(EVERYWHERE, host)
    assert found is not None
    assert (found.namespace, found.name) == ("team-b", "old")
    assert claimants.affected() == {ref("young")}
    claimants.replace(old, None)
    found = claimants.holder(EVERYWHERE, host)
    assert found is not None
    assert found.name == "young"
    assert claimants.affected() == {ref("young")}


def test_of_hosts_of_one_age_the_namespace_decides() -> None:
    claimants, host = Claimants(), "a.example.com"
    claimants.replace(None, endpoint("a", "x", namespace="team-b", hosts=[host]))
    claimants.replace(None, endpoint("z", "x", hosts=[host]))
    found = claimants.holder(EVERYWHERE, host)
    assert found is not None
    assert found.namespace == "team-a"


def test_a_host_is_no_name() -> None:
    claimants = Claimants()
    claimants.replace(None, endpoint("old", "x", hosts=["a.example.com"]))
    assert claimants.holder("team-a", "a.example.com") is None
    assert claimants.holder(EVERYWHERE, "x") is None
