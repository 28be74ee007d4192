"""What a container's status says: its image, its configuration, how its last run ended."""

from __future__ import annotations

import re
from typing import Final

from endpoint_operator.diagnosis import termination
from endpoint_operator.diagnosis.causes import (
    CONFIGURATION_MISSING,
    CRASH_LOOP,
    ENGINE_ENDED,
    GPU_UNUSABLE,
    IMAGE_PULL_FAILED,
    IMAGE_UNUSABLE,
    OUT_OF_MEMORY,
    POD_START_FAILED,
    STARTUP_TIMEOUT,
    Cause,
)
from endpoint_operator.diagnosis.pods import Container, Pod, Template
from endpoint_operator.diagnosis.quote import quote, sentence

IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
        "RegistryUnavailable", "SignatureValidationFailed", "ImageInspectError",
    }
)  # fmt: skip
CREATION_REASONS: Final = frozenset({"CreateContainerError", "RunContainerError"})
SIGKILLED: Final = 137
START_REASONS: Final = frozenset({"StartError", "ContainerCannotRun"})

_BACK_OFF: Final = re.compile(r"^Back-off pulling image \"[^\"]*\"(?:: )?")
_RETRY: Final = re.compile(r"^(?:ErrImagePull|ImagePullBackOff|RegistryUnavailable)(?:: )?")
_SOCKET: Final = re.compile(r"\b(?:read|write|dial) (?:tcp|udp) [\d.:\[\]a-f]+->")
_ABSENT: Final = re.compile(r"not found|couldn't find key|non-existent")
_BUSY: Final = re.compile(
    r"\b(?:429|50[0-4]) [A-Z]|toomanyrequests|timeout|deadline exceeded|connection re(?:fused|set)"
    r"|\bEOF\b|network is unreachable|no route to host|server misbehaving"
)
"""The registry is overloaded or away, which passes."""

STARTS: Final = (
    termination.sign(
        GPU_UNUSABLE,
        "The node can't give the engine its GPUs",
        "Its driver must work, and be new enough for spec.engine.image.",
        r"nvidia-container-cli: .+?(?=: unknown$|$)",
        r"unresolvable CDI devices .+?(?=: unknown$|$)",
    ),
    termination.sign(
        POD_START_FAILED,
        "The node is too slow to make a container",
        "It tries again; where that goes on, its container runtime must be restarted.",
        r"failed to reserve container name",
        r"context deadline exceeded",
    ),
    termination.sign(
        IMAGE_UNUSABLE,
        "The image can't be started",
        "spec.engine.image must be an image of vLLM for the nodes' architecture.",
        r"exec(?:utable file)?\b.*(?:not found|[Nn]o such file|format error|denied).*",
    ),
)
"""Why a container runtime makes or starts no container: containerd's, CRI-O's, NVIDIA's words."""


def cause_in(pod: Pod, template: Template) -> Cause | None:
    """Return what is wrong with the first container of a pod that has something wrong."""
    found = (_cause_of(container, template) for container in pod.containers)
    return next((cause for cause in found if cause), None)


def _cause_of(container: Container, template: Template) -> Cause | None:
    waiting = container.waiting
    reason, said = waiting.get("reason", ""), waiting.get("message", "")
    if reason in IMAGE_REASONS:
        return _image(container, reason, said)
    if reason == "CreateContainerConfigError":
        return _configuration(said)
    if container.ended.get("reason") in START_REASONS:
        return _creation(container, container.ended.get("message", ""))
    if reason in CREATION_REASONS:
        return _creation(container, said)
    if container.ended and not container.status.get("ready"):
        return _ending(container, template)
    return None


def _image(container: Container, reason: str, said: str) -> Cause:
    detail = _SOCKET.sub("", _RETRY.sub("", _BACK_OFF.sub("", said)))
    place = (
        "spec.engine.image (and oci:// in spec.model.source)"
        if container.is_engine
        else f"the image of container {container.name} in spec.podTemplate"
    )
    return Cause(
        IMAGE_PULL_FAILED,
        f"An image can't be pulled: {sentence(detail or reason)} Check {place}; a private registry"
        " needs a pull secret in spec.podTemplate or in the chart's engine.imagePullSecrets.",
        passing=reason == "RegistryUnavailable" or bool(_BUSY.search(said)),
    )


def _configuration(said: str) -> Cause:
    if _ABSENT.search(said):
        return Cause(
            CONFIGURATION_MISSING,
            f"The spec names something that is not there: {sentence(said)}"
            " Create it, or correct the name in the spec.",
        )
    return Cause(POD_START_FAILED, f"The node refuses to make a container: {sentence(said)}")


def _creation(container: Container, said: str) -> Cause:
    known = termination.explain(said, STARTS)
    if known and container.is_engine:
        return known
    reason = known.reason if known else POD_START_FAILED
    return Cause(reason, f"{_named(container)} can't be started: {sentence(said)}")


def _named(container: Container) -> str:
    if container.is_engine:
        return "The engine"
    return f"Container {container.name} of spec.podTemplate"


def _ending(container: Container, template: Template) -> Cause:
    """Return why a container's last run ended; it is being started again, and again."""
    ended = container.ended
    if ended.get("reason") == "OOMKilled":
        return _out_of_memory(container, template)
    if not container.is_engine:
        return Cause(
            CRASH_LOOP,
            f"{_named(container)} ends {_how(container)} and is started again:"
            f" kubectl logs POD -c {container.name} --previous.",
        )
    if container.was_ready:
        # its log may have prompts in it: nothing of it is read
        return Cause(
            ENGINE_ENDED,
            f"The engine ended {_how(container)} after it had been ready, and is started again."
            " Its log says why: kubectl logs POD -c engine --previous.",
        )
    known = termination.explain(ended.get("message", ""), quoted=not template.expands)
    return known or _unexplained(container, template)


def _unexplained(container: Container, template: Template) -> Cause:
    if container.ran_seconds >= template.startup_seconds:
        return Cause(
            STARTUP_TIMEOUT,
            "The engine was not up within spec.startupTimeout, was ended and is started again."
            " Raise spec.startupTimeout; where the download takes the time, keep the model in a"
            " volume (spec.model.cache).",
        )
    said = "" if template.expands else termination.error(container.ended.get("message", ""))
    return Cause(
        CRASH_LOOP,
        f"The engine ends {_how(container)} before it is up, and is started again"
        + (f": {quote(said).rstrip('.')}" if said else "")
        + ". Its log has more: kubectl logs POD -c engine --previous.",
    )


def _how(container: Container) -> str:
    code = container.ended.get("exitCode", 0)
    killed = " (killed: mostly its node ran out of memory)" if code == SIGKILLED else ""
    return f"with exit code {code}{killed}"


def _out_of_memory(container: Container, template: Template) -> Cause:
    limit = template.memory_limit(container.name)
    raised = "spec.resources.requests.memory and spec.resources.limits.memory, or choose a smaller"
    return Cause(
        OUT_OF_MEMORY,
        f"{_named(container)} used more memory (RAM, not the GPU's) than"
        + (f" its limit of {limit}, /dev/shm included" if limit else " its node had")
        + f". Raise {f'{raised} model' if container.is_engine else 'its resources there'}.",
        passing=container.was_ready,
    )
