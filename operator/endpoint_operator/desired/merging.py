"""Kubernetes' strategic merge, for pod templates: a partial one over a whole one.

``workload`` merges ``spec.podTemplate`` by it. The rules are those of ``kubectl patch`` (its
package strategicpatch): maps are merged; null takes a field away; lists of things with a name are
merged by it, what is new goes in front; other lists are replaced. ``$patch: delete`` takes an item
away, ``$patch: replace`` replaces a map or, as an item, a list; ``$retainKeys`` names the fields
that stay. Refused are the directives that only ``kubectl apply`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "schedulingGates": "name",
    "resourceClaims": "name",
    "ownerReferences": "uid",
}
"""The lists of a pod template that are merged, with the field that tells their items apart."""

DIRECTIVE: Final = "$patch"
RETAIN: Final = "$retainKeys"

Object = dict[str, Any]


class PatchError(ValueError):
    """A patch can't be merged; ``path`` is the field of the patch at fault."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


def merge(original: Mapping[str, Any], patch: Mapping[str, Any], *, path: str = "") -> Object:
    """Return what the patch makes of the original, neither of which changes.

    ``path`` is what fields in errors begin with. Raises PatchError.
    """
    match patch.get(DIRECTIVE):
        case None:
            return _merge_fields(original, patch, path)
        case "replace":
            return {key: _cleaned(value) for key, value in patch.items() if key != DIRECTIVE}
        case "delete":
            return {}
    raise PatchError(_at(path, DIRECTIVE), "write replace or delete")


def _merge_fields(original: Mapping[str, Any], patch: Mapping[str, Any], path: str) -> Object:
    result = _retained(original, patch, path)
    for field, change in patch.items():
        at = _at(path, field)
        if field == RETAIN:
            continue
        if field.startswith("$"):
            raise PatchError(at, "is no directive that is known here; remove it")
        if change is None:
            result.pop(field, None)
        elif field in result:
            result[field] = _merge_value(field, result[field], change, path=at)
        elif not _is_directive(change):
            result[field] = _cleaned(change)
    return result


def _retained(original: Mapping[str, Any], patch: Mapping[str, Any], path: str) -> Object:
    if RETAIN not in patch:
        return dict(original)
    named = patch[RETAIN]
    given = {field for field, change in patch.items() if change is not None} - {RETAIN}
    if not isinstance(named, list) or not given.issubset(named):
        raise PatchError(_at(path, RETAIN), "write a list with every field that is given here")
    return {field: value for field, value in original.items() if field in named}


def _merge_value(field: str, original: Any, change: Any, *, path: str) -> Any:
    if isinstance(original, dict) and isinstance(change, dict):
        return merge(original, change, path=path)
    if isinstance(original, list) and isinstance(change, list):
        key = MERGE_KEYS.get(field)
        return _merge_list(original, change, key, path) if key else _cleaned(change)
    for kind, name in ((dict, "an object"), (list, "a list")):
        if isinstance(original, kind) or isinstance(change, kind):
            raise PatchError(path, f"is {name} in one of patch and template and not in the other")
    return change


def _merge_list(original: list[Any], patch: list[Any], key: str, path: str) -> list[Any]:
    for index, item in enumerate(patch):
        _check_item(item, key, f"{path}[{index}]")
    changes = [item for item in patch if not _is_directive(item)]
    if any(item.get(DIRECTIVE) == "replace" for item in patch):
        return _by_key(changes, {}, key, path)
    deleted = [item[key] for item in patch if _is_directive(item)]
    kept = {item[key]: item for item in original if item[key] not in deleted}
    return _ordered(_by_key(changes, kept, key, path), list(kept.values()), key)


def _check_item(item: Any, key: str, path: str) -> None:
    if not isinstance(item, dict):
        raise PatchError(path, "is no object")
    if item.get(DIRECTIVE) not in {None, "delete", "replace"}:
        raise PatchError(_at(path, DIRECTIVE), "write replace or delete")
    if not isinstance(item.get(key), str | int) and item.get(DIRECTIVE) != "replace":
        raise PatchError(path, f"has no {key}, by which it would be merged; give it one")


def _by_key(
    changes: Iterable[Object], kept: Mapping[Any, Object], key: str, path: str
) -> list[Object]:
    """Return the changes, in their order, each merged with the item of its key."""
    merged: dict[Any, Object] = {}
    for item in changes:
        name = item[key]
        before = merged.get(name) or kept.get(name) or {}
        merged[name] = merge(before, item, path=f"{path}[{key}={name}]")
    return list(merged.values())


def _ordered(changed: list[Object], kept: list[Object], key: str) -> list[Object]:
    """Return all items: those changed in the patch's order, the others where they were."""
    position = {item[key]: index for index, item in enumerate(kept)}
    names = {item[key] for item in changed}
    others = [item for item in kept if item[key] not in names]
    result: list[Object] = []
    for item in changed:
        while others and position[others[0][key]] < position.get(item[key], 0):
            result.append(others.pop(0))
        result.append(item)
    return result + others


def _is_directive(value: Any) -> bool:
    return isinstance(value, dict) and DIRECTIVE in value


def _cleaned(value: Any) -> Any:
    """Return a copy of a new value, without nulls and directives, for which there is no use."""
    if isinstance(value, dict):
        return {
            key: _cleaned(item)
            for key, item in value.items()
            if item is not None and key != RETAIN and not _is_directive(item)
        }
    if isinstance(value, list):
        return [_cleaned(item) for item in value if not _is_directive(item)]
    return value


def _at(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
