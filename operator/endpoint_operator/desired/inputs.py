"""What rendering needs besides the endpoint: values of other objects, and the administrator's.

``reconcile`` builds them; nothing here is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class EngineDefaults:
    """What an administrator decides for the engines of all endpoints.

    ``ca_bundle`` is a text of PEM certificates; empty: the image's own. ``scrapers`` are
    NetworkPolicyPeers that may reach the engines beside the gateway.
    """

    gateway_namespace: str
    gateway_labels: Mapping[str, str]
    network_policy: bool = True
    scrapers: tuple[Object, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: str = ""


@dataclass(frozen=True)
class Inputs:
    """What an endpoint's children depend on besides its spec.

    ``chat_template`` is the text of the ConfigMap that the spec refers to; None if it refers to
    none.
    """

    image: str
    engine_key: str = field(repr=False)
    gateway_host: str
    defaults: EngineDefaults
    chat_template: str | None = None
