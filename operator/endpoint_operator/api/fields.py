"""What the models of every story are built from: their base, and the types of common fields."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema
from pydantic.alias_generators import to_camel

from endpoint_operator.api import rules

LONGEST_OBJECT_NAME: Final = 253


def _integer_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 24}),
    BeforeValidator(_integer_as_text),
    rules.QUANTITY,
]
Duration = Annotated[str, Field(max_length=24)]
ObjectName = Annotated[str, Field(max_length=LONGEST_OBJECT_NAME), rules.OBJECT_NAME]
DataKey = Annotated[str, Field(max_length=253), rules.DATA_KEY]
FreeObject = Annotated[
    dict[str, JsonValue],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]


class Strict(BaseModel):
    """Base of all models: immutable, no unknown fields, no conversion of types."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class SecretKeyRef(Strict):
    """One value in a Secret of the endpoint's namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(default="token", description="Key of the value in it.")


class ConfigMapKeyRef(Strict):
    """One value in a ConfigMap of the endpoint's namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: DataKey = Field(description="Key of the value in it.")
