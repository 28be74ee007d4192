"""crds/ is what the models say: ``make manifests`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from endpoint_operator import names
from endpoint_operator.api import crd

DIRECTORY = Path(__file__).parents[2] / "crds"


def committed(kind: crd.Kind) -> dict[str, Any]:
    path = DIRECTORY / f"{names.GROUP}_{kind.plural}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_the_committed_crd_is_the_generated_one(kind: crd.Kind) -> None:
    assert committed(kind) == crd.crd(kind), "run `make manifests`"


def test_no_other_crd_is_committed() -> None:
    expected = {f"{names.GROUP}_{kind.plural}.yaml" for kind in crd.KINDS}
    assert {path.name for path in DIRECTORY.glob("*.yaml")} == expected


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_described_and_bounded(kind: crd.Kind) -> None:
    schema = crd.root_schema(kind)
    problems: list[str] = []
    for part in ("spec", "status"):
        examine(schema["properties"][part], part, problems)
    assert problems == []


def examine(schema: dict[str, Any], path: str, problems: list[str]) -> None:
    """Collect what has no description or no bound; CEL's cost depends on the bounds."""
    kind = "map" if "additionalProperties" in schema else schema.get("type", "")
    bounds = {"string": "maxLength", "array": "maxItems", "map": "maxProperties"}
    bounded = bounds.get(kind)
    if bounded and bounded not in schema and "enum" not in schema and "format" not in schema:
        problems.append(f"{path}: no {bounded}")
    if "description" not in schema and not path.endswith("[]"):
        problems.append(f"{path}: no description")
    for name, child in schema.get("properties", {}).items():
        examine(child, f"{path}.{name}", problems)
    for key in {"items", "additionalProperties"} & schema.keys():
        examine(schema[key], f"{path}[]", problems)


def test_what_can_not_be_converted_is_refused() -> None:
    class Choice(BaseModel):
        either: int | str

    class Pattern(BaseModel):
        text: str = Field(pattern="x")

    for model in (Choice, Pattern):
        with pytest.raises(ValueError, match="no conversion"):
            crd.structural(model.model_json_schema())


def test_conditions_merge_by_type() -> None:
    schema = crd.root_schema(crd.KINDS[0])["properties"]["status"]["properties"]["conditions"]
    assert schema["x-kubernetes-list-type"] == "map"
    assert schema["x-kubernetes-list-map-keys"] == ["type"]


def test_an_endpoint_can_be_scaled() -> None:
    subresources = crd.crd(crd.KINDS[0])["spec"]["versions"][0]["subresources"]
    assert subresources["scale"]["specReplicasPath"] == ".spec.replicas"
    assert subresources["status"] == {}
