"""The partial pod template that is merged over the operator's: what of it is the operator's.

Part of ``v1alpha1``. A pod template is Kubernetes' own, so these models know only what must not be
set, and the lists that are merged by name, whose items must have one; everything else is passed
on, and the API server judges it when the Deployment is applied.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, JsonValue
from pydantic_core import CoreSchema, core_schema

from endpoint_operator import names
from endpoint_operator.api import rules
from endpoint_operator.api.fields import Partial, Strict

ENGINE: Final = "engine"
"""The name of the container that runs vLLM."""

ENGINE_KEY_VARIABLE: Final = "VLLM_API_KEY"
ENGINE_KEY_IS_OWNED: Final = (
    f"{ENGINE_KEY_VARIABLE} is set by the operator, which makes the engine's own key; remove it,"
    " and give clients keys with ApiKey objects"
)

_OWNED_LABELS: Final = (names.APP_NAME, names.APP_INSTANCE, names.MANAGED_BY)
_OWNED_PREFIX: Final = f"{names.GROUP}/"

Text = Annotated[str, Field(max_length=4096)]
Item = dict[str, JsonValue]


def _is_free(key: str) -> bool:
    return key not in _OWNED_LABELS and not key.startswith((_OWNED_PREFIX, "$"))


_KEYS_ARE_FREE: Final = rules.Rule(
    f"self.all(key, !key.startsWith('{_OWNED_PREFIX}') && !key.startsWith('$')"
    f" && !(key in [{', '.join(repr(label) for label in _OWNED_LABELS)}]))",
    lambda keys: all(map(_is_free, keys)),
    f"{', '.join(_OWNED_LABELS)} and what begins with {_OWNED_PREFIX} are the operator's, which"
    " finds its pods by them; choose other keys",
)
Keys = Annotated[
    dict[str, Text], Field(max_length=64, description="Merged by key."), _KEYS_ARE_FREE
]


class Metadata(Strict):
    """What pods may have of their own besides the spec."""

    labels: Keys = Field(default={}, description="Further labels of the pods.")
    annotations: Keys = Field(default={}, description="Further annotations of the pods.")
    name: Annotated[Text, rules.forbidden("pods are named by their Deployment; remove it")] = Field(
        default="", description="Owned by the operator and refused."
    )
    namespace: Annotated[
        Text, rules.forbidden("pods are in the endpoint's namespace; remove it")
    ] = Field(default="", description="Owned by the operator and refused.")


def _has_no_directive(model: Partial) -> bool:
    return not any(field.startswith("$") for field in model.model_extra or ())


_NO_DIRECTIVE: Final = rules.Rule(
    "",
    _has_no_directive,
    "has a directive, which could take away what the operator needs here; write only what is to"
    " be added or changed",
)


_KEEPS_ITS_LIST: Final = rules.Rule(
    "",
    lambda item: (item.model_extra or {}).get("$patch") != "replace",
    "replaces the whole list, and what the operator needs in it; write only what is to be added or"
    " changed",
)


class Named(Partial):
    """An item of a list that is merged by name."""

    name: str = Field(max_length=253, description="By which the item is merged.")


class Mount(Partial):
    """An item of a container's volumeMounts."""

    mount_path: Text = Field(description="By which the item is merged.")


class Container(Named):
    """A container: the engine's, or one beside it."""

    image: Text | None = Field(default=None, description="The image; the engine's is refused.")
    command: Annotated[list[Text], Field(max_length=128)] | None = Field(
        default=None, description="The program; the engine's is refused."
    )
    args: Annotated[list[Text], Field(max_length=128)] | None = Field(
        default=None, description="Arguments of the program; the engine's are refused."
    )
    ports: Annotated[list[Item], Field(max_length=64)] | None = Field(
        default=None, description="Ports; the engine's are refused."
    )
    env: Annotated[list[Annotated[Named, _KEEPS_ITS_LIST]], Field(max_length=128)] = Field(
        default=[], description="Environment variables, merged by name."
    )
    volume_mounts: Annotated[list[Annotated[Mount, _KEEPS_ITS_LIST]], Field(max_length=64)] = Field(
        default=[], description="Mounts of volumes, merged by mountPath."
    )


def _unset(field: str, remedy: str) -> rules.Rule:
    return rules.Rule(
        f"self.name != '{ENGINE}' || !has(self.{field})",
        lambda container: container.name != ENGINE or getattr(container, field) is None,
        f"is the operator's on container {ENGINE}: {remedy}",
        field,
    )


_ENGINE_RULES: Final = rules.Together(
    _NO_DIRECTIVE,
    _unset("image", "use spec.engine.image"),
    _unset("command", "vllm serve is run; use spec.engine.args for its options"),
    _unset("args", "use spec.engine.args"),
    _unset("ports", "the gateway must reach the engine; remove it"),
    rules.Rule(
        f"self.name != '{ENGINE}' || !has(self.env)"
        f" || self.env.all(e, e.name != '{ENGINE_KEY_VARIABLE}')",
        lambda container: (
            container.name != ENGINE
            or all(variable.name != ENGINE_KEY_VARIABLE for variable in container.env)
        ),
        ENGINE_KEY_IS_OWNED,
        "env",
    ),
)
Containers = Annotated[
    list[Annotated[Container, _ENGINE_RULES]], Field(max_length=16), rules.UNIQUE_NAMES
]


class PodSpec(Partial):
    """The spec of a pod."""

    containers: Containers = Field(
        default=[], description="Containers, merged by name; the engine's is called engine."
    )
    init_containers: Annotated[list[Container], Field(max_length=16), rules.UNIQUE_NAMES] = Field(
        default=[], description="Containers that run before, merged by name."
    )
    volumes: Annotated[list[Named], Field(max_length=64), rules.UNIQUE_NAMES] = Field(
        default=[], description="Volumes, merged by name."
    )
    restart_policy: Annotated[
        Text, rules.forbidden("a Deployment's pods are always restarted; remove it")
    ] = Field(default="", description="Owned by the operator and refused.")


class PodTemplateSpec(Strict):
    """A partial pod template."""

    metadata: Metadata = Field(default=Metadata(), description="Labels and annotations.")
    spec: Annotated[PodSpec, _NO_DIRECTIVE] = Field(
        default=PodSpec(), description="The spec of a pod."
    )


class _Checked:
    """Marks a map that must be a partial pod template, and stays a map as it was written."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def check(value: Any, validate: Any) -> Any:
            validate(rules.SHALLOW.check(value))
            return value

        template = handler.generate_schema(PodTemplateSpec)
        as_it_is = core_schema.simple_ser_schema("any")
        return core_schema.no_info_wrap_validator_function(check, template, serialization=as_it_is)


PodTemplate = Annotated[Item, _Checked()]


def engine_variables(template: Item) -> set[str]:
    """Return the names of the variables that a valid template gives the engine."""
    spec: Any = template.get("spec", {})
    return {
        variable["name"]
        for container in spec.get("containers", ())
        if container["name"] == ENGINE
        for variable in container.get("env", ())
    }
