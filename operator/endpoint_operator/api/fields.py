"""What the models of every story are built from: their bases, and the types of common fields."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from endpoint_operator.api import rules

LONGEST_OBJECT_NAME: Final = 253
LONGEST_SERVED_NAME: Final = 256


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

SERVED_NAME: Final = rules.matches(
    "^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$",
    "use letters, digits and . _ : / @ + - and begin with a letter or digit",
)
ServedName = Annotated[str, Field(max_length=LONGEST_SERVED_NAME), SERVED_NAME]


class Strict(BaseModel):
    """Base of our models: immutable, no unknown fields, no conversion of types."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class Partial(Strict):
    """Base of models that know some fields of another API's object and leave the rest to it."""

    model_config = ConfigDict(extra="allow")


class ConfigMapKeyRef(Strict):
    """One value in a ConfigMap of the endpoint's namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: DataKey = Field(description="Key of the value in it.")
