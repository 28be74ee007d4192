"""How vLLM is run: its image, options, environment, and the time that it gets to stop.

Part of ``v1alpha1``. Which options and variables are the operator's is in ``options``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, Field, JsonValue, WithJsonSchema

from endpoint_operator.api import options, rules
from endpoint_operator.api.fields import ConfigMapKeyRef, Duration, ObjectName, Strict

OptionName = Annotated[str, AfterValidator(options.check_name)]
OptionValue = Annotated[JsonValue, AfterValidator(options.check_value)]

MOST_ARGUMENTS: Final = 128
MOST_VARIABLES: Final = 128


class KeySelector(ConfigMapKeyRef):
    """One value in a ConfigMap or Secret."""

    optional: bool | None = Field(
        default=None, description="Whether the pod may start without the value."
    )


class FieldSelector(Strict):
    """A field of the pod."""

    api_version: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="Version of the path's schema; v1."
    )
    field_path: Annotated[str, Field(max_length=512)] = Field(
        description="Path of the field, such as status.podIP."
    )


class ResourceSelector(Strict):
    """A container's resource."""

    container_name: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Name of the container. Default: the engine."
    )
    resource: Annotated[str, Field(max_length=128)] = Field(
        description="The resource, such as limits.memory."
    )
    divisor: Annotated[str, Field(max_length=24)] | None = Field(
        default=None, description="Unit of the value, such as 1Mi."
    )


class VariableSource(Strict):
    """Where a variable's value comes from."""

    config_map_key_ref: KeySelector | None = Field(default=None, description="From a ConfigMap.")
    secret_key_ref: KeySelector | None = Field(default=None, description="From a Secret.")
    field_ref: FieldSelector | None = Field(default=None, description="From the pod.")
    resource_field_ref: ResourceSelector | None = Field(
        default=None, description="From a container's resources."
    )


class EnvVar(Strict):
    """One environment variable of the engine, as in a pod."""

    name: Annotated[str, Field(max_length=256)] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None, description="Its value."
    )
    value_from: VariableSource | None = Field(
        default=None, description="Where its value comes from, instead of value."
    )


class EnvFromRef(Strict):
    """A ConfigMap or Secret."""

    name: ObjectName = Field(description="Name of the object.")
    optional: bool | None = Field(
        default=None, description="Whether the pod may start without the object."
    )


class EnvFromSource(Strict):
    """A ConfigMap or Secret whose values all become variables, as in a pod."""

    prefix: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="What each variable's name begins with."
    )
    config_map_ref: EnvFromRef | None = Field(default=None, description="From a ConfigMap.")
    secret_ref: EnvFromRef | None = Field(default=None, description="From a Secret.")


class EngineSpec(Strict):
    """How vLLM is run."""

    image: Annotated[str, Field(max_length=512), rules.IMAGE] | None = Field(
        default=None,
        description="Container image of vLLM 0.18 or newer, with a tag or digest. Default: the"
        " operator's, recorded in status.image and kept until the spec changes.",
    )
    config: Annotated[dict[OptionName, OptionValue], WithJsonSchema(options.schema())] = Field(
        default={},
        description="vLLM's options by their long names, such as max-model-len, as vLLM's"
        " configuration file takes them.",
    )
    args: list[Annotated[str, Field(max_length=4096)]] = Field(
        default=[],
        max_length=MOST_ARGUMENTS,
        description="Arguments of vllm serve, as on its command line; they win over config.",
    )
    env: list[EnvVar] = Field(
        default=[], max_length=MOST_VARIABLES, description="Environment variables of the engine."
    )
    env_from: list[EnvFromSource] = Field(
        default=[],
        max_length=MOST_VARIABLES,
        description="ConfigMaps and Secrets whose values all become environment variables.",
    )
    response_role: Annotated[str, Field(max_length=64), rules.ROLE] | None = Field(
        default=None, description="Role of the messages that the model writes. Default: assistant."
    )
    drain_timeout: Annotated[Duration, rules.between("0s", "24h")] = Field(
        default="10m",
        description="How long a stopping pod may go on answering the requests it has.",
    )
    key_generation: int = Field(
        default=1,
        ge=1,
        le=1000000,
        description="Raise it to give the engines a new key of their own, without a gap.",
    )

    @property
    def parallel_sizes(self) -> Mapping[str, object]:
        """The options that say over how many GPUs the model is spread, where the user set them."""
        return options.parallel_sizes(self.config, self.args)
