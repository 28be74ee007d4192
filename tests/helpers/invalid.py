"""The table of invalid objects, one file per broken rule, for both who refuse them.

``refusedBy`` says who: ``cluster`` (the CRD's schema and CEL, as kubectl shows it) and ``operator``
(the model). Either must name ``field`` and, as a regular expression, ``remedy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DIRECTORY = Path(__file__).parents[1] / "contract" / "invalid"


@dataclass(frozen=True)
class Case:
    """An object that breaks one rule."""

    refused_by: tuple[str, ...]
    field: str
    remedy: str
    object: dict[str, Any]


def load(path: Path) -> Case:
    """Return the case in a file."""
    content = yaml.safe_load(path.read_text())
    return Case(tuple(content["refusedBy"]), content["field"], content["remedy"], content["object"])


def cases(by: str) -> list[Any]:
    """Return the cases that one of the two must refuse, as parameters with their names."""
    found = [(path.stem, load(path)) for path in sorted(DIRECTORY.glob("*.yaml"))]
    return [pytest.param(case, id=name) for name, case in found if by in case.refused_by]
