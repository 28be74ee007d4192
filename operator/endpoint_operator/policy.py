"""From an accepted ``spec.access`` to what the gateway goes by; pure.

``facts`` calls it and ``status`` writes it down. Which hosts a namespace may have is the
administrator's to say; that another endpoint has a host already is no matter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from endpoint_operator.api import values
from endpoint_operator.api.access import AccessSpec, TimeoutsSpec
from endpoint_operator.settings import Settings

Object = dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """What the gateway is told of an endpoint, and the hosts that it is not told of."""

    access: Object
    refused_hosts: Sequence[str] = ()


def policy(access: AccessSpec, namespace: str, settings: Settings) -> Policy:
    """Return the policy of an endpoint in a namespace."""
    hosts = _allowed(access.hosts, namespace, settings)
    told = access.model_dump(by_alias=True, exclude_defaults=True) | {
        "hosts": hosts,
        "timeouts": _in_seconds(access.timeouts),
    }
    refused = [host for host in access.hosts if host not in hosts]
    return Policy({key: value for key, value in told.items() if value}, refused)


def still_allowed(status: Object, namespace: str, settings: Settings) -> Object:
    """Return a status without hosts that an administrator has taken away since it was written.

    Whoever has a spec refused must not keep them by that.
    """
    access = status.get("access", {})
    if "hosts" not in access:
        return status
    return status | {"access": access | {"hosts": _allowed(access["hosts"], namespace, settings)}}


def allowed_domains(namespace: str, settings: Settings) -> list[str]:
    """Return the domains in which endpoints of a namespace may have hosts."""
    return [
        each.domain
        for each in settings.host_domains
        if not each.namespaces or namespace in each.namespaces
    ]


def _allowed(hosts: Sequence[str], namespace: str, settings: Settings) -> list[str]:
    domains = tuple(f".{domain}" for domain in allowed_domains(namespace, settings))
    own = settings.gateway_hosts
    return [host for host in hosts if host not in own and f".{host}".endswith(domains)]


def _in_seconds(timeouts: TimeoutsSpec) -> dict[str, int]:
    given = timeouts.model_dump(by_alias=True, exclude_none=True)
    return {f"{name}Seconds": values.seconds(duration) for name, duration in given.items()}
