"""What is remembered of endpoints that were left as they should be."""

from __future__ import annotations

from typing import Any

from endpoint_operator.live import Live, slim
from endpoint_operator.settled import Settled, shape
from helpers import builders


def child(version: str = "1", **fields: Any) -> Live:
    meta = {"namespace": "team-a", "name": "qwen", "resourceVersion": version}
    return slim({"kind": "Service", "metadata": meta, **fields})


OWNER = slim(builders.endpoint())


def shape_of(
    owner: Live, *children: Live, root_key: bytes = b"k", referenced: Live | None = None
) -> int:
    return shape(owner, children, root_key=root_key, referenced=referenced)


def test_a_status_changes_no_shape() -> None:
    assert shape_of(OWNER, child()) == shape_of(OWNER, child("2", status={"ready": 1}))


def test_the_order_of_children_changes_no_shape() -> None:
    first, second = child(), child(spec={"type": "ClusterIP"})
    assert shape_of(OWNER, first, second) == shape_of(OWNER, second, first)


def test_whatever_is_wanted_changes_the_shape() -> None:
    before = shape_of(OWNER, child())
    assert shape_of(slim(builders.endpoint(replicas=2)), child()) != before
    assert shape_of(OWNER, child(spec={"type": "ClusterIP"})) != before
    assert shape_of(OWNER) != before
    assert shape_of(OWNER, child(), root_key=b"other") != before
    assert shape_of(OWNER, child(), referenced=child()) != before


def test_what_was_found_counts_for_this_shape_only() -> None:
    settled: Settled[str] = Settled()
    settled.remember(OWNER.ref, 1, "fine")
    assert settled.recall(OWNER.ref, 1) == "fine"
    assert settled.recall(OWNER.ref, 2) is None
    settled.forget(OWNER.ref)
    assert settled.recall(OWNER.ref, 1) is None
