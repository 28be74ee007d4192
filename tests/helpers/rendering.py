"""Children of endpoints for tests: rendered from a spec, taken by kind."""

from __future__ import annotations

from typing import Any

from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.desired import Inputs, desired_objects
from helpers import builders, golden

Object = dict[str, Any]


def children(inputs: Inputs = golden.INPUTS, **spec: Any) -> list[Object]:
    """Return every child of an endpoint with this spec."""
    return desired_objects(parse_endpoint(builders.endpoint(**spec)), inputs)


def children_of_kind(kind: str, inputs: Inputs = golden.INPUTS, **spec: Any) -> list[Object]:
    """Return an endpoint's children of a kind."""
    return [child for child in children(inputs, **spec) if child["kind"] == kind]


def child(kind: str, inputs: Inputs = golden.INPUTS, **spec: Any) -> Object:
    """Return the one child of a kind."""
    (found,) = children_of_kind(kind, inputs, **spec)
    return found


def deployment(inputs: Inputs = golden.INPUTS, **spec: Any) -> Object:
    """Return an endpoint's Deployment."""
    return child("Deployment", inputs, **spec)


def pod(inputs: Inputs = golden.INPUTS, **spec: Any) -> Object:
    """Return the spec of an endpoint's pods."""
    found: Object = deployment(inputs, **spec)["spec"]["template"]["spec"]
    return found


def engine(inputs: Inputs = golden.INPUTS, **spec: Any) -> Object:
    """Return the engine's container."""
    containers = {each["name"]: each for each in pod(inputs, **spec)["containers"]}
    found: Object = containers["engine"]
    return found


def option(arguments: list[str], name: str) -> str | None:
    """Return the value of an option that takes one; None where it is not given."""
    return arguments[arguments.index(name) + 1] if name in arguments else None


def variables(container: Object) -> dict[str, Any]:
    """Return a container's variables by name, each its value or where it comes from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
