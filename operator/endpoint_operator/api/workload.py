"""What each replica runs on, and how replicas are replaced. Part of ``v1alpha1``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from endpoint_operator.api import options, rules, values
from endpoint_operator.api.fields import Quantity, Strict

Strategy = Literal["Surge", "Replace"]

PRODUCT_VENDORS: Final = ("nvidia.com/", "amd.com/", "gpu.intel.com/")
"""Vendors whose resources say by which label nodes name their GPU's product."""


class GpuSpec(Strict):
    """Which accelerators each replica gets."""

    count: int = Field(
        default=1,
        ge=0,
        le=options.MOST_GPUS,
        description="GPUs per replica; 0 runs on the CPU. More than one sets"
        " tensor-parallel-size, unless engine.config or engine.args sets a parallel size.",
    )
    resource: Annotated[
        str,
        Field(max_length=128),
        rules.matches(
            "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            "write the name of a device plugin's resource, such as nvidia.com/gpu",
        ),
    ] = Field(
        default="nvidia.com/gpu",
        description="Resource that is a GPU, as the vendor's device plugin names it, such as"
        " amd.com/gpu or nvidia.com/mig-1g.10gb.",
    )
    products: Annotated[
        list[
            Annotated[
                str,
                Field(max_length=63),
                rules.matches(
                    "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
                    "write the value of a node's label, such as NVIDIA-L4",
                ),
            ]
        ],
        Field(max_length=32),
    ] = Field(
        default=[],
        description="GPU products that will do, as the vendor's node labels name them, such as"
        " NVIDIA-L4. Default: any.",
    )


PRODUCTS_HAVE_A_LABEL: Final = rules.Rule(
    "!has(self.products) || size(self.products) == 0 || "
    + " || ".join(f"self.resource.startsWith('{vendor}')" for vendor in PRODUCT_VENDORS),
    lambda gpu: not gpu.products or gpu.resource.startswith(PRODUCT_VENDORS),
    f"are known for resources of {', '.join(PRODUCT_VENDORS)} only; remove them, and choose nodes"
    " by spec.podTemplate.spec.affinity",
    "products",
)


class Quantities(Strict):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = Field(default=None, description="CPUs, such as 4 or 500m.")
    memory: Quantity | None = Field(default=None, description="Bytes of memory, such as 16Gi.")


class ResourcesSpec(Strict):
    """What each replica's container asks for, as in a pod; the operator adds /dev/shm's size."""

    requests: Quantities = Field(default=Quantities(), description="What is reserved.")
    limits: Quantities = Field(default=Quantities(), description="What must not be exceeded.")


def _within_limits(resources: ResourcesSpec) -> bool:
    pairs = (
        (resources.requests.cpu, resources.limits.cpu),
        (resources.requests.memory, resources.limits.memory),
    )
    return all(values.amount(low) <= values.amount(high) for low, high in pairs if low and high)


REQUESTS_WITHIN_LIMITS: Final = rules.Rule(
    " && ".join(
        f"(!has(self.requests) || !has(self.requests.{name}) || !has(self.limits)"
        f" || !has(self.limits.{name}) || !isQuantity(string(self.requests.{name}))"
        f" || !isQuantity(string(self.limits.{name})) || quantity(string(self.requests.{name}))"
        f".compareTo(quantity(string(self.limits.{name}))) <= 0)"
        for name in ("cpu", "memory")
    ),
    _within_limits,
    "requests exceed limits; lower the request or raise the limit",
)


class RolloutSpec(Strict):
    """How replicas of an old spec are replaced."""

    strategy: Strategy | None = Field(
        default=None,
        description="Surge starts a new replica before an old one stops, which needs free GPUs;"
        " Replace stops one first. Default: Surge without a cache or with one of accessMode"
        " ReadWriteMany, else Replace, also with claimName, of which that is not known.",
    )
