"""Two tables of objects for both who judge them: each breaks one rule, or is valid at its edge.

In tests/contract/invalid, ``refusedBy`` says who refuses: ``cluster`` (the CRD's schema and CEL)
and ``operator`` (the model); the other one accepts. Who refuses must name ``field`` and, as a
regular expression, ``remedy``, or ``clusterSays`` where the message is the API server's own.
What is in tests/contract/valid both accept. ``before`` is the spec that is changed to the object's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CONTRACT = Path(__file__).parents[1] / "contract"


@dataclass(frozen=True)
class Case:
    """An object that breaks one rule, or breaks none."""

    object: dict[str, Any]
    before: dict[str, Any] | None
    refused_by: tuple[str, ...] = ()
    field: str = ""
    remedy: str = ""
    cluster_says: str = ""


def load(path: Path) -> Case:
    """Return the case in a file."""
    content = yaml.safe_load(path.read_text())
    refused_by = tuple(content.pop("refusedBy", ()))
    return Case(
        object=content.pop("object"),
        before=content.pop("before", None),
        refused_by=refused_by,
        cluster_says=content.pop("clusterSays", content.get("remedy", "")),
        **content,
    )


def refused(by: str) -> list[Any]:
    """Return the cases that one of the two must refuse, as parameters with their names."""
    return [parameter for parameter in _cases("invalid") if by in parameter.values[0].refused_by]


def accepted(by: str) -> list[Any]:
    """Return the cases that one of the two must accept, as parameters with their names."""
    seen = [case for case in _cases("invalid") if by not in case.values[0].refused_by]
    return [*_cases("valid"), *seen]


def _cases(folder: str) -> list[Any]:
    return [pytest.param(load(path), id=path.stem) for path in _files(folder)]


def _files(folder: str) -> list[Path]:
    return sorted((CONTRACT / folder).glob("*.yaml"))
