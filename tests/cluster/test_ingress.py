"""Client, ingress controller, gateway, engine: all of them see the same requests.

Traefik is the controller of the local cluster; here it runs alone, with and without the client of
its own that the cluster makes it use.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from hack.cluster.toolchain import Cache, default_root
from helpers.fake_vllm import FakeVllm, answering, captured
from helpers.gateway_process import free_port
from helpers.live_server import SECRET, Live, endpoint, key, live_gateway, raw_request
from helpers.smuggling import CORPUS, LAST

OTHER = "sk-other"
UNLOGGED = [(method, "/healthz") for method in ("GET", "HEAD")]
VICTIM = raw_request({"model": "tiny", "prompt": "victim"}, "/v1/completions").replace(
    SECRET.encode(), OTHER.encode()
)


@dataclass
class Ingress:
    """A Traefik, by its port, and where it writes down what it was asked."""

    port: int
    log: Path

    async def ask(self, sent: bytes) -> bytes:
        """Send these bytes on one connection; return all that comes back until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent + LAST)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.transport.abort()

    def passed_on(self) -> Counter[tuple[str, str]]:
        """Count the requests that it sent to the gateway, by method and path."""
        with self.log.open() as lines:
            told: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return Counter(
            (each["RequestMethod"], unquote(each["RequestPath"]))
            for each in told
            if each["OriginStatus"]
        )


@asynccontextmanager
async def ingress_to(live: Live, folder: Path, *, fast: bool) -> AsyncIterator[Ingress]:
    """Run a Traefik that passes everything on to this gateway."""
    rule = {"rule": "PathPrefix(`/`)", "service": "gateway"}
    servers = {"loadBalancer": {"servers": [{"url": live.url}]}}
    routes = {"http": {"routers": {"all": rule}, "services": {"gateway": servers}}}
    (folder / "routes.yaml").write_text(json.dumps(routes))
    ingress = Ingress(free_port(), folder / "access.log")
    command = [
        str(Cache(default_root()).program("traefik")),
        f"--entrypoints.web.address=127.0.0.1:{ingress.port}",
        f"--providers.file.filename={folder}/routes.yaml",
        f"--experimental.fastproxy={str(fast).lower()}",
        "--accesslog=true",
        "--accesslog.format=json",
        f"--accesslog.filepath={ingress.log}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await _until_it_serves(ingress)
        yield ingress
    finally:
        process.terminate()
        await process.wait()


async def _until_it_serves(ingress: Ingress) -> None:
    for _ in range(500):
        try:
            if b" 200 " in await ingress.ask(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n"):
                return
        except ConnectionError:
            pass
        await asyncio.sleep(0.02)
    raise AssertionError("Traefik did not begin to serve")


@pytest.mark.parametrize("fast", [True, False], ids=["fast proxy", "Go's client"])
async def test_ingress_gateway_and_engine_see_the_same_requests(tmp_path: Path, fast: bool) -> None:
    keys = (key(), key(OTHER, name="other"))
    async with (
        FakeVllm(answering(captured("completion"))) as engine,
        live_gateway(endpoint(engine.replica), keys=keys) as live,
        ingress_to(live, tmp_path, fast=fast) as ingress,
    ):
        for name, sent in CORPUS.items():
            engine.requests.clear()
            await ingress.ask(sent)
            # on the connections that the ingress keeps to the gateway
            assert b" 200 " in await ingress.ask(VICTIM), name
            asked = [each.json["prompt"] for each in engine.requests]
            assert asked in (
                ["victim"],
                ["outer", "victim"],
                ["inner", "victim"],
                ["outer", "inner", "victim"],
            ), name
    seen = [(line["method"], line["path"]) for line in live.lines()]
    passed_on = ingress.passed_on()
    assert Counter(seen) == passed_on - Counter({each: passed_on[each] for each in UNLOGGED})
