"""Rules that are checked twice: as CEL by the API server, as Python by the operator.

A rule is annotated on the field it guards and carries one message for both checks, so that a user
reads the same sentence whoever refuses. What a rule needs bounded (for CEL's cost) is bounded by
the field's schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from endpoint_operator import names
from endpoint_operator.api import values

CEL_KEY: Final = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A condition on a valid-looking value; ``message`` says what is wrong and what to do."""

    cel: str
    holds: Callable[[Any], bool]
    message: str

    def as_cel(self) -> dict[str, str]:
        """Return the rule as an entry of x-kubernetes-validations."""
        return {"rule": self.cel, "message": self.message}

    def check(self, value: Any) -> Any:
        """Return the value, or raise the error that pydantic collects."""
        if not self.holds(value):
            raise PydanticCustomError("rule", "{message}", {"message": self.message})
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Run the check after the value's own."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rule to the field's schema."""
        described = handler(schema)
        rules = [*described.get(CEL_KEY, ()), self.as_cel()]
        return described | {CEL_KEY: rules}


def matches(pattern: str, message: str) -> Rule:
    """Return the rule that a string matches a pattern, of RE2's and Python's common subset."""
    compiled = re.compile(pattern)
    # Python's $ also matches before a final newline, RE2's doesn't
    return Rule(
        f"self.matches('{pattern}')",
        lambda value: compiled.search(value) is not None and not value.endswith("\n"),
        message,
    )


def between(shortest: str, longest: str) -> Rule:
    """Return the rule that a string is a duration within both bounds."""
    low, high = values.seconds(shortest), values.seconds(longest)

    def holds(value: str) -> bool:
        try:
            return low <= values.seconds(value) <= high
        except ValueError:
            return False

    return Rule(
        f"self.matches('{values.DURATION_PATTERN}') && duration(self) >= duration('{shortest}')"
        f" && duration(self) <= duration('{longest}')",
        holds,
        f"write a duration from {shortest} to {longest}, such as 90s, 10m or 1h30m",
    )


_DATE: Final = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = "([01][0-9]|2[0-3]):[0-5][0-9]"
_DATE_TIME: Final = f"^{_DATE}T{_TIME}:[0-5][0-9]([.][0-9]{{1,9}})?(Z|[+-]{_TIME})$"


def _is_date_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:  # such as 30 February
        return False
    return re.fullmatch(_DATE_TIME, value) is not None


DATE_TIME: Final = Rule(
    f"self.matches('{_DATE_TIME}')",
    _is_date_time,
    "write a date and time with its zone, such as 2027-01-01T00:00:00Z",
)

UNIQUE: Final = Rule(
    "self.all(x, self.exists_one(y, x == y))",
    lambda items: len(set(items)) == len(items),
    "a name occurs twice; remove the repetition",
)

QUANTITY: Final = Rule(
    f"type(self) == int ? self >= 0 : self.matches('{values.QUANTITY_PATTERN}')",
    lambda value: re.fullmatch(values.QUANTITY_PATTERN, value) is not None,
    "write a quantity such as 500m, 4 or 16Gi",
)

_PATH: Final = "[A-Za-z0-9._/+@=-]"
_BUCKET: Final = f"[a-z0-9][a-z0-9._-]{{1,61}}[a-z0-9]/{_PATH}+"
_OBJECT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_REPOSITORY: Final = "hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
_CLAIM: Final = f"pvc://{_OBJECT}/{_PATH}*"
_FOLDER: Final = f"file:///{_PATH}+"
_TAG: Final = "(:[A-Za-z0-9_][A-Za-z0-9_.-]*)"
_IMAGE: Final = (
    f"[a-z0-9][A-Za-z0-9._/-]*(:[0-9]+/[A-Za-z0-9._/-]+)?({_TAG}|{_TAG}?@sha256:[a-f0-9]{{64}})"
)

SOURCE: Final = matches(
    f"^({_REPOSITORY}|{_CLAIM}|(s3|gs)://{_BUCKET}|oci://{_IMAGE}|{_FOLDER})$",
    "write hf://ORG/NAME, pvc://CLAIM/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH, oci://IMAGE with a"
    " tag or digest, or file:///PATH for a folder of the engine's image",
)
ADAPTER_SOURCE: Final = matches(
    f"^({_REPOSITORY}|{_CLAIM}|{_FOLDER})$",
    "write hf://ORG/NAME, pvc://CLAIM/PATH, or file:///PATH for a folder of the engine's image",
)
REVISION: Final = matches(
    "^[A-Za-z0-9][A-Za-z0-9._/-]*$",
    "write a branch, a tag or a commit of the repository",
)
ROLE: Final = matches("^[A-Za-z][A-Za-z0-9_-]*$", "write the name of a role, such as assistant")
RESOURCE: Final = matches(
    "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    "write the name of a device plugin's resource, such as nvidia.com/gpu",
)
LABEL_VALUE: Final = matches(
    "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    "write the value of a node's label, such as NVIDIA-L4",
)
DATA_KEY: Final = matches("^[-._A-Za-z0-9]+$", "use letters, digits, dashes, dots and underscores")
ROTATION_ID: Final = matches(
    "^[A-Za-z0-9][A-Za-z0-9._:+-]*$",
    "use letters, digits and . _ : + - and begin with a letter or digit",
)
SERVED_NAME: Final = matches(
    "^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$",
    "use letters, digits and . _ : / @ + - and begin with a letter or digit",
)
LONGEST_SERVED_NAME: Final = 256

NAMED: Final = Rule(
    "has(self.servedNames) || !self.source.matches('^(hf|pvc|s3|gs|file)://')"
    f" || self.source.matches('^(hf://.{{1,{LONGEST_SERVED_NAME}}}"
    f"|(pvc|s3|gs|file)://.*/[A-Za-z0-9][A-Za-z0-9._@+-]{{0,{LONGEST_SERVED_NAME - 1}}}/*)$')",
    lambda model: all(
        SERVED_NAME.holds(name) and len(name) <= LONGEST_SERVED_NAME for name in model.names
    ),
    f"source gives no usable name (at most {LONGEST_SERVED_NAME} letters, digits and . _ @ + -,"
    " beginning with a letter or digit); set servedNames",
)
"""The rule that what the model is called by default may be a served name."""

IMAGE: Final = matches(
    f"^{_IMAGE}$",
    "write an image with a pinned tag or digest, such as vllm/vllm-openai:v0.33.0",
)
SCOPE: Final = matches(
    "^([*]|[*]/[*]|[a-z]([-a-z0-9]*[a-z0-9])?)$",
    "write the name of an endpoint in this namespace, * for all of them, or */* for every"
    " endpoint of the cluster",
)
OBJECT_NAME: Final = matches(
    f"^{_OBJECT}$",
    "use lower-case letters, digits, dashes and dots, with a letter or digit at both ends and on"
    " both sides of each dot",
)

_RESERVED: Final = ", ".join(f"'{name}'" for name in names.RESERVED_NAMES)

ENDPOINT_NAME_RULES: Final = (
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
        f" && size(self.metadata.name) <= {names.LONGEST_ENDPOINT_NAME}",
        lambda name: (
            re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) is not None
            and len(name) <= names.LONGEST_ENDPOINT_NAME
        ),
        f"metadata.name: use at most {names.LONGEST_ENDPOINT_NAME} lower-case letters, digits and"
        " dashes, beginning with a letter and not ending with a dash",
    ),
    Rule(
        f"!self.metadata.name.endsWith('{names.ENGINE_SUFFIX}')",
        lambda name: not name.endswith(names.ENGINE_SUFFIX),
        f"metadata.name: must not end in {names.ENGINE_SUFFIX}, which the operator appends to"
        " the names of its own objects; choose another ending",
    ),
    Rule(
        f"!(self.metadata.name in [{_RESERVED}])",
        lambda name: name not in names.RESERVED_NAMES,
        "metadata.name: is the first path segment of one of the gateway's own routes; choose"
        " another name, for instance with the model's name in it",
    ),
)
"""Rules on the name of an InferenceEndpoint: CEL sees the object, Python the name."""

API_KEY_NAME_RULES: Final = (
    Rule(
        f"size(self.metadata.name) <= {names.LONGEST_API_KEY_NAME}",
        lambda name: len(name) <= names.LONGEST_API_KEY_NAME,
        f"metadata.name: use at most {names.LONGEST_API_KEY_NAME} characters",
    ),
)
"""Rules on the name of an ApiKey."""
