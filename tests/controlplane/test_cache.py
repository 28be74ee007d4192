"""The cache: the newest version wins, whoever reports it first."""

from __future__ import annotations

from typing import Any

from endpoint_operator import names
from endpoint_operator.cache import Cache, Live, Ref, slim

REF = Ref("Service", "team-a", "qwen")


def service(version: int, *, uid: str = "s", owner: str = "e") -> Live:
    meta: dict[str, Any] = {
        "namespace": "team-a",
        "name": "qwen",
        "uid": uid,
        "resourceVersion": str(version),
        "ownerReferences": [{"uid": owner, "controller": True}],
    }
    return slim({"kind": "Service", "metadata": meta})


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
    assert cache.owned_by("e") == []


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
    assert cache.owned_by("e") == []
    assert cache.owned_by("other") == [service(2, owner="other")]


def test_managed_fields_are_dropped_but_for_who_owns_replicas() -> None:
    entry = {
        "manager": names.MANAGER,
        "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    meta = {"name": "d", "resourceVersion": "1", "uid": "u"}
    kept = slim({"kind": "Deployment", "metadata": meta | {"managedFields": [entry]}})
    assert kept.owns_replicas
    assert "managedFields" not in kept.object["metadata"]
    scaled = entry | {"operation": "Update", "subresource": "scale"}
    assert not slim(
        {"kind": "Deployment", "metadata": meta | {"managedFields": [scaled]}}
    ).owns_replicas
