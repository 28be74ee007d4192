"""The composition root: what is built from what, and how the process lives and ends.

Called by `__main__`, and by tests that want a whole gateway in their own event loop.
"""

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

import kube_api

from .application import Application
from .balancer import Balancer
from .catalog import Catalog, Keyring
from .config import Config
from .cors import Cors
from .discovery import Own, WatchedDirectory
from .dispatch import Dispatcher, Timeouts
from .errors import CannotListen, ClusterError, SettingsError
from .exchange import Exchange
from .limiter import Limiter, Shared
from .metrics import AccessLog, Metrics
from .pipeline import Pipeline
from .pool import Pool
from .room import Room
from .server import Server
from .settings import Settings
from .static import FileDirectory, Known, StaticDirectory
from .upstream import Limits

logger = logging.getLogger(__name__)

_LOG_BUFFER_BYTES = 65536
_OTHER_FILES = 64  # the watches, Redis, spooled forms
_USER_AGENT = "vllm-endpoints-gateway"


class Directory(Protocol):
    """Endpoints and keys, and whether they are known yet."""

    catalog: Catalog
    keyring: Keyring

    @property
    def gateways(self) -> int:
        """Return how many gateways there are, at least 1."""

    @property
    def ready(self) -> bool:
        """Say whether requests can be answered."""


@dataclass(slots=True)
class Phase:
    """Whether the process is on its way out."""

    ending: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts that the process and the tests hold on to."""

    application: Application
    metrics: Metrics
    pool: Pool
    room: Room
    phase: Phase


def build(
    settings: Settings,
    directory: Directory,
    *,
    balancer: Balancer,
    metrics: Metrics,
    log: BinaryIO,
    shared: Shared | None = None,
) -> Gateway:
    """Put a gateway together; `log` gets the access log's lines, `shared` counts for limits."""
    phase = Phase()
    room = Room(settings.body_memory_bytes, largest=settings.max_body_bytes)
    pool = Pool(Limits(connect_seconds=settings.connect_timeout_seconds))
    timeouts = Timeouts(
        first_byte=settings.first_byte_timeout_seconds,
        idle=settings.idle_timeout_seconds,
        total=settings.total_timeout_seconds,
    )
    pipeline = Pipeline(
        directory=directory,
        limiter=Limiter(gateways=lambda: directory.gateways, shared=shared),
        dispatcher=Dispatcher(balancer=balancer, pool=pool, timeouts=timeouts, metrics=metrics),
        metrics=metrics,
        access_log=AccessLog(log),
        room=room,
    )
    application = Application(
        pipeline,
        cors=Cors(settings.cors_origins),
        is_ready=lambda: directory.ready and not phase.ending,
    )
    return Gateway(application, metrics, pool, room, phase)


async def _metrics_page(metrics: Metrics, exchange: Exchange) -> None:
    found = exchange.path == "/metrics"
    body = metrics.page() if found else b""
    headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
    exchange.start(200 if found else 404, headers, length=len(body))
    exchange.end(body)


@contextlib.asynccontextmanager
async def _watching(
    settings: Settings, balancer: Balancer, metrics: Metrics
) -> AsyncIterator[Directory]:
    """Give a directory that is kept up to date inside the block."""
    async with kube_api.KubeClient(kube_api.load_config(), user_agent=_USER_AGENT) as api:
        directory = WatchedDirectory(
            partial(kube_api.watch, api),
            own=Own(
                settings.release_namespace,
                settings.keyring_secret,
                settings.root_key_secret,
                settings.gateway_service,
            ),
            watched=settings.namespaces,
            on_change=partial(_forget_the_gone, balancer, metrics),
            on_keyring=partial(_forget_gone_keys, metrics),
        )
        async with _meanwhile(directory.run()):
            yield directory


@contextlib.asynccontextmanager
async def _reading(
    static: Config | Path, environ: Mapping[str, str], balancer: Balancer, *, metrics: Metrics
) -> AsyncIterator[Directory]:
    """Give a directory without a cluster; that of a file is kept up to date inside the block."""
    if isinstance(static, Config):
        yield StaticDirectory(static, environ)
        return

    def forget(known: Known) -> None:
        _forget_the_gone(balancer, metrics, known.catalog)
        _forget_gone_keys(metrics, known.keyring)

    directory = FileDirectory(static, environ, on_change=forget)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, directory.reload)
    async with _meanwhile(directory.run()):
        yield directory


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


