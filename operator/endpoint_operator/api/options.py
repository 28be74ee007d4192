"""Which of vLLM's options the operator owns, and what to use instead of each.

``engine.config`` takes vLLM's long option names as they are, so that no flag is mirrored here and
goes stale. Only what would break the contract between operator, gateway and engine is refused, in
every spelling that vLLM accepts: ``api-key``, ``api_key``, the beginning of it (its parser is
argparse, which completes ``api-ke``), and with a nested name behind it (``api-key.x``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic_core import PydanticCustomError

OWNED: Final = {
    "host": "the engine must listen where the gateway reaches it; remove it",
    "port": "the engine must listen where the gateway reaches it; remove it",
    "model": "use spec.model.source instead",
    "served-model-name": "use spec.model.servedNames instead",
    "api-key": "the operator makes the engine's own key; give clients keys with ApiKey objects",
    "shutdown-timeout": "use spec.engine.drainTimeout instead",
    "config": "put vLLM's options directly into spec.engine.config",
    "uds": "the engine must listen where the gateway reaches it; remove it",
    "headless": "the engine must answer HTTP itself; remove it",
    "ssl-keyfile": "the gateway speaks plain HTTP to engines; remove it",
    "ssl-certfile": "the gateway speaks plain HTTP to engines; remove it",
    "ssl-ca-certs": "the gateway speaks plain HTTP to engines; remove it",
}
"""Owned options in dash form, each with its remedy."""

FLAGS: Final = frozenset({"headless"})
"""Owned options that are true or false."""

PARALLEL_SIZES: Final = frozenset(
    {"tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"}
)
"""Options of which any one says that the user has thought about how to use the GPUs."""

LONGEST_NAME: Final = 128
MOST_OPTIONS: Final = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def dashed(option: str) -> str:
    """Return an option's name in dash form; what follows a dot (a nested name) stays."""
    head, dot, rest = option.partition(".")
    return head.replace("_", "-") + dot + rest


def meant(option: str) -> str | None:
    """Return the owned option that an option is, is short for, or sets a part of; None if none.

    No option that users may set begins an owned one's name.
    """
    head = dashed(option).partition(".")[0]
    return next((owned for owned in OWNED if owned.startswith(head)), None)


def in_args(args: Sequence[str]) -> frozenset[str]:
    """Return the options that arguments set, in dash form without the dashes in front."""
    long = (argument for argument in args if argument.startswith("--"))
    return frozenset(dashed(argument[2:].partition("=")[0]) for argument in long)


def parallel_sizes(config: Mapping[str, Any], args: Sequence[str]) -> Mapping[str, Any]:
    """Return the parallel sizes that are set, with their values; arguments win over the file."""
    chosen = {dashed(option): value for option, value in config.items()}
    chosen |= dict.fromkeys(in_args(args))
    return {option: value for option, value in chosen.items() if option in PARALLEL_SIZES}


def message(option: str) -> str:
    """Return why an owned option is refused."""
    return f"{option} is set by the operator: {OWNED[option]}"


def check_name(option: str) -> str:
    """Return an option's name if a user may set it; else raise the error pydantic collects."""
    if not _NAME.fullmatch(option) or len(option) > LONGEST_NAME:
        raise PydanticCustomError(
            "option", "is not an option; write vLLM's long name without dashes in front of it"
        )
    if owned := meant(option):
        raise PydanticCustomError("option", "{text}", {"text": message(owned)})
    return option


def check_value(value: Any) -> Any:
    """Return an option's value unless it is null, which vLLM would read as the word None."""
    if value is None:
        raise PydanticCustomError("option", "has no value; give one or remove the option")
    return value


def schema() -> dict[str, Any]:
    """Return the schema of ``engine.config``.

    CEL sees only declared properties, so the owned options are declared, and each is refused with
    its remedy; everything else passes through untouched, and the model looks at it again.
    """
    spellings = {option: sorted({option, option.replace("-", "_")}) for option in OWNED}
    return {
        "type": "object",
        "maxProperties": MOST_OPTIONS,
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            spelling: {"description": "Owned by the operator and refused.", **_type(option)}
            for option, spelled in spellings.items()
            for spelling in spelled
        },
        "x-kubernetes-validations": [
            {
                "rule": " && ".join(f"!has(self.{_cel_name(name)})" for name in spelled),
                "message": message(option),
            }
            for option, spelled in spellings.items()
        ],
    }


def _type(option: str) -> dict[str, Any]:
    """Return the type of the values that an owned option would have."""
    return {"type": "boolean"} if option in FLAGS else {"x-kubernetes-int-or-string": True}


def _cel_name(name: str) -> str:
    """Return a property's name as CEL wants it: ``-`` is no character of its identifiers."""
    return name.replace("-", "__dash__")
