"""From a template and values to an object; the only module that knows Jinja (ADR 0002).

Templates hold the shape and Python decides the values: every value passes through ``tojson`` (the
JSON that ``as_json`` writes is YAML, so no value can break out of its place), a missing one is an
error, and only ``if`` and ``for`` are used. A test holds the templates to that.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Final

import jinja2
import yaml

from endpoint_operator.errors import RenderError

TEMPLATES = "endpoint_operator.desired"

# libyaml where PyYAML has it: ten times faster than pure Python
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NOT_PLAIN_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may have as it is and YAML not: more control characters, more line breaks, marks."""


@cache
def environment() -> jinja2.Environment:
    """Return the environment in which every template is rendered."""
    made = jinja2.Environment(  # noqa: S701 - this is YAML; tojson does the escaping
        loader=jinja2.PackageLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_function"] = as_json
    return made


def as_json(value: Any, **options: Any) -> str:
    """Return a value as JSON that is YAML too.

    YAML knows no surrogates, by which JSON escapes what is beyond 16 bits (emoji): such characters
    stay as they are.
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    return _NOT_PLAIN_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def render(template: str, **values: Any) -> dict[str, Any]:
    """Return the object that a template describes with these values; fresh data each time.

    Raises RenderError, which no value that a user can write should cause.
    """
    try:
        text = environment().get_template(f"{template}.yaml.j2").render(**values)
        rendered: dict[str, Any] = yaml.load(text, _LOADER)  # noqa: S506 - both are safe ones
    except (jinja2.TemplateError, yaml.YAMLError, TypeError) as error:
        raise RenderError(f"{template}: {error}") from error
    return rendered
