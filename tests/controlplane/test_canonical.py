"""Pod templates in the API server's form; tests/cluster compares with what it really stores."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator.desired.canonical import canonical


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param({"command": []}, {}, id="an empty list"),
        pytest.param({"value": ""}, {}, id="an empty text"),
        pytest.param({"command": None}, {}, id="null"),
        pytest.param({"nodeSelector": {}}, {}, id="an empty map of texts"),
        pytest.param({"hostNetwork": False, "tty": False}, {}, id="false anyway"),
        pytest.param({"hostPort": 0, "initialDelaySeconds": 0}, {}, id="zero anyway"),
        pytest.param(
            {"periodSeconds": 0, "timeoutSeconds": 0, "terminationMessagePath": ""},
            {},
            id="a default instead",
        ),
        pytest.param({"a": [{"value": ""}]}, {"a": [{}]}, id="in a list"),
        pytest.param({"requests": {"cpu": 1}}, {"requests": {"cpu": "1"}}, id="a number"),
        pytest.param({"limits": {"cpu": 0.5}}, {"limits": {"cpu": "500m"}}, id="a fraction"),
        pytest.param({"sizeLimit": "2048Mi"}, {"sizeLimit": "2Gi"}, id="a size"),
        pytest.param({"overhead": {"memory": "1e3"}}, {"overhead": {"memory": "1k"}}, id="a power"),
    ],
)
def test_what_the_api_server_stores_otherwise_is_written_so(given: Any, stored: Any) -> None:
    assert canonical(given) == stored


@pytest.mark.parametrize(
    "given",
    [
        {"emptyDir": {}},
        {"namespaceSelector": {}},
        {"allowPrivilegeEscalation": False, "automountServiceAccountToken": False},
        {"storageClassName": ""},
        {"labels": {"a": ""}, "annotations": {"b": ""}, "nodeSelector": {"c": ""}},
        {"terminationGracePeriodSeconds": 0, "defaultMode": 0},
        {"replicas": 0, "weight": 0, "enabled": True},
    ],
)
def test_what_means_something_stays(given: Any) -> None:
    assert canonical(given) == given
