"""From a template and values to an object; the only module that knows Jinja (ADR 0002).

Templates hold the shape and Python decides the values. No value ever passes through YAML: what is
rendered has a token in each place, and the values are put into the parsed shape. A shape is parsed
once, however many endpoints have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import jinja2
import yaml

from endpoint_operator.errors import RenderError

TEMPLATES: Final = "endpoint_operator.desired"

# libyaml where PyYAML has it: ten times faster than pure Python
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MARK: Final = "\0"
"""What a token begins with. No text of a template can: YAML has this character only escaped."""

_PLACED: Final = "_placed"
_KEPT_SHAPES: Final = 512
_LEAVES: Final = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True)
class Place:
    """Where a value belongs: its index among those that were placed."""

    index: int


def render(template: str, **values: Any) -> dict[str, Any]:
    """Return the object that a template describes with these values; fresh data each time.

    Raises RenderError, which no value that a user can write should cause.
    """
    placed: list[Any] = []
    try:
        text = _template(template).render(values, **{_PLACED: placed})
        rendered: dict[str, Any] = _filled(_shape(text), placed)
    except (jinja2.TemplateError, yaml.YAMLError, TypeError) as error:
        raise RenderError(f"{template}: {error}") from error
    return rendered


@cache
def environment() -> jinja2.Environment:
    """Return the environment in which every template is rendered."""
    made = jinja2.Environment(  # noqa: S701 - no value is in the text, so there is nothing to escape
        loader=jinja2.PackageLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["tojson"] = _place
    return made


@cache
def _template(name: str) -> jinja2.Template:
    return environment().get_template(f"{name}.yaml.j2")


@jinja2.pass_context
def _place(context: jinja2.runtime.Context, value: Any) -> str:
    """Put a value aside and return the token that stands for it."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # says which one is missing
    placed = context[_PLACED]
    placed.append(value)
    return f'"\\0{len(placed) - 1}"'


@lru_cache(_KEPT_SHAPES)
def _shape(text: str) -> Any:
    return _with_places(yaml.load(text, _LOADER))  # noqa: S506 - both are safe ones


def _with_places(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_places(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_places(item) for item in node]
    if isinstance(node, str) and node.startswith(_MARK):
        return Place(int(node.removeprefix(_MARK)))
    return node


def _filled(node: Any, placed: list[Any]) -> Any:
    kind = type(node)
    if kind is dict:
        return {key: _filled(value, placed) for key, value in node.items()}
    if kind is list:
        return [_filled(item, placed) for item in node]
    if kind is Place:
        return _fresh(placed[node.index])
    return node


def _fresh(value: Any) -> Any:
    """Return a copy of a value that consists of what JSON has. Raises TypeError."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fresh(item) for item in value]
    raise TypeError(f"a value is no JSON: {value!r}")
