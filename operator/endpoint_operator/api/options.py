"""Which of vLLM's options the operator owns, and what to use instead of each.

``engine.config`` and ``engine.args`` take vLLM's options as they are, so that no flag is mirrored
here and goes stale. Only what would break the contract between operator, gateway and engine is
refused, in every spelling that vLLM accepts. Its parser is argparse, which takes ``--api-key=x``,
the beginning of a name (``--api-ke``) and short names (``-tp``); it takes underscores for dashes,
and a nested name behind a dot (``--api-key.x``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Final

from pydantic_core import PydanticCustomError

_LISTENS: Final = "the engine must listen where the gateway reaches it; remove it"
_PLAIN: Final = "the gateway speaks plain HTTP to engines; remove it"
_ONE_POD: Final = "an engine is one pod, and several nodes for one are not supported; remove it"

OWNED: Final = {
    "host": _LISTENS,
    "port": _LISTENS,
    "uds": _LISTENS,
    "headless": "the engine must answer HTTP itself; remove it",
    "grpc": "the gateway speaks HTTP to engines; remove it",
    "ssl-keyfile": _PLAIN,
    "ssl-certfile": _PLAIN,
    "ssl-ca-certs": _PLAIN,
    "api-key": "the operator makes the engine's own key; give clients keys with ApiKey objects",
    "config": "put vLLM's options directly into spec.engine.config",
    "model": "use spec.model.source instead",
    "revision": "use spec.model.revision instead",
    "hf-token": "use spec.model.tokenSecretRef instead",
    "served-model-name": "use spec.model.servedNames instead",
    "chat-template": "use spec.model.chatTemplate instead",
    "lora-modules": "use spec.model.adapters instead",
    "response-role": "use spec.engine.responseRole instead",
    "shutdown-timeout": "use spec.engine.drainTimeout instead",
    "nnodes": _ONE_POD,
    "node-rank": _ONE_POD,
    "data-parallel-rank": _ONE_POD,
    "data-parallel-start-rank": _ONE_POD,
    "data-parallel-external-lb": _ONE_POD,
    "data-parallel-hybrid-lb": _ONE_POD,
    "data-parallel-multi-port-external-lb": _ONE_POD,
}
"""Owned options in dash form, each with its remedy."""

FLAGS: Final = frozenset({"headless", "grpc", *(name for name in OWNED if name.endswith("-lb"))})
"""Owned options that are true or false."""

PARALLEL_SIZES: Final = frozenset(
    {
        "tensor-parallel-size",
        "pipeline-parallel-size",
        "prefill-context-parallel-size",
        "data-parallel-size",
    }
)
"""Options of which any one says that the user has thought about how to use the GPUs.