def _forget_the_gone(balancer: Balancer, metrics: Metrics, catalog: Catalog) -> None:
    balancer.retain(replica for each in catalog.endpoints for replica in each.replicas)
    metrics.retain(each.qualified_name for each in catalog.endpoints)


def _forget_gone_keys(metrics: Metrics, keyring: Keyring) -> None:
    metrics.retain_keys(key.qualified_name for key in keyring.values())


async def run(
    settings: Settings, static: Config | Path | None, *, environ: Mapping[str, str]
) -> None:
    """Serve the cluster's endpoints, or those of a configuration or its file, until told to end.

    `environ` has the secrets that a file names. Raises CannotListen, SettingsError for a file of no
    use, and ClusterError where the API server refuses us from the start.
    """
    balancer, metrics = Balancer(), Metrics()
    if static is None:
        opened = _watching(settings, balancer, metrics)
    else:
        opened = _reading(static, environ, balancer, metrics=metrics)
    try:
        async with opened as directory:
            await _serve(settings, directory, balancer, metrics=metrics)
    except kube_api.KubeError as error:
        raise ClusterError(str(error)) from error
    except BaseExceptionGroup as group:
        first = _first_of(group)
        if isinstance(first, kube_api.KubeError):
            raise ClusterError(str(first)) from group
        if isinstance(first, CannotListen | SettingsError):
            raise first from group
        raise


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _serve(
    settings: Settings, directory: Directory, balancer: Balancer, *, metrics: Metrics
) -> None:
    async with _sharing(settings, metrics) as shared:
        log = _buffered_stdout()
        gateway = build(
            settings, directory, balancer=balancer, metrics=metrics, log=log, shared=shared
        )
        await _serve_gateway(settings, gateway)
        # not closed: what is flushed every now and then may be so once more
        log.flush()
    gateway.pool.close()


def _buffered_stdout() -> BinaryIO:
    """Return standard output with a buffer; sys.stdout has none in our image."""
    return open(sys.stdout.fileno(), "wb", buffering=_LOG_BUFFER_BYTES, closefd=False)


@contextlib.asynccontextmanager
async def _sharing(settings: Settings, metrics: Metrics) -> AsyncIterator[Shared | None]:
    """Give what all gateways count with, if they do. Raises SettingsError."""
    url = settings.limits_redis_url.get_secret_value()
    if not url:
        yield None
        return
    try:
        # not needed by others, who may not have redis-py
        from .shared_limits import Address, SharedLimits  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            "VLLM_ENDPOINTS_LIMITS_REDIS_URL: redis-py is missing; run pip install "
            "'.[gateway,shared-limits]' in a checkout, or leave the variable empty"
        ) from error
    password = settings.limits_redis_password.get_secret_value() or None
    async with SharedLimits(
        Address(url, password, settings.limits_redis_ca_file),
        prefix=settings.release_namespace,
        on_change=metrics.shared_limits().set,
    ) as shared:
        yield shared


async def _serve_gateway(settings: Settings, gateway: Gateway) -> None:
    port, drain_seconds = settings.gateway_port, settings.drain_seconds
    api = Server(
        gateway.application,
        port=port,
        max_connections=_most_connections(settings.max_connections),
        drain_seconds=drain_seconds,
    )
    api.on_refusal = gateway.metrics.refused
    # on a port of its own that nobody exposes
    page = Server(partial(_metrics_page, gateway.metrics), port=settings.metrics_port)
    await page.listen()
    await api.listen()
    _end_on_signals(api, gateway.phase)
    await api.serve()
    await page.close()


def _most_connections(wanted: int) -> int:
    """Return how many connections there may be, each of which may need another one to an engine."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    possible = max(1, (files - _OTHER_FILES) // 2)
    if possible < wanted:
        logger.warning(
            "%d connections are taken at a time, not %d: this process may have %d files open",
            *(possible, wanted, files),
        )
    return min(wanted, possible)


def _end_on_signals(server: Server, phase: Phase) -> None:
    """End in order: readiness goes false, nothing new is accepted, what is in flight finishes.

    In a cluster the pod's preStop sleep goes before, so that nobody sends any more. A second
    signal ends at once.
    """

    def end() -> None:
        server.end(at_once=phase.ending)
        phase.ending = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
