"""The cache: the newest version wins, whoever reports it first."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.cache import Cache
from endpoint_operator.live import Live, Ref, slim
from helpers import builders

REF = Ref("Service", "team-a", "qwen")


def owner(uid: str = "e", *, namespace: str = "team-a", name: str = "qwen") -> Live:
    return slim(builders.endpoint(name, namespace, uid=uid))


def service(version: int, *, uid: str = "s", owner: str = "e", **reference: Any) -> Live:
    says = {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceEndpoint",
        "name": "qwen",
        "uid": owner,
        "controller": True,
    }
    meta: dict[str, Any] = {
        "namespace": "team-a",
        "name": "qwen",
        "uid": uid,
        "resourceVersion": str(version),
        "ownerReferences": [says | reference],
    }
    return slim({"kind": "Service", "metadata": meta})


def unowned(kind: str, name: str, manager: str) -> Live:
    """What somebody applied for an endpoint, and nobody controls."""
    meta = {
        "namespace": "team-a",
        "name": name,
        "resourceVersion": "1",
        "labels": names.child_labels("qwen"),
        "managedFields": [{"manager": manager, "operation": "Apply"}],
    }
    return slim({"kind": kind, "metadata": meta})


def test_a_newer_version_is_news() -> None:
    cache = Cache()
    assert cache.put(service(1))
    assert cache.put(service(2))
    assert cache.get(REF) == service(2)


def test_the_report_of_our_own_write_is_no_news() -> None:
    cache = Cache()
    cache.put(service(5))
    assert not cache.put(service(5))


def test_a_late_report_does_not_undo_a_newer_one() -> None:
    cache = Cache()
    cache.put(service(10))
    assert not cache.put(service(9))
    assert cache.get(REF) == service(10)


def test_a_deleted_object_is_forgotten_under_its_owner_too() -> None:
    cache = Cache()
    cache.put(service(1))
    assert cache.remove(service(2))
    assert cache.get(REF) is None
    assert cache.owned_by(owner()) == []


def test_a_deletion_known_only_by_identity_counts() -> None:
    cache = Cache()
    cache.put(service(7))
    assert cache.remove(service(3))


def test_the_late_deletion_of_a_predecessor_leaves_the_successor() -> None:
    cache = Cache()
    cache.put(service(8, uid="successor"))
    assert not cache.remove(service(7, uid="predecessor"))
    assert cache.get(REF) is not None


def test_an_object_changes_owner() -> None:
    cache = Cache()
    cache.put(service(1, owner="e"))
    cache.put(service(2, owner="other"))
    assert cache.owned_by(owner()) == []
    assert cache.owned_by(owner("other")) == [service(2, owner="other")]


@pytest.mark.parametrize(
    ("claimed", "reference"),
    [
        pytest.param(owner(namespace="team-b"), {}, id="of another namespace"),
        pytest.param(owner(name="other"), {}, id="of another name"),
        pytest.param(owner("other"), {}, id="of another identity"),
        pytest.param(owner(), {"kind": "ApiKey"}, id="of another kind"),
        pytest.param(owner(), {"apiVersion": "apps/v1"}, id="of another group"),
        pytest.param(owner(), {"controller": False}, id="not as its controller"),
    ],
)
def test_an_object_is_owned_only_if_all_of_the_reference_fits(
    claimed: Live, reference: dict[str, Any]
) -> None:
    cache = Cache()
    cache.put(service(1, **reference))
    assert cache.owned_by(claimed) == []


def test_an_owner_stays_one_under_a_new_version_of_the_api() -> None:
    cache = Cache()
    cache.put(service(1, apiVersion=f"{names.GROUP}/v1"))
    assert cache.owned_by(owner()) != []


def test_pods_are_found_by_the_label_of_their_endpoint() -> None:
    cache = Cache()
    pod = slim(builders.pod(status={}))
    assert cache.observe("ADDED", pod)
    assert not cache.observe("ADDED", slim(builders.pod("strange", endpoint="", status={})))
    assert cache.pods_of(owner().ref) == [pod]
    assert cache.pods_of(owner(name="other").ref) == []
    assert cache.observe("DELETED", pod)
    assert cache.pods_of(owner().ref) == []


@pytest.mark.parametrize(
    ("manager", "kept"), [(names.MANAGER, True), ("kubectl", False)], ids=["ours", "another's"]
)
def test_what_we_made_and_nobody_controls_is_kept(manager: str, *, kept: bool) -> None:
    cache, claim = Cache(), unowned("PersistentVolumeClaim", "qwen-cache", manager)
    assert cache.observe("ADDED", claim) is kept
    assert (cache.orphans_of(owner().ref) == [claim]) is kept


def test_an_answer_that_is_later_than_the_deletion_brings_nothing_back() -> None:
    cache = Cache()
    cache.put(service(1))
    cache.observe("DELETED", service(7))
    assert not cache.put(service(5))
    assert cache.get(REF) is None
    assert cache.put(service(9))  # it only had lost our label, and has it again


def test_the_end_of_an_object_of_ours_is_news_to_who_only_asked_before() -> None:
    cache = Cache()
    cache.put(owner())
    cache.remove(owner())
    assert cache.observe("DELETED", owner())


def test_only_endpoints_have_orphans() -> None:
    cache, orphan = Cache(), unowned("Service", "qwen", names.MANAGER)
    assert cache.observe("ADDED", orphan)
    assert cache.orphans_of(owner().ref) == [orphan]
    assert cache.orphans_of(Ref("ApiKey", "team-a", "qwen")) == []
