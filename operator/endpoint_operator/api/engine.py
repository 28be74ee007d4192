"""How vLLM is run: its image, options, environment, and the time that it gets to stop.

Part of ``v1alpha1``. Which options are the operator's is in ``options``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, WithJsonSchema

from endpoint_operator.api import options, rules
from endpoint_operator.api.fields import DataKey, Duration, ObjectName, Strict
from endpoint_operator.api.podtemplate import ENGINE_KEY_IS_OWNED, ENGINE_KEY_VARIABLE
from endpoint_operator.api.source import IMAGE

OptionName = Annotated[str, AfterValidator(options.check_name)]
OptionValue = Annotated[JsonValue, AfterValidator(options.check_value)]

Argument = Annotated[
    str,
    Field(
        max_length=options.LONGEST_ARGUMENT,
        json_schema_extra={rules.CEL_KEY: options.argument_rules()},
    ),
    AfterValidator(options.check_argument),
]

MOST_ARGUMENTS: Final = 128
MOST_VARIABLES: Final = 128


class ObjectRef(Strict):
    """A ConfigMap or Secret."""

    name: ObjectName = Field(description="Name of the object.")
    optional: bool | None = Field(default=None, description="Whether the pod may start without it.")


class KeySelector(ObjectRef):
    """One value in a ConfigMap or Secret."""

    key: DataKey = Field(description="Key of the value in it.")


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


_VARIABLE_NAME: Final = rules.matches(
    "^[-._A-Za-z][-._A-Za-z0-9]*$",
    "use letters, digits, dashes, dots and underscores, and don't begin with a digit",
)
_NOT_THE_ENGINES_KEY: Final = rules.Rule(
    f"self != '{ENGINE_KEY_VARIABLE}'",
    lambda name: name != ENGINE_KEY_VARIABLE,
    ENGINE_KEY_IS_OWNED,
)


class EnvVar(Strict):
    """One environment variable of the engine, as in a pod."""

    name: Annotated[
        str, Field(max_length=256), rules.Together(_VARIABLE_NAME, _NOT_THE_ENGINES_KEY)
    ] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None, description="Its value."
    )
    value_from: (
        Annotated[
            VariableSource,
            rules.one_of(
                config_map_key_ref="configMapKeyRef",
                secret_key_ref="secretKeyRef",  # noqa: S106 - the name of a field
                field_ref="fieldRef",
                resource_field_ref="resourceFieldRef",
            ),
        ]
        | None
    ) = Field(default=None, description="Where its value comes from, instead of value.")


_ONE_VALUE: Final = rules.Rule(
    "!has(self.value) || !has(self.valueFrom)",
    lambda variable: variable.value is None or variable.value_from is None,
    "has both value and valueFrom; remove one of them",
)


class EnvFromSource(Strict):
    """A ConfigMap or Secret whose values all become variables, as in a pod."""

    prefix: Annotated[str, Field(max_length=128), _VARIABLE_NAME] | None = Field(
        default=None, description="What each variable's name begins with."
    )
    config_map_ref: ObjectRef | None = Field(default=None, description="From a ConfigMap.")
    secret_ref: ObjectRef | None = Field(default=None, description="From a Secret.")


_ONE_OBJECT: Final = rules.one_of(config_map_ref="configMapRef", secret_ref="secretRef")  # noqa: S106 - the name of a field


_KEYS_ONLY_GROW: Final = rules.transition(
    "self >= oldSelf",
    "can't be lowered, for that would put a key of the past in force; leave it or raise it",
)


class EngineSpec(Strict):
    """How vLLM is run."""

    image: Annotated[str, Field(max_length=512), IMAGE] | None = Field(
        default=None,
        description="Container image of vLLM 0.18 or newer, with a tag or digest. Default: the"
        " operator's, recorded in status.image and kept until the spec changes.",
    )
    config: Annotated[
        dict[OptionName, OptionValue],
        BeforeValidator(rules.SHALLOW.check),
        WithJsonSchema(options.schema()),
    ] = Field(
        default={},
        description="vLLM's options by their long names, such as max-model-len, as vLLM's"
        " configuration file takes them.",
    )
    args: Annotated[list[Argument], Field(max_length=MOST_ARGUMENTS)] = Field(
        default=[],
        description="Arguments of vllm serve, as on its command line; they win over config.",
    )
    env: Annotated[
        list[Annotated[EnvVar, _ONE_VALUE]], Field(max_length=MOST_VARIABLES), rules.UNIQUE_NAMES
    ] = Field(default=[], description="Environment variables of the engine.")
    env_from: Annotated[
        list[Annotated[EnvFromSource, _ONE_OBJECT]], Field(max_length=MOST_VARIABLES)
    ] = Field(
        default=[],
        description="ConfigMaps and Secrets whose values all become environment variables.",
    )
    response_role: (
        Annotated[
            str,
            Field(max_length=64),
            rules.matches(
                "^[A-Za-z][A-Za-z0-9_-]*$", "write the name of a role, such as assistant"
            ),
        ]
        | None
    ) = Field(
        default=None, description="Role of the messages that the model writes. Default: assistant."
    )
    drain_timeout: Annotated[Duration, rules.between("0s", "24h")] = Field(
        default="10m",
        description="How long a stopping pod may go on answering the requests it has.",
    )
    key_generation: Annotated[int, _KEYS_ONLY_GROW] = Field(
        default=1,
        ge=1,
        le=1000000,
        description="Raise it to give the engines a new key of their own, without a gap.",
    )

    @property
    def parallel_sizes(self) -> Mapping[str, int]:
        """The parallel sizes that the user set, by their long names; arguments win."""
        return options.parallel_sizes(self.config, self.args)


ENGINE_RULES: Final = rules.Together(
    rules.Rule(
        "",
        lambda engine: options.are_sizes(engine.parallel_sizes.values()),
        f"parallel sizes must be whole numbers from 1 to {options.MOST_GPUS}; correct them",
    ),
    rules.Rule(
        "",
        lambda engine: len(set(map(options.dashed, engine.config))) == len(engine.config),
        "has an option in dash form and in underscore form; remove one of both",
        "config",
    ),
)