Their product is the number of GPUs (vLLM's ParallelConfig: world_size, times data_parallel_size).
"""

_SHORT: Final = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "pcp": "prefill-context-parallel-size",
    "dp": "data-parallel-size",
    "n": "nnodes",
    "r": "node-rank",
    "dpn": "data-parallel-rank",
    "dpr": "data-parallel-start-rank",
    "dpe": "data-parallel-external-lb",
    "dph": "data-parallel-hybrid-lb",
    "dpm": "data-parallel-multi-port-external-lb",
}
"""Short names that say something about our options, after one dash; those of vLLM 0.32."""

LONGEST_NAME: Final = 128
LONGEST_ARGUMENT: Final = 4096
MOST_OPTIONS: Final = 256
MOST_GPUS: Final = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TWO_IN_ONE: Final = "^--?[A-Za-z][A-Za-z0-9_.-]*[ \\t]"
_OF_A_VARIABLE: Final = r"(-[^=]*)?\$\("  # the kubelet replaces $(X), also in the midst of a word
_TWO_IN_ONE_MESSAGE: Final = (
    "is one argument with a space in it; write option and value as two, or with = between them"
)


def dashed(option: str) -> str:
    """Return an option's name in dash form; what follows a dot (a nested name) stays."""
    head, dot, rest = option.partition(".")
    return head.replace("_", "-") + dot + rest


@lru_cache(maxsize=4096)
def meant(option: str) -> str | None:
    """Return the owned option that an option is, is short for, or sets a part of; None if none.

    No option that users may set begins an owned one's name.
    """
    head = dashed(option).partition(".")[0]
    return next((owned for owned in OWNED if head and owned.startswith(head)), None)


def message(option: str) -> str:
    """Return why an owned option is refused."""
    return f"{option} is set by the operator: {OWNED[option]}"


def check_name(option: str) -> str:
    """Return an option's name if a user may set it; else raise the error pydantic collects."""
    if not _NAME.fullmatch(option) or len(option) > LONGEST_NAME:
        raise PydanticCustomError(
            "option", "is not an option; write vLLM's long name without dashes in front of it"
        )
    return _not_owned(option, option)


def check_argument(argument: str) -> str:
    """Return an argument if it sets no owned option; else raise the error pydantic collects."""
    if re.match(_TWO_IN_ONE, argument):
        raise PydanticCustomError("option", "{text}", {"text": _TWO_IN_ONE_MESSAGE})
    if re.match(_OF_A_VARIABLE, argument):
        raise PydanticCustomError(
            "option", "may become any option; write --OPTION=$(VARIABLE), with the option in full"
        )
    return _not_owned(option_of(argument) or "", argument)


def _not_owned(option: str, value: str) -> str:
    if owned := meant(option):
        raise PydanticCustomError("option", "{text}", {"text": message(owned)})
    return value


def check_value(value: Any) -> Any:
    """Return an option's value unless vLLM would read it as something else.

    It makes arguments of the file, of each item of a list one; null would be the word None.
    """
    if value is None:
        raise PydanticCustomError("option", "has no value; give one or remove the option")
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and re.match("--?[A-Za-z]", each):
            raise PydanticCustomError(
                "option", "has a value that vLLM takes for an option; write it as one of its own"
            )
    return value


def option_of(argument: str) -> str | None:
    """Return the long name, in dash form, of the option that an argument is; None if it is none.

    A parallel size is recognised by its short name too, and by the beginnings of both. argparse
    takes a value that directly follows a name of one letter (``-n2``).
    """
    name = argument.partition("=")[0]
    if name.startswith("--"):
        long = dashed(name[2:])
        sizes = [size for size in PARALLEL_SIZES if size.startswith(long)]
        return sizes[0] if len(sizes) == 1 else long or None
    if not name.startswith("-"):
        return None
    begun = [short for short in _SHORT if short.startswith(name[1:])]
    short = begun[0] if len(begun) == 1 else name[1:]
    return _SHORT.get(short) or _SHORT.get(name[1:2])


def in_args(args: Sequence[str]) -> frozenset[str]:
    """Return the options that arguments set: long names in dash form, without dashes in front."""
    return frozenset(option for option, _ in _pairs(args))


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option that arguments set, with its (first) value."""
    for argument, following in zip_longest(args, args[1:], fillvalue=""):
        if option := option_of(argument):
            _, joined, value = argument.partition("=")
            yield option, value if joined else following


def parallel_sizes(config: Mapping[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """Return the parallel sizes that are set, each a number if it is a valid one; args win."""
    chosen = {dashed(option): value for option, value in config.items()}
    chosen |= {option: int(value) if value.isdecimal() else value for option, value in _pairs(args)}
    return {option: value for option, value in chosen.items() if option in PARALLEL_SIZES}


def are_sizes(sizes: Iterable[Any]) -> bool:
    """Return whether values can be parallel sizes."""
    return all(type(size) is int and 1 <= size <= MOST_GPUS for size in sizes)


def schema() -> dict[str, Any]:
    """Return the schema of ``engine.config``.

    CEL sees only declared properties, so the owned options are declared, and each is refused with
    its remedy; everything else passes through untouched, and the model looks at it again.
    """
    return {
        "type": "object",
        "maxProperties": MOST_OPTIONS,
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            spelling: _declaration(option)
            for option in (*OWNED, *sorted(PARALLEL_SIZES))
            for spelling in spellings(option)
        },
        "x-kubernetes-validations": [
            {
                "rule": " && ".join(f"!has(self.{cel_name(name)})" for name in spellings(option)),
                "message": message(option),
            }
            for option in OWNED
        ],
    }


def argument_rules() -> list[dict[str, str]]:
    """Return the rules on one of ``engine.args``, for CEL: full names; the model sees all."""
    owned = [
        {
            "rule": f"!self.matches('^--{option.replace('-', '[-_]')}([=.]|$)')",
            "message": message(option),
        }
        for option in OWNED
    ]
    return [{"rule": f"!self.matches(r'{_TWO_IN_ONE}')", "message": _TWO_IN_ONE_MESSAGE}, *owned]


def spellings(option: str) -> list[str]:
    """Return the names of an option in full, in a configuration file."""
    return sorted({option, option.replace("-", "_")})


def cel_name(name: str) -> str:
    """Return a property's name as CEL wants it: ``-`` is no character of its identifiers."""
    return name.replace("-", "__dash__")


def _declaration(option: str) -> dict[str, Any]:
    """Return the schema of an option's values."""
    if option in PARALLEL_SIZES:
        size = {"type": "integer", "minimum": 1, "maximum": MOST_GPUS}
        return {"description": "A factor of gpu.count.", **size}
    value = {"type": "boolean"} if option in FLAGS else {"x-kubernetes-int-or-string": True}
    return {"description": "Owned by the operator and refused.", **value}
