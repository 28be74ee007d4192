"""kopf's side: which events we want, how kopf behaves, how it logs in.

Only ``on.event`` handlers: kopf then writes nothing at all (no annotation, no finalizer). They only
take note; retries are the queue's (kopf forgets a failed event). ``__main__`` runs the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from endpoint_operator import names
from endpoint_operator.controller import Controller


def build_registry(controller: Controller, stop: Callable[[], None]) -> kopf.OperatorRegistry:
    """Return the table of handlers; ``stop`` ends the process if the controller can't go on."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        controller.start(ended=stop)

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        await controller.stop()
        stop()  # else kopf 1.45 gives its own watcher of the flag five seconds to end

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        in_cluster = kopf.login_with_service_account(**arguments)
        return in_cluster or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(names.GROUP, names.VERSION, "inferenceendpoints", registry=registry)
    @kopf.on.event(names.GROUP, names.VERSION, "apikeys", registry=registry)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        controller.observe(event["type"], dict(event["object"]))

    return registry


def configure(settings: kopf.OperatorSettings) -> None:
    """Have kopf write nothing and watch only what it is told."""
    settings.posting.enabled = False
    settings.scanning.disabled = True  # the chart installs the CRDs first
    settings.peering.standalone = True
    settings.queueing.idle_timeout = 1  # a worker per object, for as short as possible
    settings.queueing.exit_timeout = 1
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = 500
