"""The gateway as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import BinaryIO

import httpx

from helpers.live_server import NO_TLS, SECRET
from helpers.mortal import ending_with_us


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Running:
    """A gateway's process, what it writes, and a client with a key for it."""

    process: subprocess.Popen[bytes]
    output: BinaryIO
    errors: BinaryIO
    client: httpx.AsyncClient
    metrics_url: str
    said: bytes = b""

    async def ended(self) -> tuple[int, bytes]:
        """Wait for the end of the process; return its status and what it wrote.

        What it wrote to standard error is in `said` then.
        """
        status = await asyncio.to_thread(self.process.wait, timeout=30)
        self.said = _content(self.errors)
        return status, _content(self.output)


@asynccontextmanager
async def gateway_process(
    environ: dict[str, str], *arguments: str, files: int | None = None
) -> AsyncIterator[Running]:
    """Run a gateway with this environment until the end of the block, once it is ready.

    `files` is how many it may have open.
    """
    port, metrics_port = free_port(), free_port()
    environ = {
        "VLLM_ENDPOINTS_GATEWAY_PORT": str(port),
        "VLLM_ENDPOINTS_METRICS_PORT": str(metrics_port),
        **environ,
    }
    headers = {"authorization": f"Bearer {SECRET}"}
    url = f"http://127.0.0.1:{port}"
    # files, since a pipe that nobody reads is full one day
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = start(environ, *arguments, files=files, output=output, errors=errors)
        try:
            async with httpx.AsyncClient(
                base_url=url, headers=headers, timeout=10, verify=NO_TLS
            ) as client:
                await until_ready(client, process, errors)
                metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
                yield Running(process, output, errors, client, metrics_url)
        finally:
            process.kill()
            process.wait()


def start(
    environ: dict[str, str],
    *arguments: str,
    files: int | None = None,
    output: BinaryIO | int = subprocess.PIPE,
    errors: BinaryIO | int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start a gateway, of the code that runs the tests, with this environment and nothing else."""
    command = ending_with_us([sys.executable, "-m", "endpoint_gateway", *arguments])
    if files is not None:
        command = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$0" "$@"', *command]
    environ = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environ}
    return subprocess.Popen(command, env=environ, stdout=output, stderr=errors)


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


async def until_ready(
    client: httpx.AsyncClient, process: subprocess.Popen[bytes], errors: BinaryIO
) -> None:
    """Wait until the gateway says that it is ready."""
    for _ in range(1500):
        assert process.poll() is None, _content(errors).decode()
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the gateway did not become ready")
