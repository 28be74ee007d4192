"""kopf's side: what begins and ends with the process, how kopf behaves, how it logs in.

kopf gives the process its life: start, signals, an orderly end. It has no handler of
objects: then it writes nothing (no annotation, no finalizer) and watches nothing; ``watches`` does.
``__main__`` runs the registry.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import kopf

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

    return registry


def configure(settings: kopf.OperatorSettings) -> None:
    """Have kopf write nothing, watch nothing, and never give up."""
    settings.posting.enabled = False
    settings.scanning.disabled = True  # the chart installs the CRDs first
    settings.peering.standalone = True
    settings.networking.error_backoffs = Backoffs()


class Backoffs:
    """Seconds to wait after each failure, without an end: an API server comes back some time."""

    def __iter__(self) -> Iterator[float]:
        """Yield the pauses."""
        return itertools.chain((0.1, 0.3, 1, 2), itertools.repeat(5.0))
