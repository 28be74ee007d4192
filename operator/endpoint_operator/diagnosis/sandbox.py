"""Pods that have a node but no container yet: only their Warning events say why.

The kubelet waits for volumes, the Secrets and ConfigMaps in them and the pod's network before it
sets PodReadyToStartContainers; a pod that pulls its image for long has it. So nobody is asked for
the events of a pod that downloads 10 GB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from endpoint_operator.diagnosis.causes import (
    CONFIGURATION_MISSING,
    POD_START_FAILED,
    Cause,
    Diagnosis,
    Object,
)
from endpoint_operator.diagnosis.pods import Pod, seconds_between
from endpoint_operator.diagnosis.quote import sentence
from endpoint_operator.diagnosis.scheduling import Asked, is_in_use, volume_failed

PATIENCE_SECONDS: Final = 15.0
"""How long volumes and network may take before the events are read."""

AGAIN_SECONDS: Final = 60.0
"""How often they are read while the pod stays as it is."""

RECENT_SECONDS: Final = 300.0
"""The kubelet repeats what still is wrong at least every two minutes or so."""

_MISSING: Final = re.compile(
    r"(?:secret|configmap) \"[^\"]+\" not found"
    r"|references non-existent (?:secret|config) key: \S+"
)


def look(
    current: Sequence[Pod], asked: Asked, *, now: str, warnings: Sequence[Object] | None
) -> Diagnosis:
    """Return what keeps the newest pod without containers from having them."""
    pod = next(filter(_has_no_sandbox, current), None)
    if pod is None:
        return Diagnosis()
    waited = seconds_between(pod.condition("PodScheduled").get("lastTransitionTime"), now)
    if waited < PATIENCE_SECONDS:
        return Diagnosis(again_after=PATIENCE_SECONDS - waited)
    if warnings is None:
        return Diagnosis(ask=pod.object, again_after=AGAIN_SECONDS)
    causes = [_cause(each, asked) for each in warnings if _counts(each, now)]
    # several may be true: always name the same one
    known = sorted((each for each in causes if each), key=lambda each: (each.reason, each.message))
    return Diagnosis(known[0] if known else None, again_after=AGAIN_SECONDS)


def _has_no_sandbox(pod: Pod) -> bool:
    scheduled = pod.condition("PodScheduled").get("status") == "True"
    return (
        scheduled
        and not pod.over
        and pod.condition("PodReadyToStartContainers").get("status") == "False"
    )


def _counts(event: Object, now: str) -> bool:
    if is_in_use(_said(event)):
        return True  # that is said once, not again and again
    series = event.get("series") or {}
    last = (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
    )
    return seconds_between(last, now) <= RECENT_SECONDS


def _said(event: Object) -> str:
    return event.get("message") or event.get("note") or ""


def _cause(event: Object, asked: Asked) -> Cause | None:
    said = _said(event)
    match event.get("reason"):
        case "FailedMount" | "FailedAttachVolume" | "FailedMapVolume":
            return _volume(said, asked)
        case "FailedCreatePodSandBox":
            return Cause(
                POD_START_FAILED,
                f"The node can't set up the pod: {sentence(said)}"
                " This is the cluster's (network plugin, container runtime) to mend.",
            )
    return None


def _volume(said: str, asked: Asked) -> Cause:
    if missing := _MISSING.search(said):
        return Cause(
            CONFIGURATION_MISSING,
            f"A volume names something that is not there: {sentence(missing[0])}"
            " Create it, or correct the name in the spec.",
        )
    return volume_failed(f"A volume can't be mounted: {sentence(said)}", asked)
