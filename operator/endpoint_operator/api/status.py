"""What the operator reports of its objects. Part of ``v1alpha1``.

Only the CRDs are made of these models; the status itself is computed and written as plain data.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from endpoint_operator.api.access import (
    LONGEST_HOST,
    MOST_ADDRESSES,
    MOST_ROUTES,
    Balancing,
    LimitsSpec,
    ModelField,
    Route,
)
from endpoint_operator.api.fields import LONGEST_SERVED_NAME, Strict
from endpoint_operator.api.model import MOST_ADAPTERS

Name = Annotated[str, Field(max_length=LONGEST_SERVED_NAME)]


class Condition(Strict):
    """One aspect of the state, in Kubernetes' usual form."""

    type: str = Field(max_length=64, description="Which aspect.")
    status: str = Field(
        description="True, False or Unknown.",
        json_schema_extra={"enum": ["True", "False", "Unknown"]},
    )
    reason: str = Field(max_length=128, description="Why, as one stable CamelCase word.")
    message: str = Field(max_length=4096, description="Why, in words, and what to do about it.")
    last_transition_time: str = Field(
        description="When status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(description="Generation of the spec that this is about.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]


class TimeoutsStatus(Strict):
    """How long the gateway waits for an engine, in seconds."""

    connect_seconds: int | None = Field(default=None, description="Until it is connected.")
    first_byte_seconds: int | None = Field(
        default=None, description="Until the first byte of a stream."
    )
    idle_seconds: int | None = Field(default=None, description="Between two pieces of a stream.")
    total_seconds: int | None = Field(default=None, description="For the whole request.")


class LoadBalancingStatus(Strict):
    """To which replica a request goes."""

    strategy: Balancing | None = Field(default=None, description="How replicas are chosen.")


class AccessStatus(Strict):
    """What the gateway goes by. Nothing here has a default that the API server would fill in."""

    aliases: list[Name] = Field(
        default=[], max_length=MOST_ADDRESSES, description="Further names of the model."
    )
    hosts: list[Annotated[str, Field(max_length=LONGEST_HOST)]] = Field(
        default=[],
        max_length=MOST_ADDRESSES,
        description="Host names that lead to the endpoint, as far as its namespace may have them.",
    )
    model_field: ModelField | None = Field(
        default=None, description="What the field model is where a host or path names the endpoint."
    )
    routes: list[Route] = Field(
        default=[], max_length=MOST_ROUTES, description="Routes that clients may use."
    )
    timeouts: TimeoutsStatus | None = Field(
        default=None, description="How long the gateway waits for an engine."
    )
    limits: LimitsSpec | None = Field(
        default=None, description="How much may be asked of the endpoint."
    )
    load_balancing: LoadBalancingStatus | None = Field(
        default=None, description="How requests are spread over the replicas."
    )


class InferenceEndpointStatus(Strict):
    """What the operator found, and what the gateway routes by."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this is about."
    )
    phase: str = Field(
        default="",
        max_length=32,
        description="The state in one word: Pending, Starting, Ready, Idle, Degraded, Suspended,"
        " Invalid or Failed.",
    )
    conditions: Conditions = Field(
        default=[], description="Accepted, Routed, Progressing and Ready."
    )
    url: str = Field(default="", max_length=1024, description="Base URL for OpenAI clients.")
    served_names: list[Name] = Field(
        default=[], max_length=16, description="Names of the last accepted spec."
    )
    adapters: list[Name] = Field(
        default=[],
        max_length=MOST_ADAPTERS,
        description="Adapters that every running engine serves.",
    )
    engine_names: list[Name] = Field(
        default=[], max_length=16, description="Served names that every running engine knows."
    )
    access: AccessStatus | None = Field(
        default=None,
        description="What the last accepted spec sets in spec.access; the gateway goes by it.",
    )
    engine_keys: list[int] = Field(
        default=[],
        max_length=16,
        description="Generations of the engines' key that running engines may have, newest first.",
    )
    image: str = Field(default="", max_length=512, description="The engine's image.")
    replicas: int | None = Field(default=None, description="Engines that exist.")
    ready_replicas: int | None = Field(default=None, description="Engines that answer.")
    selector: str = Field(default="", max_length=256, description="Label selector of the pods.")


class ApiKeyStatus(Strict):
    """Whether the key is in force."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this is about."
    )
    conditions: Conditions = Field(default=[], description="Ready.")
