"""What one reconcile writes down for the next: which spec was applied, with which image.

Both are annotations of the Deployment, from one write. A default image must not jump when the
operator is upgraded, and a change of the spec is told from one of the operator by the same digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, InferenceEndpointSpec
from endpoint_operator.desired.digests import digest
from endpoint_operator.desired.inputs import Inputs


@dataclass(frozen=True)
class Recorded:
    """What earlier reconciles wrote down; ``annotations`` is None where no Deployment exists."""

    annotations: Mapping[str, str] | None
    status: Mapping[str, Any]


_NOT_OF_PODS: Final = {"replicas", "suspended", "access"}


def resolve_image(endpoint: InferenceEndpoint, recorded: Recorded, *, default: str) -> str:
    """Return the engine's image: the user's, else the recorded one while the spec is unchanged.

    An operator upgrade with another default must not roll engines that nobody touched. The
    Deployment has spec and image from one write; where somebody deleted it, the status counts.
    """
    if endpoint.spec.engine.image:
        return endpoint.spec.engine.image
    if recorded.annotations is None:
        unchanged = recorded.status.get("observedGeneration") == endpoint.generation
        image = recorded.status.get("image")
    else:
        unchanged = recorded.annotations.get(names.SPEC_HASH) == spec_hash(endpoint.spec)
        image = recorded.annotations.get(names.DEFAULT_IMAGE)
    return (image if unchanged else None) or default


def records(spec: InferenceEndpointSpec, inputs: Inputs) -> dict[str, str]:
    """Return the annotations by which the next reconcile knows this one."""
    chosen = {} if spec.engine.image else {names.DEFAULT_IMAGE: inputs.image}
    template = inputs.chat_template
    referenced = {} if template is None else {names.REFERENCED_HASH: digest(template)}
    return {names.SPEC_HASH: spec_hash(spec), **chosen, **referenced}


def spec_hash(spec: InferenceEndpointSpec) -> str:
    """Return a digest of what the user set, apart from how many replicas run.

    Neither scaling nor suspending is a change that may bring a new default image, nor is another
    policy at the gateway; fields at their defaults don't count, so that a new version of the API
    with more fields doesn't look like one.
    """
    return digest(spec.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_OF_PODS))
