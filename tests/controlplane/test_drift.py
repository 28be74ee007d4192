"""Drift: what counts as a difference between a live object and what we want of it."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator.drift import covers

PORT = {"name": "http", "port": 80}
TWICE = [{"containerPort": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, id="a field of somebody else"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, id="a default below"),
        pytest.param({"a": {}}, {"a": {}}, id="an empty map"),
        pytest.param({"ports": [PORT | {"protocol": "TCP"}]}, {"ports": [PORT]}, id="an item's"),
        pytest.param(
            {"containers": [{"name": "sidecar"}, {"name": "engine", "image": "x"}]},
            {"containers": [{"name": "engine", "image": "x"}]},
            id="a foreign sidecar",
        ),
        pytest.param(
            {"mounts": [{"mountPath": "/b", "name": "x"}, {"mountPath": "/a", "name": "x"}]},
            {"mounts": [{"mountPath": "/a", "name": "x"}]},
            id="mounts of one volume",
        ),
        pytest.param({"args": ["a", "b"]}, {"args": ["a", "b"]}, id="a plain list"),
        pytest.param({"ports": TWICE}, {"ports": TWICE}, id="one port of two protocols"),
    ],
)
def test_additions_of_others_are_no_drift(live: Any, desired: Any) -> None:
    assert covers(live, desired)


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        pytest.param({}, {"a": 1}, id="a missing field"),
        pytest.param({"a": 2}, {"a": 1}, id="another value"),
        pytest.param({"a": "1"}, {"a": 1}, id="another type"),
        pytest.param({"a": None}, {"a": {"b": 1}}, id="a map that is gone"),
        pytest.param({"args": ["a", "b", "c"]}, {"args": ["a", "b"]}, id="a longer plain list"),
        pytest.param({"args": ["b", "a"]}, {"args": ["a", "b"]}, id="another order"),
        pytest.param({"ports": []}, {"ports": [PORT]}, id="a missing item"),
        pytest.param({"ports": [PORT | {"port": 81}]}, {"ports": [PORT]}, id="a changed item"),
        pytest.param(
            {"ports": [{"port": 8000}, {"port": 22}]},
            {"ports": [{"port": 8000}]},
            id="another port that a policy allows",
        ),
        pytest.param(
            {"tolerations": [{"key": "x"}, {"key": "y"}]},
            {"tolerations": [{"key": "x"}]},
            id="a longer list without merge key",
        ),
    ],
)
def test_what_we_want_and_is_not_there_is_drift(live: Any, desired: Any) -> None:
    assert not covers(live, desired)
