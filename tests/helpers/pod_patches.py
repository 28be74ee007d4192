"""A pod template, and random patches of it as people write them, for tests of the merge."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

Object = dict[str, Any]
Objects = st.SearchStrategy[Object]

TEMPLATE: Final[Object] = {
    "metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"c": "3"}},
    "spec": {
        "nodeSelector": {"a": "1"},
        "securityContext": {"runAsUser": 1, "supplementalGroups": [1, 2]},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "a"}, {"name": "b"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
        "initContainers": [{"name": "a", "image": "a:1", "args": ["x"]}],
        "containers": [
            {
                "name": "a",
                "image": "a:1",
                "args": ["x", "y"],
                "env": [{"name": name, "value": "1"} for name in "abcd"],
                "ports": [{"containerPort": 1, "name": "one"}, {"containerPort": 2}],
                "volumeMounts": [
                    {"mountPath": "/a", "name": "a"},
                    {"mountPath": "/b", "name": "b", "readOnly": True},
                ],
                "resources": {"limits": {"cpu": "1"}},
                "livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 5},
            },
            {"name": "b", "image": "b:1"},
        ],
        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {"medium": "Memory"}}],
    },
}

_LETTERS: Final = st.sampled_from("abcdef")
_DELETED: Final = st.just({"$patch": "delete"})
_MAPS: Final = st.dictionaries(_LETTERS, st.none() | _LETTERS, max_size=3) | st.dictionaries(
    _LETTERS, _LETTERS, max_size=3
).map(lambda found: {"$patch": "replace", **found})


def _items(key: str, keys: st.SearchStrategy[Any], content: Objects) -> Any:
    """Return patches of a list that is merged by a key: items to change, add or delete."""
    item = st.builds(lambda name, rest: {key: name, **rest}, keys, content | _DELETED)
    items = st.lists(item, max_size=4, unique_by=lambda each: each[key])
    kept = items.map(lambda found: [each for each in found if "$patch" not in each])
    return items | kept.map(lambda found: [*found, {"$patch": "replace"}])


def _container() -> Objects:
    mounts = _items(
        "mountPath",
        st.sampled_from(["/a", "/b", "/c"]),
        st.fixed_dictionaries({"name": _LETTERS}, optional={"subPath": _LETTERS}),
    )
    ports = _items(
        "containerPort", st.integers(1, 4), st.fixed_dictionaries({}, optional={"name": _LETTERS})
    )
    probe = st.none() | st.fixed_dictionaries(
        {}, optional={"periodSeconds": st.integers(1, 9), "tcpSocket": st.none()}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "image": _LETTERS,
            "args": st.none() | st.lists(_LETTERS, max_size=2),
            "env": _items("name", _LETTERS, st.fixed_dictionaries({"value": _LETTERS})),
            "ports": ports,
            "volumeMounts": mounts,
            "livenessProbe": probe,
            "resources": st.fixed_dictionaries({"limits": st.just({"cpu": "2"}) | st.none()}),
        },
    )


def _volume() -> Objects:
    host = st.fixed_dictionaries({"hostPath": st.just({"path": "/x"})})
    return st.one_of(
        st.just({"emptyDir": {"sizeLimit": "1Gi"}}),
        host.map(lambda found: {"emptyDir": None, **found}),
        host.map(lambda found: {"$retainKeys": ["name", "hostPath"], **found}),
    )


def patches() -> Objects:
    """Return patches that Kubernetes takes; new containers come without directives in them."""
    plain = st.fixed_dictionaries({"image": _LETTERS}, optional={"args": st.lists(_LETTERS)})
    known = _items("name", st.just("a"), _container())
    added = _items("name", st.sampled_from(["b", "c", "d"]), plain)
    metadata = st.fixed_dictionaries({}, optional={"labels": _MAPS, "annotations": _MAPS})
    spec = st.fixed_dictionaries(
        {},
        optional={
            "nodeSelector": st.none() | _MAPS,
            "priorityClassName": st.none() | _LETTERS,
            "securityContext": st.none()
            | st.fixed_dictionaries(
                {}, optional={"runAsUser": st.none() | st.integers(1, 9), "fsGroup": st.just(1)}
            ),
            "tolerations": st.none() | st.lists(st.fixed_dictionaries({"key": _LETTERS})),
            "imagePullSecrets": _items("name", _LETTERS, st.just({})),
            "hostAliases": _items(
                "ip",
                st.sampled_from(["10.0.0.1", "10.0.0.2"]),
                st.fixed_dictionaries({"hostnames": st.lists(_LETTERS)}),
            ),
            "initContainers": added,
            "containers": known | added,
            "volumes": _items("name", _LETTERS, _volume()),
        },
    )
    return st.fixed_dictionaries({}, optional={"metadata": metadata, "spec": spec})
