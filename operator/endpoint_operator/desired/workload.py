"""The numbers of the Deployment: resources, probes, and the budget for stopping.

What the stock image needs as a non-root user on a read-only root: HOME, USER and LOGNAME, since
older images have no passwd entry for the user; a writable place for every cache (see ``vllm``);
/tmp for sockets and compiled code; and /dev/shm for the shared memory of the engine's processes,
which Docker users get with ``--ipc=host``. Nothing in it needs a capability or a privileged port.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from endpoint_operator.api import values
from endpoint_operator.api.v1alpha1 import InferenceEndpointSpec, Quantities

GPU_RESOURCE: Final = "nvidia.com/gpu"
GIB: Final = 2**30

USER_ID: Final = 2000
"""The user ``vllm`` of newer stock images, in group 0, to which they give their files."""

PRESTOP_SECONDS: Final = 5
"""Time for every gateway to hear that the pod is going, before vLLM stops taking requests."""

EXIT_SECONDS: Final = 30
"""Time for vLLM to tear its workers down after the drain (4 s were seen with a tiny model)."""

PROBE_PERIOD_SECONDS: Final = 5
SCHEDULING_SECONDS: Final = 600
"""Allowance for finding a node and pulling an image of some 10 GB, before the container starts."""


@dataclass(frozen=True)
class Budget:
    """How long starting and stopping may take, in seconds."""

    startup_failures: int
    progress_deadline: int
    grace_period: int


def budget(spec: InferenceEndpointSpec) -> Budget:
    """Return the budgets that follow from startupTimeout and drainTimeout."""
    startup = values.seconds(spec.startup_timeout)
    drain = values.seconds(spec.engine.drain_timeout)
    return Budget(
        startup_failures=-(-startup // PROBE_PERIOD_SECONDS),
        progress_deadline=startup + SCHEDULING_SECONDS,
        grace_period=PRESTOP_SECONDS + drain + EXIT_SECONDS,
    )


def shared_memory_bytes(gpus: int) -> int:
    """Return the size of /dev/shm: one GiB per GPU, and one at least.

    vLLM's workers and NCCL pass messages and tensors through it; a replica on one GPU or on the
    CPU uses some 100 MiB.
    """
    return max(1, gpus) * GIB


def resources(spec: InferenceEndpointSpec) -> dict[str, dict[str, str]]:
    """Return the container's requests and limits.

    /dev/shm counts as the container's memory, so its size is added where memory is given. Where
    none is given at all, the request is /dev/shm's size: what is known to be needed.
    """
    requests, limits = spec.resources.requests, spec.resources.limits
    shared = Fraction(shared_memory_bytes(spec.gpu.count))
    gpus = {GPU_RESOURCE: str(spec.gpu.count)} if spec.gpu.count else {}
    reserved = _amounts(requests, shared)
    if not requests.memory and not limits.memory:
        reserved["memory"] = values.canonical(shared, binary=True)
    both = {"requests": reserved | gpus, "limits": _amounts(limits, shared) | gpus}
    return {kind: amounts for kind, amounts in both.items() if amounts}


def _amounts(quantities: Quantities, shared: Fraction) -> dict[str, str]:
    amounts = {}
    if quantities.cpu:
        amounts["cpu"] = values.canonical_quantity(quantities.cpu)
    if quantities.memory:
        total = values.amount(quantities.memory) + shared
        amounts["memory"] = values.canonical(total, binary=quantities.memory.endswith("i"))
    return amounts


def tolerations(gpus: int) -> list[dict[str, Any]]:
    """Return the toleration of the taint that keeps other pods off GPU nodes."""
    if not gpus:
        return []
    return [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}]
