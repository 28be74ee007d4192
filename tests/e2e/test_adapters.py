"""LoRA adapters on real vLLM: served, listed and selected by name."""

from __future__ import annotations

import pytest

from hack.demo import calls
from helpers.questions import SHORT, WORD
from helpers.served_models import ADAPTER, NAMESPACE, ROLLING, Served

pytestmark = pytest.mark.timeout(120, func_only=True)


def test_adapters_are_listed_beside_their_model(served: Served) -> None:
    with served.client() as client:
        assert {ROLLING, ADAPTER} <= set(calls.model_names(client))
        assert client.models.retrieve(ADAPTER).id == ADAPTER


def test_status_names_them(served: Served) -> None:
    assert served.status(ROLLING)["adapters"] == [ADAPTER]


def test_an_adapter_is_selected_by_its_name(served: Served) -> None:
    with served.client() as client:
        assert calls.completion(client, ROLLING) == WORD * SHORT
        by_adapter = calls.completion(client, ADAPTER)
        assert by_adapter != WORD * SHORT
        assert by_adapter == calls.completion(client, ADAPTER)


@pytest.mark.parametrize("path", [f"/{ROLLING}/v1", f"/{NAMESPACE}.{ROLLING}/v1"])
def test_also_where_the_path_names_the_endpoint(served: Served, path: str) -> None:
    with served.client() as by_model, served.client(path) as by_path:
        assert calls.completion(by_path, ADAPTER) == calls.completion(by_model, ADAPTER)
        assert calls.completion(by_path, "anything") == WORD * SHORT
