"""Strategic merge: one rule each. That kubectl does the same is seen in tests/cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from endpoint_operator.desired.merging import MERGE_KEYS, PatchError, merge
from helpers import pod_patches


def env(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "value": name.upper()} for name in names]


@pytest.mark.parametrize(
    ("original", "patch", "expected"),
    [
        pytest.param({"a": 1}, {}, {"a": 1}, id="nothing"),
        pytest.param({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}, id="maps"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}, id="null"),
        pytest.param({}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}, id="null in a new map"),
        pytest.param({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, id="a plain list"),
        pytest.param(
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "b"}]},
            id="a list without a key",
        ),
        pytest.param(
            {"env": env("a", "b")},
            {"env": [{"name": "b", "value": "x"}]},
            {"env": [*env("a"), {"name": "b", "value": "x"}]},
            id="an item changes where it is",
        ),
        pytest.param(
            {"env": env("a", "b")}, {"env": env("c")}, {"env": env("c", "a", "b")}, id="new first"
        ),
        pytest.param(
            {"env": env("a", "b", "c")},
            {"env": env("c", "a")},
            {"env": env("b", "c", "a")},
            id="items of the patch in its order",
        ),
        pytest.param(
            {"env": env("a", "b")},
            {"env": [{"name": "a", "$patch": "delete"}]},
            {"env": env("b")},
            id="an item is deleted",
        ),
        pytest.param(
            {"env": [{"name": "a", "value": "x", "extra": 1}]},
            {"env": [{"name": "a", "$patch": "delete"}, *env("a")]},
            {"env": env("a")},
            id="an item is deleted and made anew",
        ),
        pytest.param(
            {"env": env("a", "b")},
            {"env": [{"$patch": "replace"}, *env("c")]},
            {"env": env("c")},
            id="a list is replaced",
        ),
        pytest.param(
            {"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}, id="a new map"
        ),
        pytest.param({"a": {"b": 1}}, {"a": {"$patch": "delete"}}, {"a": {}}, id="an empty map"),
        pytest.param({}, {"a": {"$patch": "delete"}}, {}, id="nothing to delete"),
        pytest.param(
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "$retainKeys": ["name", "nfs"], "nfs": {"path": "/"}}]},
            {"volumes": [{"name": "v", "nfs": {"path": "/"}}]},
            id="only these fields stay",
        ),
        pytest.param(
            {"containers": [{"name": "a", "env": env("x"), "args": ["1"]}]},
            {"containers": [{"name": "a", "env": env("y"), "args": ["2"]}]},
            {"containers": [{"name": "a", "env": env("y", "x"), "args": ["2"]}]},
            id="lists within items",
        ),
    ],
)
def test_a_patch_changes_what_it_names(original: Any, patch: Any, expected: Any) -> None:
    assert merge(original, patch) == expected


@pytest.mark.parametrize(("field", "key"), sorted(MERGE_KEYS.items()))
def test_a_list_of_named_things_is_merged_by_the_name(field: str, key: str) -> None:
    original = {field: [{key: 1, "a": 1}, {key: 2, "a": 1}]}
    merged = merge(original, {field: [{key: 2, "b": 2}]})
    assert merged == {field: [{key: 1, "a": 1}, {key: 2, "a": 1, "b": 2}]}


@pytest.mark.parametrize(
    ("original", "patch", "path", "remedy"),
    [
        pytest.param({}, {"$patch": "x"}, "$patch", "replace or delete", id="directive"),
        pytest.param(
            {}, {"$setElementOrder/env": []}, "$setElementOrder/env", "remove", id="kubectl's"
        ),
        pytest.param({"a": {}}, {"a": 1}, "a", "object", id="a map and a number"),
        pytest.param({"a": {}}, {"a": []}, "a", "object", id="a map and a list"),
        pytest.param({"a": 1}, {"a": []}, "a", "list", id="a number and a list"),
        pytest.param({"env": []}, {"env": [1]}, "env[0]", "object", id="no object"),
        pytest.param({"env": []}, {"env": [{}]}, "env[0]", "name", id="no name"),
        pytest.param({"env": []}, {"env": [{"name": {}}]}, "env[0]", "name", id="an odd name"),
        pytest.param(
            {"env": []},
            {"env": [{"name": "a", "$patch": "x"}]},
            "env[0].$patch",
            "delete",
            id="item",
        ),
        pytest.param(
            {"env": env("a")},
            {"env": [{"name": "a", "value": {}}]},
            "env[name=a].value",
            "object",
            id="in an item",
        ),
        pytest.param({"a": {}}, {"a": {"$retainKeys": 1}}, "a.$retainKeys", "list", id="retain"),
        pytest.param(
            {"a": {}},
            {"a": {"$retainKeys": ["b"], "c": 1}},
            "a.$retainKeys",
            "every",
            id="retain all",
        ),
    ],
)
def test_what_can_not_be_merged_is_said_with_its_field(
    original: Any, patch: Any, path: str, remedy: str
) -> None:
    with pytest.raises(PatchError, match=remedy) as raised:
        merge(original, patch, path="spec")
    assert raised.value.path == f"spec.{path}"


@given(patch=pod_patches.patches())
def test_neither_the_template_nor_the_patch_changes(patch: Any) -> None:
    before = copy.deepcopy((pod_patches.TEMPLATE, patch))
    merged = merge(pod_patches.TEMPLATE, patch)
    assert (pod_patches.TEMPLATE, patch) == before
    assert merge(merged, {}) == merged
