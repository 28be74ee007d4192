"""The API server is believed only if its certificate is signed by whom we trust and names it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from helpers.live_cluster import ControlPlane
from kube_api import Config, KubeClient, Unavailable, load_config

ELSEWHERE = "127.0.0.2"  # which no certificate of the cluster names


@pytest.fixture
def config(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    return load_config()


@asynccontextmanager
async def relay(server: str) -> AsyncIterator[str]:
    """Give another address of the server."""
    address = urlsplit(server)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(
            pump(reader, onward[1]), pump(onward[0], writer), return_exceptions=True
        )

    listening = await asyncio.start_server(serve, ELSEWHERE, 0)
    yield f"https://{ELSEWHERE}:{listening.sockets[0].getsockname()[1]}"
    listening.close()


async def version(config: Config) -> str:
    async with KubeClient(config, user_agent="tests") as api:
        return str((await api.request("GET", "/version"))["major"])


async def test_a_server_that_we_trust_is_asked(config: Config) -> None:
    assert await version(config) == "1"


async def test_a_server_of_an_unknown_authority_is_told_nothing(config: Config) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await version(replace(config, tls=ssl.create_default_context()))


async def test_a_server_of_another_name_is_told_nothing(config: Config) -> None:
    async with relay(config.server) as server:
        with pytest.raises(Unavailable, match=f"not valid for '{ELSEWHERE}'"):
            await version(replace(config, server=server))
