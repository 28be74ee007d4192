"""From a template and values to an object; the only module that knows Jinja (ADR 0002).

Templates hold the shape and Python decides the values: every value passes through ``tojson`` (JSON
is YAML, so no value can break out of its place), a missing one is an error, and only ``if`` and
``for`` are used. A test holds the templates to that.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
import yaml

TEMPLATES = "endpoint_operator.desired"

# libyaml where PyYAML has it: ten times faster than pure Python
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def environment() -> jinja2.Environment:
    """Return the environment in which every template is rendered."""
    return jinja2.Environment(  # noqa: S701 - this is YAML; tojson does the escaping
        loader=jinja2.PackageLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> dict[str, Any]:
    """Return the object that a template describes with these values; fresh data each time."""
    text = environment().get_template(f"{template}.yaml.j2").render(**values)
    rendered: dict[str, Any] = yaml.load(text, _LOADER)  # noqa: S506 - both loaders are safe ones
    return rendered
