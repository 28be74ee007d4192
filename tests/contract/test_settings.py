"""What both parts read is what the chart sets and what the reference documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import endpoint_gateway.settings
import endpoint_operator.settings
from helpers.helm import container, pick, render
from helpers.tree import ROOT

PREFIX = "VLLM_ENDPOINTS_"
REFERENCE = ROOT / "docs" / "reference" / "settings.md"
MODELS: dict[str, type[BaseModel]] = {
    "operator": endpoint_operator.settings.Settings,
    "gateway": endpoint_gateway.settings.Settings,
}


def variables(part: str) -> set[str]:
    return {PREFIX + name.upper() for name in MODELS[part].model_fields}


def rendered(part: str) -> dict[str, Any]:
    deployment = pick(render(), "Deployment", f"vllm-endpoints-{part}")
    return {item["name"]: item["value"] for item in container(deployment)["env"]}


@pytest.mark.parametrize("part", MODELS)
def test_the_chart_sets_every_variable_and_no_other(part: str) -> None:
    assert rendered(part).keys() == variables(part)


@pytest.mark.parametrize("part", MODELS)
def test_the_charts_defaults_are_the_models(part: str) -> None:
    fields = MODELS[part].model_fields
    chart = rendered(part)
    different = {
        name: (chart[PREFIX + name.upper()], field.default)
        for name, field in fields.items()
        if not field.is_required() and chart[PREFIX + name.upper()] != str(field.default)
    }
    assert different == {}


def test_the_variables_of_a_gateway_without_a_cluster_are_documented() -> None:
    text = Path(REFERENCE).read_text()
    fields = endpoint_gateway.settings.StaticBackend.model_fields
    assert [name for name in fields if f"`{name.upper()}`" not in text] == []


@pytest.mark.parametrize("part", MODELS)
def test_every_variable_is_documented(part: str) -> None:
    text = Path(REFERENCE).read_text()
    assert [name for name in sorted(variables(part)) if f"`{name}`" not in text] == []
