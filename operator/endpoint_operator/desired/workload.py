"""The Deployment and what protects it: pods, rollout, probes, and the budget for stopping.

What the stock image needs as a non-root user on a read-only root: HOME, USER and LOGNAME, since
older images have no passwd entry for the user; a writable place for every cache (see ``vllm``);
/tmp for sockets and compiled code; and /dev/shm for the shared memory of the engine's processes,
which Docker users get with ``--ipc=host``. Nothing in it needs a capability or a privileged port.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from endpoint_operator import names
from endpoint_operator.api import values
from endpoint_operator.api.v1alpha1 import InferenceEndpoint, InferenceEndpointSpec, Quantities
from endpoint_operator.desired import merging, placement, sources, storage, vllm
from endpoint_operator.desired.canonical import canonical
from endpoint_operator.desired.digests import digest
from endpoint_operator.desired.files import DIRECTORY, Files
from endpoint_operator.desired.inputs import Inputs
from endpoint_operator.desired.records import records
from endpoint_operator.desired.render import render
from endpoint_operator.errors import Fault, InvalidObjectError

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

POD_TEMPLATE: Final = "spec.podTemplate"

Object = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """How long starting and stopping may take, in seconds."""

    startup_failures: int
    progress_deadline: int
    grace_period: int


@dataclass(frozen=True)
class Rollout:
    """How many pods may exist beyond the number wanted, and how many may be missing from it."""

    surge: int
    unavailable: int


ROLLOUTS: Final = {"Surge": Rollout(1, 0), "Replace": Rollout(0, 1)}


@dataclass(frozen=True)
class Content:
    """The objects that the pods read, by their names, and the files in one of them."""

    config_name: str
    secret_name: str
    files: Files


def deployment(endpoint: InferenceEndpoint, inputs: Inputs, content: Content) -> Object:
    """Return the Deployment, with ``spec.replicas``, and the user's pod template merged in.

    Raises InvalidObjectError where that template can't be merged.
    """
    rendered = render(
        "deployment",
        name=names.engine_name(endpoint.name),
        namespace=endpoint.namespace,
        selector=names.selector_labels(endpoint.name),
        labels=names.child_labels(endpoint.name),
        container=names.ENGINE_CONTAINER,
        annotations=records(endpoint.spec, inputs),
        **_pod(endpoint, inputs, content),
        **_numbers(endpoint.spec),
    )
    template = _finished(rendered["spec"]["template"], endpoint)
    return rendered | {"spec": rendered["spec"] | {"template": template}}


def disruption_budgets(endpoint: InferenceEndpoint) -> list[Object]:
    """Return the PodDisruptionBudget, where there is a replica that can be spared."""
    if endpoint.spec.replicas <= 1:
        return []
    rendered = render(
        "disruption-budget",
        name=names.engine_name(endpoint.name),
        namespace=endpoint.namespace,
        selector=names.selector_labels(endpoint.name),
    )
    return [rendered]


def _pod(endpoint: InferenceEndpoint, inputs: Inputs, content: Content) -> dict[str, Any]:
    spec, defaults = endpoint.spec, inputs.defaults
    volumes = sources.volumes(spec.model)
    return {
        "image": inputs.image,
        "command": vllm.COMMAND,
        "arguments": vllm.arguments(endpoint, content.files),
        "environment": vllm.environment(endpoint, content.files, key_secret=content.secret_name),
        "environment_sources": vllm.environment_sources(spec),
        "config_name": content.config_name,
        "config_directory": DIRECTORY,
        "home": vllm.HOME,
        "cache": vllm.CACHE,
        "cache_volume": storage.cache_volume(endpoint),
        "source_volumes": [volume.as_volume() for volume in volumes],
        "source_mounts": [volume.as_mount() for volume in volumes],
        "user": USER_ID,
        # a claim's files belong to root until the kubelet gives them to a group of the pod
        "fs_group": USER_ID if storage.claim_name(endpoint) else None,
        "pull_secrets": [{"name": name} for name in defaults.pull_secrets],
        "node_selector": defaults.node_selector,
        "affinity": placement.affinity(spec),
        "tolerations": placement.tolerations(spec.gpu),
    }


def _numbers(spec: InferenceEndpointSpec) -> dict[str, Any]:
    return {
        "replicas": 0 if spec.suspended else spec.replicas,
        "rollout": ROLLOUTS[spec.strategy],
        "budget": budget(spec),
        "resources": resources(spec),
        "shared_memory": f"{shared_memory_bytes(spec.gpu.count) // GIB}Gi",
        "probe_period": PROBE_PERIOD_SECONDS,
        "prestop": PRESTOP_SECONDS,
        "exit": EXIT_SECONDS,
        "port": names.ENGINE_PORT,
    }


def _finished(template: Object, endpoint: InferenceEndpoint) -> Object:
    """Return the pod template with the user's merged in, our labels, and its own digest."""
    if patch := endpoint.spec.pod_template:
        template = _merged(template, patch)
    meta = template["metadata"]
    revision = {names.REVISION: digest(template)}
    return template | {
        "metadata": meta
        | {"labels": meta.get("labels", {}) | names.child_labels(endpoint.name)}
        | {"annotations": meta.get("annotations", {}) | revision}
    }


def _merged(template: Object, patch: Object) -> Object:
    try:
        merged: Object = canonical(merging.merge(template, patch, path=POD_TEMPLATE))
    except merging.PatchError as error:
        raise InvalidObjectError([Fault(error.path, error.message)]) from error
    return merged


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
    shared = shared_memory_bytes(spec.gpu.count)
    gpus = placement.devices(spec.gpu)
    reserved = _amounts(requests, shared)
    if not requests.memory and not limits.memory:
        reserved["memory"] = _enlarged("0Gi", shared)
    both = {"requests": reserved | gpus, "limits": _amounts(limits, shared) | gpus}
    return {kind: amounts for kind, amounts in both.items() if amounts}


def _amounts(quantities: Quantities, shared: int) -> dict[str, str]:
    amounts = {}
    if quantities.cpu:
        amounts["cpu"] = _enlarged(quantities.cpu, 0)
    if quantities.memory:
        amounts["memory"] = _enlarged(quantities.memory, shared)
    return amounts


@lru_cache(1024)  # exact arithmetic takes as long as a template
def _enlarged(quantity: str, by: int) -> str:
    """Return the sum of a quantity and a number, in the quantity's family of units."""
    return values.canonical(values.amount(quantity) + by, binary=quantity.endswith("i"))
