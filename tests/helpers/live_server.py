"""A whole gateway on a loopback socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any

import httpx

from endpoint_gateway.app import Gateway, build
from endpoint_gateway.balancer import Balancer
from endpoint_gateway.catalog import Catalog, Endpoint, Key, Keyring, Replica
from endpoint_gateway.inbound import Handler, Limits
from endpoint_gateway.limiter import Shared
from endpoint_gateway.metrics import Metrics
from endpoint_gateway.server import Server
from endpoint_gateway.settings import Settings

SECRET = "sk-team-a"
# httpx reads all of the system's certificates for each client unless given a context
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SETTINGS = Settings(
    release_namespace="system",
    keyring_secret="keyring",
    root_key_secret="root",
    gateway_service="gateway",
)


def key(secret: str = SECRET, **fields: Any) -> Key:
    """Return a key that opens everything in its namespace, team-a unless told."""
    values: dict[str, Any] = {"namespace": "team-a", "name": "ci", **fields}
    return Key(digest=sha256(secret.encode()).digest(), **values)


def keyring(*keys: Key) -> Keyring:
    """Return the keyring of these keys."""
    return {each.digest: each for each in keys}


def endpoint(*replicas: Replica, **fields: Any) -> Endpoint:
    """Return the endpoint team-a/qwen, which serves `tiny`; its engines know all of its names."""
    values: dict[str, Any] = {
        "namespace": "team-a",
        "name": "qwen",
        "created": 1_795_000_000,
        "served_names": ("tiny",),
        "source": "hf://org/tiny",
        "authorizations": (b"Bearer sk-engine-1",),
        **fields,
    }
    values.setdefault("common_name", values["name"])
    known = (*values["served_names"], *(each.name for each in values.get("adapters", ())))
    values.setdefault("engine_names", frozenset(known))
    return Endpoint(replicas=replicas, **values)


@dataclass
class Known:
    """A directory that says what the test says."""

    catalog: Catalog
    keyring: Mapping[bytes, Key]
    ready: bool = True
    gateways: int = 1


@dataclass
class Live:
    """A gateway that runs, and what a test wants to see of it."""

    url: str
    host: str
    port: int
    gateway: Gateway
    directory: Known
    balancer: Balancer
    client: httpx.AsyncClient
    log: BytesIO = field(default_factory=BytesIO)

    def lines(self) -> list[Any]:
        """Return the access log."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def post(self, path: str, content: Any = None, **options: Any) -> httpx.Response:
        """Send a JSON body, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.client.post(path, content=body, **options)

    async def chat(self, model: Any = "tiny", **fields: Any) -> httpx.Response:
        """Ask for a chat answer at the shared address."""
        content = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return await self.post("/v1/chat/completions", content)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for a test that counts bytes."""
        return await asyncio.open_connection(self.host, self.port)


def raw_request(content: object, path: str = "/v1/chat/completions") -> bytes:
    """Return the bytes of a POST."""
    body = json.dumps(content).encode()
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {SECRET}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


@asynccontextmanager
async def serving(
    application: Handler, *, limits: Limits | None = None, max_connections: int = 1000
) -> AsyncIterator[tuple[str, int]]:
    """Serve an application on a free port; its connections end with the block."""
    server = Server(
        application,
        host="127.0.0.1",
        port=0,
        limits=limits,
        max_connections=max_connections,
        drain_seconds=0,
    )
    address = await server.listen()
    try:
        yield address
    finally:
        await server.close()


@asynccontextmanager
async def live_gateway(
    *endpoints: Endpoint,
    keys: tuple[Key, ...] = (key(),),
    limits: Limits | None = None,
    shared: Shared | None = None,
    **settings: Any,
) -> AsyncIterator[Live]:
    """Run a gateway that knows these endpoints and keys."""
    directory = Known(Catalog.of(endpoints), keyring(*keys))
    log, balancer = BytesIO(), Balancer()
    chosen = SETTINGS.model_copy(update=settings)
    gateway = build(chosen, directory, balancer=balancer, metrics=Metrics(), log=log, shared=shared)
    headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
    async with serving(gateway.application, limits=limits) as (host, port):
        url = f"http://{host}:{port}"
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=10, verify=NO_TLS
        ) as client:
            try:
                yield Live(url, host, port, gateway, directory, balancer, client, log)
            finally:
                gateway.pool.close()
