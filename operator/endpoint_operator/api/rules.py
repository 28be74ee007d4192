"""Rules that are checked twice: as CEL by the API server, as Python by the operator.

A rule is annotated on the value it guards and carries one message for both checks, so that a user
reads the same sentence whoever refuses. What a rule needs bounded (for CEL's cost) is bounded by
the field's schema. A rule of one field is in the module of that field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from endpoint_operator.api import values

CEL_KEY: Final = "x-kubernetes-validations"


def _always(value: Any) -> bool:  # noqa: ARG001 - a rule is given the value
    """Return True: what a rule looks at can be seen in CEL alone."""
    return True


@dataclass(frozen=True)
class Rule:
    """A condition on a valid-looking value; ``message`` says what is wrong and what to do.

    ``field`` is the path, below the value, of the field to blame. ``cel`` is empty where CEL can't
    see what the rule is about.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str = ""

    def as_cel(self) -> dict[str, str]:
        """Return the rule as an entry of x-kubernetes-validations."""
        at = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.cel, "message": self.message, **at}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Run the check after the value's own."""
        return Together(self).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rule to the field's schema."""
        return Together(self).__get_pydantic_json_schema__(schema, handler)


class Together:
    """Rules on one value, of which every one that is broken is reported."""

    def __init__(self, *rules: Rule) -> None:
        self._rules = rules

    def check(self, value: Any) -> Any:
        """Return the value, or raise the error that pydantic collects."""
        broken = [(rule.field, rule.message) for rule in self._rules if not rule.holds(value)]
        if broken:
            raise PydanticCustomError("rules", "{broken}", {"broken": broken})
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Run the check after the value's own."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rules to the field's schema."""
        described = handler(schema)
        rules = [*described.get(CEL_KEY, ()), *as_cel(self._rules)]
        return described | ({CEL_KEY: rules} if rules else {})


def as_cel(rules: Iterable[Rule]) -> list[dict[str, str]]:
    """Return those of the rules that CEL can check, as x-kubernetes-validations."""
    return [rule.as_cel() for rule in rules if rule.cel]


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


def one_of(**fields: str) -> Rule:
    """Return the rule that exactly one of a model's fields is set: attributes with field names."""
    count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in fields.values())
    listed = " or ".join(fields.values())
    return Rule(
        f"{count} == 1",
        lambda model: sum(getattr(model, attribute) is not None for attribute in fields) == 1,
        f"set either {listed}, exactly one of them",
    )


def transition(cel: str, message: str, field: str = "") -> Rule:
    """Return a rule about a change, which the API server alone can see."""
    return Rule(cel, _always, message, field)


def forbidden(message: str) -> Rule:
    """Return the rule that a field must not be there at all."""
    return Rule("false", lambda value: False, message)  # noqa: ARG005 - a rule is given the value


DEEPEST: Final = 64


def _is_shallow(value: Any, levels: int = DEEPEST) -> bool:
    if not isinstance(value, dict | list):
        return True
    children = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in children)


SHALLOW: Final = Together(
    Rule("", _is_shallow, f"is nested more than {DEEPEST} levels deep; write fewer levels")
)
"""For what a schema leaves free; it is checked first, since other checks would go all the way."""

UNIQUE: Final = Rule(
    "self.all(x, self.exists_one(y, x == y))",
    lambda items: len(set(items)) == len(items),
    "a name occurs twice; remove the repetition",
)
UNIQUE_NAMES: Final = Rule(
    "self.all(x, self.exists_one(y, x.name == y.name))",
    lambda items: len({item.name for item in items}) == len(items),
    "a name occurs twice; remove the repetition",
)

QUANTITY: Final = Rule(
    f"type(self) == int ? self >= 0 : self.matches('{values.QUANTITY_PATTERN}')",
    lambda value: re.fullmatch(values.QUANTITY_PATTERN, value) is not None,
    "write a quantity such as 500m, 4 or 16Gi",
)

OBJECT_NAME_PATTERN: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
OBJECT_NAME: Final = matches(
    f"^{OBJECT_NAME_PATTERN}$",
    "use lower-case letters, digits, dashes and dots, with a letter or digit at both ends and on"
    " both sides of each dot",
)
DATA_KEY: Final = matches("^[-._A-Za-z0-9]+$", "use letters, digits, dashes, dots and underscores")

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
