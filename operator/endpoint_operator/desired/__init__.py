"""What should exist for an endpoint: a pure function from values to objects.

``reconcile`` calls ``desired_objects`` and applies what it returns. Nothing here reads a clock,
the environment, a log or the cluster: the same input gives the same bytes.
"""

from endpoint_operator.desired.inputs import EngineDefaults, Inputs
from endpoint_operator.desired.objects import desired_objects
from endpoint_operator.desired.records import Recorded, resolve_image, spec_hash

__all__ = [
    "EngineDefaults",
    "Inputs",
    "Recorded",
    "desired_objects",
    "resolve_image",
    "spec_hash",
]
