"""What the API server says when it refuses a pod or another object, as a cause."""

from __future__ import annotations

import re
from typing import Final

from endpoint_operator.diagnosis.causes import (
    QUOTA_EXCEEDED,
    REFUSED_BY_CLUSTER,
    UNSUPPORTED_BY_CLUSTER,
    Cause,
)
from endpoint_operator.diagnosis.quote import quote, sentence

_SUBJECT: Final = re.compile(r"^[\w.]+ \"[^\"]*\" is (?:forbidden|invalid): ")
"""Names the object, for a pod another one at each try."""

_IMAGE_VOLUME: Final = re.compile(r"volumes\[\d+\]: Required value: must specify a volume type")
"""A field of a volume that the API server dropped because a feature is off."""


_NO_SUCH_FIELD: Final = re.compile(r"(?s)^failed to create typed patch object \([^)]*\): (.*)")
"""Of fields that our API passes on without knowing them: those of ``spec.podTemplate`` mostly."""

_PASSING: Final = re.compile(r"failed calling webhook|^Internal error occurred")
"""What was asked had no answer, so that it is not the object which is refused."""


def refusal(message: str) -> Cause:
    """Return why the API server refused an object, from the message of its answer."""
    said = _SUBJECT.sub("", message)
    if "exceeded quota" in said or "failed quota" in said:
        return Cause(
            QUOTA_EXCEEDED,
            f"A ResourceQuota of the namespace does not allow it: {sentence(said)}"
            " Free some of it, ask for less, or have the quota raised.",
        )
    if _IMAGE_VOLUME.search(said):
        return Cause(
            UNSUPPORTED_BY_CLUSTER,
            "The cluster has no image volumes, which oci:// needs (feature gate ImageVolume):"
            " enable them, or take the model from another source.",
        )
    if found := _NO_SUCH_FIELD.search(said):
        return Cause(
            REFUSED_BY_CLUSTER,
            "Kubernetes knows no such field, or no such value of it:"
            f" {sentence(found[1])} Correct spec.podTemplate.",
        )
    if "must support resize" in said:
        return Cause(
            REFUSED_BY_CLUSTER,
            "The storage class can't enlarge the claim of the cache: set spec.model.cache.size back"
            " to what it has, or name another claim.",
        )
    passing = bool(_PASSING.search(said))
    return Cause(REFUSED_BY_CLUSTER, f"The API server refuses it: {quote(said)}", passing)
