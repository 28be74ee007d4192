"""What a client's key may be used for, and for how long. Part of ``v1alpha1``."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from endpoint_operator import names
from endpoint_operator.api import rules, values
from endpoint_operator.api.access import LimitsSpec
from endpoint_operator.api.fields import Duration, ObjectName, Strict

_SCOPE: Final = rules.matches(
    "^([*]|[*]/[*]|[a-z]([-a-z0-9]*[a-z0-9])?)$",
    "write the name of an endpoint in this namespace, * for all of them, or */* for every"
    " endpoint of the cluster",
)
_ROTATION_ID: Final = rules.matches(
    "^[A-Za-z0-9][A-Za-z0-9._:+-]*$",
    "use letters, digits and . _ : + - and begin with a letter or digit",
)


class RotationSpec(Strict):
    """When a key is replaced by a new one."""

    id: Annotated[str, Field(max_length=63), _ROTATION_ID] = Field(
        description="Any text, such as a date; a change of it makes a new key."
    )
    overlap: Annotated[Duration, rules.between("0s", "8760h")] = Field(
        default="24h", description="How long the key before stays valid."
    )


class ApiKeySpec(Strict):
    """What a key may be used for."""

    endpoints: Annotated[
        list[Annotated[str, Field(max_length=names.LONGEST_ENDPOINT_NAME), _SCOPE]],
        Field(min_length=1, max_length=64),
    ] = Field(
        description="Endpoints of this namespace by name, or * for all of them; */* for every"
        " endpoint of the cluster (in the release's namespace only)."
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Name of the Secret that the operator makes, with the key in api-key. Default:"
        " NAME-api-key.",
    )
    expires_at: Annotated[str, Field(max_length=64), rules.DATE_TIME] | None = Field(
        default=None,
        description="When the key ends, such as 2027-01-01T00:00:00Z. Default: never.",
    )
    suspended: bool = Field(
        default=False, description="Whether the gateway refuses the key for the time being."
    )
    rotation: RotationSpec | None = Field(
        default=None, description="Replaces the key by a new one, without a gap."
    )
    limits: LimitsSpec = Field(
        default=LimitsSpec(),
        description="How much may be asked for with the key, of all its endpoints together."
        " Default: no limit.",
    )

    @property
    def expires(self) -> float | None:
        """When the key ends, in seconds since 1970; None if it does not."""
        return values.since_1970(self.expires_at) if self.expires_at else None
