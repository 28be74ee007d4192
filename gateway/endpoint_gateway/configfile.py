"""From the text of a file to a configuration, with a line for each of its faults.

Called by static. Pure, and no message holds a value of the file: it may be a key.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml
from pydantic import ValidationError

from .config import Config
from .errors import SettingsError

_REMEDIES: Final = {
    "missing": "is required; set it",
    "extra_forbidden": "is not known here; remove it or correct its spelling",
    "string_type": "must be a string; put it in quotes",
    "int_type": "must be a whole number; write it without quotes or a fraction",
    "list_type": "must be a list; put each value on a line of its own after a dash",
    "model_type": "must be a map; write its fields below it, indented",
    "too_short": "must not be empty; add one",
}


def parse(text: str) -> Config:
    """Return what a file says. Raises SettingsError with a line for each fault of its fields."""
    try:
        return Config.model_validate(_load(text))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(fault) for fault in error.errors())) from error


class _Loader(yaml.SafeLoader):
    """Refuses a name that is twice in a map, of which the safe loader silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the map that begins here. Raises ComposerError."""
        node = super().compose_mapping_node(anchor)
        names = [str(name.value) for name, _ in node.value]
        if len(set(names)) < len(names):
            raise yaml.composer.ComposerError(problem_mark=node.start_mark)
        return node


def _load(text: str) -> Any:
    """Return the YAML. Raises SettingsError in our words: a parser's quote what may be a key."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(
            f"not YAML{place}; see to indentation, quotes and names that are twice"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError("not YAML; take out what is no text, no date or too deep") from None


def _explain(fault: Any) -> str:
    problem = re.sub("^(Value error, |[A-Z][a-z]+ should )", "", fault["msg"])
    if fault["type"] != "value_error":
        problem = _REMEDIES.get(fault["type"], f"must {problem}")
    return f"{_path(fault['loc']) or 'the file'}: {problem}"


def _path(location: Iterable[int | str]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")
