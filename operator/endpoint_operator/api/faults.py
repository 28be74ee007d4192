"""From pydantic's errors to sentences for users: the field's path and what to do about it.

``v1alpha1`` parses through here. All faults of an object come at once, in the order of its fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from endpoint_operator.api.rules import Rule
from endpoint_operator.errors import Fault, InvalidObjectError

Spec = TypeVar("Spec", bound=BaseModel)

_REMEDIES: Final = {
    "missing": "is required; set it",
    "extra_forbidden": "is not a field of this version; remove it or correct its spelling",
    "string_type": "must be a string; put it in quotes",
    "int_type": "must be a whole number; write it without quotes or a fraction",
    "list_type": "must be a list; put each value on a line of its own after a dash",
    "dict_type": "must be a map; write its fields below it, indented",
    "model_type": "must be a map; write its fields below it, indented",
}


def parse(model: type[Spec], body: Mapping[str, Any], name_rules: Iterable[Rule]) -> Spec:
    """Return an object's spec as a model. Raises InvalidObjectError with every fault."""
    faults = name_faults(body["metadata"]["name"], name_rules)
    try:
        spec = model.model_validate(body.get("spec", {}))
    except ValidationError as error:
        faults += [fault_of(details) for details in error.errors()]
        raise InvalidObjectError(faults) from error
    if faults:
        raise InvalidObjectError(faults)
    return spec


def name_faults(name: str, name_rules: Iterable[Rule]) -> list[Fault]:
    """Return the rules on metadata.name that a name breaks."""
    broken = [rule.message for rule in name_rules if not rule.holds(name)]
    return [Fault(*message.split(": ", 1)) for message in broken]


def fault_of(details: ErrorDetails) -> Fault:
    """Return one of pydantic's errors as a fault."""
    known = _REMEDIES.get(details["type"])
    message = known or details["msg"].replace("Input should", "must")
    return Fault(_path(details["loc"]), message[:1].lower() + message[1:])


def _path(location: Iterable[int | str]) -> str:
    steps = ["spec"]
    for step in location:
        if isinstance(step, int):
            steps[-1] += f"[{step}]"
        elif step != "[key]":  # pydantic's mark for "the key itself"
            steps.append(step)
    return ".".join(steps)
