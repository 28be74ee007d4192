"""What a diagnosis says: the causes by their stable names, and the form of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Object = dict[str, Any]

INSUFFICIENT_GPU: Final = "InsufficientGpu"
ROLLOUT_WAITING_FOR_GPU: Final = "RolloutWaitingForGpu"
UNSCHEDULABLE: Final = "Unschedulable"
QUOTA_EXCEEDED: Final = "QuotaExceeded"
REFUSED_BY_CLUSTER: Final = "RefusedByCluster"
UNSUPPORTED_BY_CLUSTER: Final = "UnsupportedByCluster"
ROLLOUT_PAUSED: Final = "RolloutPaused"
NODE_LOST: Final = "NodeLost"
EVICTED: Final = "Evicted"

IMAGE_PULL_FAILED: Final = "ImagePullFailed"
IMAGE_UNUSABLE: Final = "ImageUnusable"
VOLUME_FAILED: Final = "VolumeFailed"
VOLUME_FULL: Final = "VolumeFull"
CONFIGURATION_MISSING: Final = "ConfigurationMissing"
POD_START_FAILED: Final = "PodStartFailed"

MODEL_UNAUTHORIZED: Final = "ModelUnauthorized"
MODEL_NOT_FOUND: Final = "ModelNotFound"
MODEL_UNREACHABLE: Final = "ModelUnreachable"
MODEL_UNUSABLE: Final = "ModelUnusable"
GPU_UNUSABLE: Final = "GpuUnusable"
OUT_OF_GPU_MEMORY: Final = "OutOfGpuMemory"
OUT_OF_MEMORY: Final = "OutOfMemory"
BAD_ENGINE_ARGUMENT: Final = "BadEngineArgument"
STARTUP_TIMEOUT: Final = "StartupTimeout"
CRASH_LOOP: Final = "CrashLoop"
ENGINE_ENDED: Final = "EngineEnded"

MENDING_ITSELF: Final = frozenset(
    {
        INSUFFICIENT_GPU,
        ROLLOUT_WAITING_FOR_GPU,
        UNSCHEDULABLE,
        QUOTA_EXCEEDED,
        ROLLOUT_PAUSED,
        NODE_LOST,
        EVICTED,
        VOLUME_FAILED,
        POD_START_FAILED,
        MODEL_UNREACHABLE,
        ENGINE_ENDED,
    }
)
"""Causes that may pass without anybody changing the endpoint or what it refers to (ADR 0012)."""


@dataclass(frozen=True)
class Cause:
    """Why no pod gets further: a stable reason, and in words what it is and what to do.

    ``passing``: it may be over by itself although its reason mostly is not.
    """

    reason: str
    message: str
    passing: bool = False

    @property
    def lasting(self) -> bool:
        """Whether somebody has to change something before it can work."""
        return not self.passing and self.reason not in MENDING_ITSELF


@dataclass(frozen=True)
class Diagnosis:
    """What is known of an endpoint's pods.

    ``cause``: what is wrong; None where nothing is known to be.
    ``started``: whether an engine of the current spec was started, be it that it ended again.
    ``ask``: the pod whose Warning events would tell more; call again with them, once.
    ``again_after``: seconds after which time alone could change the answer.
    """

    cause: Cause | None = None
    started: bool = False
    ask: Object | None = None
    again_after: float | None = None
