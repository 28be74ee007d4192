"""Every object that we show to users is valid: in examples/, in texts, in the chart's notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint_operator.api.v1alpha1 import parse_api_key, parse_endpoint
from helpers.tree import CHART, ROOT

GROUP = "serving.vllm-endpoints.dev/v1alpha1"
PARSERS = {"InferenceEndpoint": parse_endpoint, "ApiKey": parse_api_key}
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    CHART / "templates" / "NOTES.txt",
]


def documents(path: Path) -> Iterator[str]:
    """Yield the YAML of our group in a file: all of it, or the blocks in a text."""
    text = re.sub(r"\{\{.*?\}\}", "default", path.read_text())  # what helm fills in
    blocks = [text]
    if path.suffix != ".yaml":
        fenced = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        blocks = fenced + re.findall(r"<<'?EOF'?\n(.*?)^EOF$", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from (part for part in re.split(r"^---$", block, flags=re.MULTILINE) if GROUP in part)


SHOWN = [
    pytest.param(document, id=f"{path.relative_to(ROOT)}-{number}")
    for path in [*sorted((ROOT / "examples").glob("*.yaml")), *TEXTS]
    for number, document in enumerate(documents(path))
]


@pytest.mark.parametrize("document", SHOWN)
def test_it_is_valid(document: str) -> None:
    body: dict[str, Any] = yaml.safe_load(document)
    assert body["apiVersion"] == GROUP
    # what the API server adds
    body["metadata"] = {"namespace": "default", "uid": "u", "generation": 1} | body["metadata"]
    PARSERS[body["kind"]](body)


def test_there_are_examples_in_every_place_where_users_look() -> None:
    places = {str(parameter.id).rpartition("-")[0] for parameter in SHOWN}
    assert {"README.md", "docs/guide.md", "charts/vllm-endpoints/templates/NOTES.txt"} <= places
    assert [place for place in places if place.startswith("examples/")]
