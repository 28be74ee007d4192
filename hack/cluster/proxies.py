"""Proxies of the environment: components go past them, and people's clients are told to.

A proxy can't reach the addresses of a cluster on this machine, and a component that asks it for
them fails in ways that name no proxy. Pure; the environment comes from the caller.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from hack.cluster.state import NODE_ADDRESS, POD_CIDR, SERVICE_CIDR

# curl reads the lower-case names first, Go the upper-case ones, and Python merges both
PROXIES = tuple(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)
EXCEPTIONS = ("NO_PROXY", "no_proxy")
OURS = (NODE_ADDRESS, SERVICE_CIDR, POD_CIDR, "127.0.0.1", "localhost")


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that talks to nobody but the cluster."""
    return {k: v for k, v in environment.items() if k not in (*PROXIES, *EXCEPTIONS)}


def past(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that goes past a proxy to the cluster, and through it else."""
    if not any(environment.get(name) for name in PROXIES):
        return dict(environment)
    return {**environment, **dict.fromkeys(EXCEPTIONS, _exceptions(environment))}


def shell_lines(environment: Mapping[str, str]) -> list[str]:
    """What to type for the same; nothing where there is no proxy."""
    if not any(environment.get(name) for name in PROXIES):
        return []
    value = _exceptions(environment)
    return [f"export {' '.join(f'{name}={shlex.quote(value)}' for name in EXCEPTIONS)}"]


def _exceptions(environment: Mapping[str, str]) -> str:
    given = ",".join(environment.get(name, "") for name in EXCEPTIONS).split(",")
    named = [entry.strip() for entry in given if entry.strip()]
    return "*" if "*" in named else ",".join(dict.fromkeys([*named, *OURS]))
