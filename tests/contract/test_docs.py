"""The documentation says what there is, all of it, and its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from endpoint_gateway.metrics import Metrics
from endpoint_operator import status
from endpoint_operator.api import options
from endpoint_operator.diagnosis import Cause, causes
from endpoint_operator.diagnosis.scheduling import Asked, unschedulable
from helpers.tree import CHART, PACKAGES, ROOT, modules

TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
REFERENCE = ROOT / "docs" / "reference"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value and not prefix.endswith("resources."):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_every_make_target_is_explained_by_make_help_and_by_the_guide_for_contributors() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    explained = set(re.findall(r"^([a-z][a-z0-9-]*):[^#\n]*## .+", makefile, re.MULTILINE))
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert targets == explained
    assert [target for target in sorted(targets) if f"`make {target}" not in contributing] == []
    assert set(re.findall(r"^\| `make ([a-z0-9-]+)` \|", contributing, re.MULTILINE)) <= targets


def test_phony_targets_are_declared() -> None:
    makefile = (ROOT / "Makefile").read_text()
    declared = re.findall(r"^\.PHONY: (\S+)\n(\S+):", makefile, re.MULTILINE)
    assert [pair for pair in declared if pair[0] != pair[1]] == []
    assert {name for name, _ in declared} == set(
        re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE)
    )


def test_every_chart_value_is_documented_with_its_default() -> None:
    text = (REFERENCE / "chart-values.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| `?([^|`]*)`? \|", text, re.MULTILINE))
    values = dict(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    assert rows.keys() == values.keys()
    shown = {name: yaml.safe_load(default) for name, default in rows.items()}
    assert shown == values


def constants(module: ModuleType) -> set[str]:
    values = [value for name, value in vars(module).items() if name.isupper()]
    return {value for value in values if isinstance(value, str) and value.isalpha()}


def test_every_phase_condition_and_reason_is_documented() -> None:
    text = (REFERENCE / "status.md").read_text() + (REFERENCE / "api.md").read_text()
    reasons = constants(status) | constants(causes)
    assert {reason for reason in reasons if f"`{reason}`" not in text} == set()


def test_the_page_about_status_names_nothing_that_is_not_said() -> None:
    text = (REFERENCE / "status.md").read_text()
    cells = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    said = {
        word
        for row in cells
        for word in re.findall(r"`([A-Z][A-Za-z]+)`", " ".join(row.split(" | ")[:3]))
    }
    assert said - constants(status) - constants(causes) == set()


def test_which_causes_last_is_documented() -> None:
    text = (REFERENCE / "status.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \|", text, re.MULTILINE)
    shown = {reason: lasts == "yes" for reason, lasts in rows}
    assert shown == {reason: Cause(reason, "").lasting for reason in constants(causes)}


def test_the_messages_that_the_guide_shows_are_those_that_are_written() -> None:
    shown = re.findall(r"^    Message: +(.+)$", (ROOT / "docs/guide.md").read_text(), re.MULTILINE)
    said = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    waits = unschedulable(said, Asked({"nvidia.com/gpu": "4"}, kept=True))
    assert shown == [waits.message, status.SERVES.message]


def test_every_metric_is_documented() -> None:
    text = (REFERENCE / "metrics.md").read_text()
    metrics = Metrics()
    metrics.shared_limits()
    page = metrics.page().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
    shown = dict(re.findall(r"^\| `(vllm_\w+)` \| (\w+) \|", text, re.MULTILINE))
    # what Prometheus adds by itself to counters and histograms
    assert shown == {name: kind for name, kind in kinds.items() if not name.endswith("_created")}


def fields_of(kind: str) -> list[str]:
    definition = yaml.safe_load((ROOT / f"crds/serving.vllm-endpoints.dev_{kind}.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return list(fields(schema["properties"]))


@pytest.mark.parametrize("kind", ["inferenceendpoints", "apikeys"])
def test_every_field_of_the_api_is_documented(kind: str) -> None:
    text = (REFERENCE / "api.md").read_text()
    assert [name for name in fields_of(kind) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("kind", ["inferenceendpoints", "apikeys"])
def test_every_field_of_a_spec_has_an_example(kind: str) -> None:
    shown = [ROOT / "docs" / "guide.md", *(ROOT / "examples").glob("*.yaml")]
    text = "".join(path.read_text() for path in shown)
    names = {name.rpartition(".")[2] for name in fields_of(kind) if name.startswith("spec.")}
    assert [name for name in sorted(names) if not re.search(rf'\b{name}"?:', text)] == []


def test_every_option_that_is_refused_is_documented() -> None:
    text = (REFERENCE / "api.md").read_text()
    assert [option for option in options.OWNED if f"`{option}`" not in text] == []


def fields(properties: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, schema in properties.items():
        if prefix == "" and name not in {"spec", "status"}:
            continue
        if "refused" in schema.get("description", ""):
            continue
        below = schema.get("properties")
        # a free map declares only what it refuses
        if below and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield from fields(below, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_into_the_tree_lead_to_a_file(text: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text.read_text())
    inner = [link for link in links if "://" not in link]
    assert [link for link in inner if not (text.parent / link).exists()] == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    decisions = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert decisions
    assert re.findall(r"\]\((\d{4}-[^)]+)\)", index) == decisions


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")), ids=lambda path: path.stem
)
def test_every_decision_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.name[:4]}: ")
    parts = re.findall(r"^(?:\*\*|## )(Status|Context|Decision|Consequences)\b", text, re.MULTILINE)
    assert parts == ["Status", "Context", "Decision", "Consequences"]


@pytest.mark.parametrize("source_root", PACKAGES)
def test_every_module_has_its_paragraph_in_the_architecture(source_root: str) -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    assert [name for name in sorted(modules(source_root)) if f"- `{name}`:" not in text] == []
