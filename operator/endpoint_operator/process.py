"""The operator's process: settings, logging, the API client, leadership, kopf.

``__main__`` runs it. Ends with 0 after SIGTERM, with 1 and one line that says what to do where it
can't run, else never.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import kopf
import uvloop
from aiohttp import web

from endpoint_operator.cluster import ApiCluster
from endpoint_operator.controller import Controller
from endpoint_operator.errors import OperatorError
from endpoint_operator.handlers import build_registry
from endpoint_operator.leader import Leadership
from endpoint_operator.settings import Settings, load_settings
from endpoint_operator.telemetry import configure_logging
from endpoint_operator.watches import Watches
from kube_api import KubeClient, KubeError, load_config

USER_AGENT = "vllm-endpoints-operator"


async def serve(settings: Settings) -> None:
    """Run until a signal comes or the controller fails; raises why it failed."""
    config = load_config()
    async with KubeClient(config, user_agent=USER_AGENT) as unguarded:
        leadership = Leadership(unguarded, settings)
        async with KubeClient(config, user_agent=USER_AGENT, before_write=leadership.check) as api:
            cluster = ApiCluster(api, settings.release_namespace)
            controller = Controller(cluster, Watches(api, cluster, settings), settings, leadership)
            await run(controller, settings)


async def run(controller: Controller, settings: Settings) -> None:
    """Run kopf, and with it the controller, until a signal comes or the controller fails."""
    stop = asyncio.Event()
    async with alive(settings.liveness_port):
        await kopf.operator(
            registry=build_registry(controller, stop.set),
            clusterwide=True,  # of what it watches, which is nothing
            standalone=True,
            # left to itself kopf asks for the user's name, and the image's user has none
            identity=cast("Any", USER_AGENT),
            stop_flag=stop,
        )
    if controller.failure is not None:
        raise controller.failure


@asynccontextmanager
async def alive(port: int) -> AsyncIterator[None]:
    """Answer probes inside the block, by IPv4 and IPv6; kopf's own server takes one address."""
    runner = web.ServerRunner(web.Server(_alive, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def _alive(_request: web.BaseRequest) -> web.Response:
    return web.Response()


def main() -> None:
    """Run the operator with the settings of the environment."""
    problems: dict[str, None] = {}  # each once, in order
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log_level)
        uvloop.run(serve(settings))
    except* (OperatorError, KubeError) as group:
        problems = dict.fromkeys(map(str, leaves(group)))
    sys.exit("\n".join(problems) or None)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
