"""The objects users write: InferenceEndpoint and ApiKey, version v1alpha1.

These models are the truth about what is valid; ``crd`` derives the CRDs from them. ``reconcile``
and ``apikeys`` parse with ``parse_endpoint`` and ``parse_api_key``, which report all faults at
once. A field that nothing honours does not exist here. Each part of the spec is in a module of its
own: ``model``, ``engine``, ``workload``, ``podtemplate``, ``access``, ``apikey`` and ``status``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from endpoint_operator import names
from endpoint_operator.api.access import AccessSpec
from endpoint_operator.api.apikey import ApiKeySpec
from endpoint_operator.api.combinations import ADAPTERS_ARE_NOT_THE_ENDPOINT, SPEC_RULES
from endpoint_operator.api.engine import ENGINE_RULES, EngineSpec
from endpoint_operator.api.faults import parse, require
from endpoint_operator.api.fields import Duration, Strict
from endpoint_operator.api.metadata import API_KEY_NAME_RULES, ENDPOINT_NAME_RULES
from endpoint_operator.api.model import MODEL_RULES, ModelSpec
from endpoint_operator.api.podtemplate import PodTemplate
from endpoint_operator.api.rules import between
from endpoint_operator.api.status import ApiKeyStatus, InferenceEndpointStatus
from endpoint_operator.api.workload import (
    PRODUCTS_HAVE_A_LABEL,
    REQUESTS_WITHIN_LIMITS,
    GpuSpec,
    Quantities,
    ResourcesSpec,
    RolloutSpec,
    Strategy,
)

__all__ = [
    "ApiKey",
    "ApiKeySpec",
    "ApiKeyStatus",
    "InferenceEndpoint",
    "InferenceEndpointSpec",
    "InferenceEndpointStatus",
    "Quantities",
    "parse_api_key",
    "parse_endpoint",
]

UNPINNED_IMAGE: Final = "UnpinnedImage"


class InferenceEndpointSpec(Strict):
    """What the user wants of an endpoint."""

    model: Annotated[ModelSpec, MODEL_RULES] = Field(
        description="Which model is served, and under which names."
    )
    engine: Annotated[EngineSpec, ENGINE_RULES] = Field(
        default=EngineSpec(), description="How vLLM is run."
    )
    gpu: Annotated[GpuSpec, PRODUCTS_HAVE_A_LABEL] = Field(
        default=GpuSpec(), description="Accelerators of each replica."
    )
    resources: Annotated[ResourcesSpec, REQUESTS_WITHIN_LIMITS] = Field(
        default=ResourcesSpec(),
        description="CPU and memory of each replica; the size of /dev/shm is added to memory.",
    )
    pod_template: PodTemplate = Field(
        default={},
        description="A partial pod template that is merged strategically over the operator's:"
        " containers, volumes and variables by name. The engine's container is called engine.",
    )
    rollout: RolloutSpec = Field(
        default=RolloutSpec(), description="How replicas of an old spec are replaced."
    )
    replicas: int = Field(
        default=1, ge=0, le=1000, description="How many engines run; also through kubectl scale."
    )
    startup_timeout: Annotated[Duration, between("10s", "24h")] = Field(
        default="30m",
        description="How long an engine may take from its container's start until it is ready.",
    )
    suspended: bool = Field(
        default=False, description="Whether no engine runs for the time being; replicas stays."
    )
    access: AccessSpec = Field(
        default=AccessSpec(),
        description="How clients reach the endpoint through the gateway, and how much they may ask"
        " of it. A change rolls no pods.",
    )

    @property
    def strategy(self) -> Strategy:
        """How replicas are replaced: as the user says, else as the cache allows."""
        cache = self.model.cache
        shared = cache is None or cache.is_shared
        return self.rollout.strategy or ("Surge" if shared else "Replace")

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What is accepted and yet not good: reasons with messages."""
        image = self.engine.image or ""
        if not image.endswith(":latest"):
            return ()
        message = (
            f"spec.engine.image: {image} may be another vLLM at each start of a pod; write a tag"
            " with a version, such as vllm/vllm-openai:v0.33.0"
        )
        return ((UNPINNED_IMAGE, message),)


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


ENDPOINT_SPEC: Final[TypeAdapter[InferenceEndpointSpec]] = TypeAdapter(
    Annotated[InferenceEndpointSpec, SPEC_RULES]
)
API_KEY_SPEC: Final = TypeAdapter(ApiKeySpec)


def parse_endpoint(body: Mapping[str, Any]) -> InferenceEndpoint:
    """Return the endpoint that an object describes. Raises InvalidObjectError with every fault."""
    spec = parse(ENDPOINT_SPEC, body, ENDPOINT_NAME_RULES)
    endpoint = InferenceEndpoint(**_identity(body), spec=spec)
    require([ADAPTERS_ARE_NOT_THE_ENDPOINT], endpoint)
    return endpoint


def parse_api_key(body: Mapping[str, Any]) -> ApiKey:
    """Return the API key that an object describes. Raises InvalidObjectError with every fault."""
    spec = parse(API_KEY_SPEC, body, API_KEY_NAME_RULES)
    return ApiKey(**_identity(body), spec=spec)


def _identity(body: Mapping[str, Any]) -> dict[str, Any]:
    meta = body["metadata"]
    return {key: meta[key] for key in ("namespace", "name", "uid", "generation")}
