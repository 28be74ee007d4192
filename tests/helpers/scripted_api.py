"""An API server that plays a script: what a real one can't be made to do on demand."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kube_api import Config, KubeClient, Resource

WIDGETS = Resource("example.dev", "v1", "widgets", "Widget")
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedApi:
    """Answers lists from one queue of replies and watches from another, in order."""

    def __init__(self) -> None:
        self.lists: deque[Reply] = deque()
        self.watches: deque[Reply] = deque()
        self.others: deque[Reply] = deque()
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(json.loads(await request.read() or b"null"))
        queue = self.others
        if "watch" in request.query:
            queue = self.watches
        elif "limit" in request.query:
            queue = self.lists
        if not queue:  # the script is over
            await asyncio.Event().wait()
        return await queue.popleft()(request)


@asynccontextmanager
async def scripted_api() -> AsyncIterator[tuple[ScriptedApi, KubeClient]]:
    """Serve a script on loopback and give it with a client for it."""
    script = ScriptedApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    script.url = f"http://{host}:{port}"
    try:
        async with KubeClient(Config(script.url, None), user_agent="test") as client:
            yield script, client
    finally:
        await runner.cleanup()


def widget(name: str, version: int, **fields: Any) -> dict[str, Any]:
    """An object as a watch delivers it."""
    meta = {"name": name, "namespace": "default", "resourceVersion": str(version), "uid": name}
    return {"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": meta, **fields}


def listing(*items: dict[str, Any], version: int, token: str = "") -> Reply:
    """A page of a list; like the real one it leaves out what kind its items are."""
    bare = [{k: v for k, v in i.items() if k not in ("apiVersion", "kind")} for i in items]
    meta = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    return answer({"metadata": meta, "items": bare})


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return reply


def failure(status: int, message: str = "no", **headers: str) -> Reply:
    return answer({"kind": "Status", "message": message, "reason": "R"}, status, headers)


def changes(
    *events: tuple[str, dict[str, Any]],
    then: bytes = b"",
    ended: bool = True,
    cut: int = 1 << 20,
    reset: bool = False,
) -> Reply:
    """A watch that delivers events and another line in pieces of ``cut`` bytes, then ends.

    The line is not ``ended`` where it breaks off; ``reset``: the connection is lost.
    """
    data = b"".join(json.dumps({"type": t, "object": o}).encode() + b"\n" for t, o in events)
    data += then + (b"\n" if then and ended else b"")

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(data), cut):
            await response.write(data[start : start + cut])
        if reset and request.transport is not None:
            request.transport.abort()
        return response

    return reply


def silence(*, begins: bool) -> Reply:
    """An answer without an end, or without even a beginning, until the client hangs up."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if begins:
            await response.prepare(request)
        while True:
            await asyncio.sleep(0.01)
            if request.transport is None:
                return response

    return reply


def deep(name: str, version: int, levels: int) -> bytes:
    """An object with a field so deep that no usual function writes it."""
    spec = b'{"a":' * levels + b'["}\\"{"]' + b"}" * levels
    return json.dumps(widget(name, version, spec=0)).encode()[:-2] + spec + b"}"


def text(body: bytes) -> Reply:
    """An answer as it is."""

    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return reply
