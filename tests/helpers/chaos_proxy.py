"""Stands between a program and the API server, writes down what is asked, and misbehaves on demand.

It runs in a thread of its own, so that a test may wait for a process that needs it. It speaks plain
HTTP to the program and hands its credentials on. With one seed the same dice fall the same way.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from kube_api import Config
from kube_api.config import from_kubeconfig

HOP_BY_HOP: Final = ("connection", "content-length", "host", "transfer-encoding")
WRITES: Final = ("POST", "PATCH", "PUT", "DELETE")


@dataclass(frozen=True)
class Sent:
    """A request, and how it was answered; 0 where the answer was lost."""

    method: str
    path: str
    query: Mapping[str, str]
    status: int


@dataclass
class Odds:
    """How often things go wrong, as shares of the requests that they can happen to."""

    conflict: float = 0
    """409 to a write, which is not done."""
    busy: float = 0
    """429 with Retry-After; nothing is done."""
    error: float = 0
    """500, with or without the request being done."""
    lost: float = 0
    """The connection is reset before the request is done, or after."""
    slow: float = 0
    """Up to two seconds pass before anything happens."""
    garbage: float = 0
    """200 with a page of HTML, or half of the answer."""
    broken_watch: float = 0
    """A watch ends within seconds: cleanly, or in the midst of a line, or with an ERROR event."""


CALM: Final = Odds()
STORM: Final = Odds(
    conflict=0.06, busy=0.04, error=0.08, lost=0.08, slow=0.08, garbage=0.04, broken_watch=0.8
)


GALE: Final = Odds(
    conflict=0.03, busy=0.02, error=0.04, lost=0.04, slow=0.04, garbage=0.02, broken_watch=0.4
)


@dataclass
class ChaosProxy:
    """The proxy; a context that starts and stops it. ``odds`` may be changed while it runs.

    ``on_write`` is called, in the proxy's thread, before (``done`` False) and after each write.
    """

    upstream: Config
    seed: int = 0
    odds: Odds = field(default_factory=Odds)
    on_write: Callable[[bool], None] = lambda _: None
    sent: list[Sent] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Self:
        self._dice = random.Random(self.seed)  # noqa: S311 - to fall the same way again
        self._started, self._loop = threading.Event(), asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        connector = aiohttp.TCPConnector(limit=0, ssl=self.upstream.tls or True)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._started.set()
            await self._over.wait()
            await runner.cleanup()
        await asyncio.sleep(0.1)  # connections close a little later than they say

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        is_write = request.method in WRITES
        if self._happens(self.odds.slow):
            await asyncio.sleep(self._dice.uniform(0, 2))
        if refusal := self._refusal(is_write):
            return self._noted(request, refusal)
        if self._happens(self.odds.lost / 2):
            return self._lost(request)
        if is_write:
            self.on_write(False)
        try:
            return await self._forward(request, body)
        except asyncio.CancelledError:  # whoever asked is gone
            self._note(request, 0)
            raise

    def _refusal(self, is_write: bool) -> web.Response | None:
        if is_write and self._happens(self.odds.conflict):
            return status(409, "Conflict", "the object has been modified")
        if self._happens(self.odds.busy):
            return status(429, "TooManyRequests", "too many requests", {"Retry-After": "1"})
        if self._happens(self.odds.error / 2):
            return status(500, "InternalError", "etcdserver: leader changed")
        return None

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        url = URL(self.upstream.server + request.raw_path, encoded=True)
        kept = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        silence = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, data=body or None, headers=kept, timeout=silence
        ) as answer:
            if request.query.get("watch") == "true" and answer.status == 200:
                return await self._stream(request, answer)
            content = await answer.read()
        if request.method in WRITES:
            self.on_write(True)
        return self._answered(request, answer, content)

    def _answered(
        self, request: web.Request, answer: aiohttp.ClientResponse, content: bytes
    ) -> web.StreamResponse:
        if self._happens(self.odds.error / 2):
            return self._noted(request, status(500, "InternalError", "etcdserver: timed out"))
        if self._happens(self.odds.lost / 2):
            return self._lost(request)
        if self._happens(self.odds.garbage):
            content = self._dice.choice([b"<html>502</html>", content[: len(content) // 2]])
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
        return self._noted(request, web.Response(status=answer.status, body=content, headers=kept))

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        self._note(request, answer.status)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        breaks = self._happens(self.odds.broken_watch)
        try:
            async with asyncio.timeout(self._dice.uniform(0, 4) if breaks else None):
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
        except ConnectionError:
            pass  # whoever watched is gone
        except TimeoutError:
            await self._dice.choice([end, reset, cut, gone, failed, babble])(request, response)
        return response

    def _happens(self, share: float) -> bool:
        return self._dice.random() < share

    def _lost(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return self._noted(request, web.Response(status=500), heard=0)

    def _noted(
        self, request: web.Request, response: web.Response, *, heard: int | None = None
    ) -> web.Response:
        self._note(request, response.status if heard is None else heard)
        return response

    def _note(self, request: web.Request, heard: int) -> None:
        self.sent.append(Sent(request.method, request.path, dict(request.query), heard))


def recorder(kubeconfig: Path) -> ChaosProxy:
    """A proxy that only writes down what programs ask for with credentials of their own."""
    content: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    content["users"][0]["user"] = {}
    return ChaosProxy(from_kubeconfig(content, base=kubeconfig.parent))


def status(
    code: int, reason: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A failure as the API server describes it."""
    body = {"kind": "Status", "status": "Failure", "code": code}
    return web.json_response(
        body | {"reason": reason, "message": message}, status=code, headers=headers
    )


End = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


async def end(_: web.Request, response: web.StreamResponse) -> None:
    """End as the API server does."""
    await response.write_eof()


async def reset(request: web.Request, _: web.StreamResponse) -> None:
    """End as a firewall does."""
    if request.transport is not None:
        request.transport.abort()


async def cut(request: web.Request, response: web.StreamResponse) -> None:
    """End in the midst of a line."""
    await response.write(b'{"type":"MODIFIED","object":{"kind":"Secret","metadata":{"na')
    await reset(request, response)


async def gone(_: web.Request, response: web.StreamResponse) -> None:
    """End with what makes the client list again."""
    await _say(response, {"code": 410, "reason": "Expired", "message": "too old resource version"})


async def failed(_: web.Request, response: web.StreamResponse) -> None:
    """End with a failure of the store."""
    await _say(response, {"code": 500, "message": "etcdserver: no leader"})


async def babble(_: web.Request, response: web.StreamResponse) -> None:
    """End with what is no event at all."""
    await response.write(b"<html>upstream connect error</html>\n")


async def _say(response: web.StreamResponse, problem: Mapping[str, Any]) -> None:
    event = {"type": "ERROR", "object": {"kind": "Status", **problem}}
    await response.write(json.dumps(event).encode() + b"\n")
