"""From pydantic's errors to sentences for users: the field's path and what to do about it.

``v1alpha1`` parses through here. All faults of an object come at once, in the order of its fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from endpoint_operator.api.rules import Rule
from endpoint_operator.errors import Fault, InvalidObjectError

Spec = TypeVar("Spec")

_REMEDIES: Final = {
    "missing": "is required; set it",
    "extra_forbidden": "is not a field of this version; remove it or correct its spelling",
    "string_type": "must be a string; put it in quotes",
    "bool_type": "must be true or false; write it without quotes",
    "int_type": "must be a whole number; write it without quotes or a fraction",
    "list_type": "must be a list; put each value on a line of its own after a dash",
    "dict_type": "must be a map; write its fields below it, indented",
    "model_type": "must be a map; write its fields below it, indented",
}

_ITS_NAME: Final = re.compile("^[A-Z][a-z]+ should")
"""How pydantic begins its messages: with what it calls the value."""


def parse(adapter: TypeAdapter[Spec], body: Mapping[str, Any], name_rules: Iterable[Rule]) -> Spec:
    """Return an object's spec as a model. Raises InvalidObjectError with every fault."""
    faults = broken(name_rules, body["metadata"]["name"])
    try:
        spec = adapter.validate_python(body.get("spec", {}))
    except ValidationError as error:
        faults += [fault for details in error.errors() for fault in faults_of(details)]
        raise InvalidObjectError(faults) from error
    if faults:
        raise InvalidObjectError(faults)
    return spec


def require(rules: Iterable[Rule], value: object) -> None:
    """Raise InvalidObjectError if a value breaks one of the rules, whose fields are full paths."""
    if faults := broken(rules, value):
        raise InvalidObjectError(faults)


def broken(rules: Iterable[Rule], value: object) -> list[Fault]:
    """Return the rules that a value breaks."""
    return [Fault(rule.field, rule.message) for rule in rules if not rule.holds(value)]


def faults_of(details: ErrorDetails) -> Iterator[Fault]:
    """Yield what one of pydantic's errors says: one fault, or one per broken rule."""
    path = _path(details["loc"])
    words = details["msg"].replace(" after validation", "")
    message = _REMEDIES.get(details["type"]) or _ITS_NAME.sub("must", words)
    for field, text in details.get("ctx", {}).get("broken", [("", message)]):
        yield Fault(f"{path}.{field}" if field else path, text)


def _path(location: Iterable[int | str]) -> str:
    steps = ["spec"]
    for step in location:
        if isinstance(step, int):
            steps[-1] += f"[{step}]"
        elif step != "[key]":  # pydantic's mark for "the key itself"
            steps.append(step)
    return ".".join(steps)
