"""Rules on the name of an object: CEL is given the object, Python the name. For ``v1alpha1``."""

from __future__ import annotations

import re
from typing import Final

from endpoint_operator import names
from endpoint_operator.api.rules import Rule

NAME: Final = "metadata.name"
_RESERVED: Final = ", ".join(f"'{name}'" for name in names.RESERVED_NAMES)

ENDPOINT_NAME_RULES: Final = (
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
        f" && size(self.metadata.name) <= {names.LONGEST_ENDPOINT_NAME}",
        lambda name: (
            re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) is not None
            and len(name) <= names.LONGEST_ENDPOINT_NAME
        ),
        f"use at most {names.LONGEST_ENDPOINT_NAME} lower-case letters, digits and"
        " dashes, beginning with a letter and not ending with a dash",
        NAME,
    ),
    Rule(
        f"!self.metadata.name.endsWith('{names.ENGINE_SUFFIX}')",
        lambda name: not name.endswith(names.ENGINE_SUFFIX),
        f"must not end in {names.ENGINE_SUFFIX}, which the operator appends to"
        " the names of its own objects; choose another ending",
        NAME,
    ),
    Rule(
        f"!(self.metadata.name in [{_RESERVED}])",
        lambda name: name not in names.RESERVED_NAMES,
        "is the first path segment of one of the gateway's own routes; choose"
        " another name, for instance with the model's name in it",
        NAME,
    ),
)

API_KEY_NAME_RULES: Final = (
    Rule(
        f"size(self.metadata.name) <= {names.LONGEST_API_KEY_NAME}",
        lambda name: len(name) <= names.LONGEST_API_KEY_NAME,
        f"use at most {names.LONGEST_API_KEY_NAME} characters",
        NAME,
    ),
)
