"""The objects users write: InferenceEndpoint and ApiKey, version v1alpha1.

These models are the truth about what is valid; ``crd`` derives the CRDs from them. ``reconcile``
and ``apikeys`` parse with ``parse_endpoint`` and ``parse_api_key``, which report all faults at
once. A field that nothing honours does not exist here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from endpoint_operator import names
from endpoint_operator.api import options, rules, values
from endpoint_operator.api.faults import parse

HF: Final = "hf://"
FILE: Final = "file://"


def _integer_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 24}),
    BeforeValidator(_integer_as_text),
    rules.QUANTITY,
]
Duration = Annotated[str, Field(max_length=24)]
OptionName = Annotated[str, AfterValidator(options.check_name)]
OptionValue = Annotated[JsonValue, AfterValidator(options.check_value)]


class Strict(BaseModel):
    """Base of all models: immutable, no unknown fields, no conversion of types."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class ModelSpec(Strict):
    """Which model is served, and under which names."""

    source: Annotated[str, Field(max_length=512), rules.SOURCE] = Field(
        description="Where the weights are: hf://ORG/NAME (a Hugging Face repository, downloaded"
        " at start) or file:///PATH (a folder inside the engine's image)."
    )
    served_names: (
        Annotated[
            list[Annotated[str, Field(max_length=rules.LONGEST_SERVED_NAME), rules.SERVED_NAME]],
            Field(min_length=1, max_length=16),
            rules.UNIQUE,
        ]
        | None
    ) = Field(
        default=None,
        description="Names by which clients call the model; the first is the primary one. Default:"
        " the repository's id, or the last part of the path.",
    )

    @property
    def location(self) -> str:
        """What vLLM gets as its model: a repository's id or an absolute path."""
        return self.source.removeprefix(HF).removeprefix(FILE)

    @property
    def names(self) -> tuple[str, ...]:
        """The served names, of which there is at least one."""
        if self.served_names:
            return tuple(self.served_names)
        if self.source.startswith(HF):
            return (self.location,)
        return (self.location.rstrip("/").rpartition("/")[2],)


class EngineSpec(Strict):
    """How vLLM is run."""

    image: Annotated[str, Field(max_length=512), rules.IMAGE] | None = Field(
        default=None,
        description="Container image of vLLM 0.18 or newer, with a pinned tag. Default: the"
        " operator's, recorded in status.image and kept until the spec changes.",
    )
    config: Annotated[dict[OptionName, OptionValue], WithJsonSchema(options.schema())] = Field(
        default={},
        description="vLLM's options by their long names, such as max-model-len, as vLLM's"
        " configuration file takes them.",
    )
    drain_timeout: Annotated[Duration, rules.between("0s", "24h")] = Field(
        default="10m",
        description="How long a stopping pod may go on answering the requests it has.",
    )


class GpuSpec(Strict):
    """Which accelerators each replica gets."""

    count: int = Field(
        default=1,
        ge=0,
        le=64,
        description="GPUs (nvidia.com/gpu) per replica; 0 runs on the CPU. More than one sets"
        " tensor-parallel-size, unless engine.config sets a parallel size.",
    )


class Quantities(Strict):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = Field(default=None, description="CPUs, such as 4 or 500m.")
    memory: Quantity | None = Field(default=None, description="Bytes of memory, such as 16Gi.")


def _within_limits(resources: ResourcesSpec) -> bool:
    pairs = (
        (resources.requests.cpu, resources.limits.cpu),
        (resources.requests.memory, resources.limits.memory),
    )
    return all(values.amount(low) <= values.amount(high) for low, high in pairs if low and high)


class ResourcesSpec(Strict):
    """What each replica's container asks for, as in a pod; the operator adds /dev/shm's size."""

    requests: Quantities = Field(default=Quantities(), description="What is reserved.")
    limits: Quantities = Field(default=Quantities(), description="What must not be exceeded.")


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


class InferenceEndpointSpec(Strict):
    """What the user wants of an endpoint."""

    model: Annotated[ModelSpec, rules.NAMED] = Field(
        description="Which model is served, and under which names."
    )
    engine: EngineSpec = Field(default=EngineSpec(), description="How vLLM is run.")
    gpu: GpuSpec = Field(default=GpuSpec(), description="Accelerators of each replica.")
    resources: Annotated[ResourcesSpec, REQUESTS_WITHIN_LIMITS] = Field(
        default=ResourcesSpec(),
        description="CPU and memory of each replica; the size of /dev/shm is added to memory.",
    )
    replicas: int = Field(
        default=1, ge=0, le=1000, description="How many engines run; also through kubectl scale."
    )
    startup_timeout: Annotated[Duration, rules.between("10s", "24h")] = Field(
        default="30m",
        description="How long an engine may take from its container's start until it is ready.",
    )


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


class InferenceEndpointStatus(Strict):
    """What the operator found, and what the gateway routes by."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this is about."
    )
    conditions: Conditions = Field(default=[], description="Accepted, Progressing and Ready.")
    url: str = Field(default="", max_length=1024, description="Base URL for OpenAI clients.")
    served_names: list[Annotated[str, Field(max_length=rules.LONGEST_SERVED_NAME)]] = Field(
        default=[], max_length=16, description="Names of the last accepted spec."
    )
    image: str = Field(default="", max_length=512, description="The engine's image.")
    replicas: int | None = Field(default=None, description="Engines that exist.")
    ready_replicas: int | None = Field(default=None, description="Engines that answer.")
    selector: str = Field(default="", max_length=256, description="Label selector of the pods.")


class ApiKeySpec(Strict):
    """What a key may be used for."""

    endpoints: Annotated[
        list[Annotated[str, Field(max_length=names.LONGEST_ENDPOINT_NAME), rules.SCOPE]],
        Field(min_length=1, max_length=64),
    ] = Field(
        description="Endpoints of this namespace by name, or * for all of them; */* for every"
        " endpoint of the cluster (in the release's namespace only)."
    )
    secret_name: Annotated[str, Field(max_length=253), rules.SECRET_NAME] | None = Field(
        default=None,
        description="Name of the Secret that the operator makes, with the key in api-key. Default:"
        " NAME-api-key.",
    )


class ApiKeyStatus(Strict):
    """Whether the key is in force."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this is about."
    )
    conditions: Conditions = Field(default=[], description="Ready.")


@dataclass(frozen=True)
class InferenceEndpoint:
    """A valid endpoint."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: InferenceEndpointSpec


@dataclass(frozen=True)
class ApiKey:
    """A valid API key object; the key itself is in its Secret."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: ApiKeySpec

    @property
    def secret_name(self) -> str:
        """The name of its Secret."""
        return self.spec.secret_name or names.api_key_secret_name(self.name)


def parse_endpoint(body: Mapping[str, Any]) -> InferenceEndpoint:
    """Return the endpoint that an object describes. Raises InvalidObjectError with every fault."""
    spec = parse(InferenceEndpointSpec, body, rules.ENDPOINT_NAME_RULES)
    return InferenceEndpoint(**_identity(body), spec=spec)


def parse_api_key(body: Mapping[str, Any]) -> ApiKey:
    """Return the API key that an object describes. Raises InvalidObjectError with every fault."""
    spec = parse(ApiKeySpec, body, rules.API_KEY_NAME_RULES)
    return ApiKey(**_identity(body), spec=spec)


def _identity(body: Mapping[str, Any]) -> dict[str, Any]:
    meta = body["metadata"]
    return {key: meta[key] for key in ("namespace", "name", "uid", "generation")}
