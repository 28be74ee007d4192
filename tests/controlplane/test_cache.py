"""The cache: the newest version wins, whoever reports it first."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.cache import Cache, Live, Ref, slim
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


def test_an_object_that_is_changed_by_a_reader_stays_as_it_was_seen() -> None:
    seen = service(1)
    seen.object["metadata"]["name"] = "changed"
    assert seen.object["metadata"]["name"] == "qwen"
    assert seen.object["metadata"]["resourceVersion"] == "1"


def test_what_is_wanted_is_the_same_bytes_when_only_the_status_changed() -> None:
    before, after = service(1), service(2)
    assert before.wanted == after.wanted
    body = before.object | {"status": {"replicas": 1}}
    assert slim(body).wanted == before.wanted
    assert slim(body).object == body


def test_managed_fields_are_dropped_but_for_who_owns_replicas() -> None:
    entry = {
        "manager": names.MANAGER,
        "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    meta = {"name": "d", "resourceVersion": "1", "uid": "u"}
    kept = slim({"kind": "Deployment", "metadata": meta | {"managedFields": [entry]}})
    assert kept.owns_replicas
    assert kept.applied
    assert "managedFields" not in kept.object["metadata"]
    scaled = entry | {"operation": "Update", "subresource": "scale"}
    written = slim({"kind": "Deployment", "metadata": meta | {"managedFields": [scaled]}})
    assert not written.owns_replicas
    assert not written.applied
