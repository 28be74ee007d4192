"""An engine whose every byte is scripted: what a real one can't be made to do on demand.

A script is a coroutine that gets one connection and does with it what it likes. `answering` makes
the usual one, which gives each request the same answer and keeps the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from endpoint_gateway.catalog import Replica

CAPTURES = Path(__file__).parent.parent / "dataplane" / "captures"


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    head: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection, as the engine sees it."""

    def __init__(
        self, engine: FakeVllm, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._engine = engine
        self._reader = reader
        self.writer = writer

    async def request(self) -> Received:
        """Read a whole request. Raises IncompleteReadError when the gateway hangs up."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        received = Received(method, path, headers, body, head)
        self._engine.requests.append(received)
        self._engine.asked.release()
        return received

    async def send(self, *pieces: bytes) -> None:
        """Write each piece, and let the gateway read it, before the next."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(4):
                await asyncio.sleep(0)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        at_once = struct.pack("ii", 1, 0)
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.writer.transport.abort()

    def die(self) -> None:
        """End the connection, and with it the engine: it accepts no other."""
        self._engine.stop_listening()
        self.reset()

    async def hung_up(self) -> None:
        """Wait until the gateway has closed the connection."""
        with contextlib.suppress(ConnectionError):
            await self._reader.read()


Script = Callable[[Connection], Awaitable[None]]


@dataclass
class FakeVllm:
    """A listening engine; use it as an asynchronous context manager."""

    script: Script
    host: str = "127.0.0.1"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    left: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, self.host, 0, limit=1 << 26)
        host, port = self._server.sockets[0].getsockname()
        self.replica = Replica(host, port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop_listening(self) -> None:
        """Refuse new connections from now on."""
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://{self.replica.host}:{self.replica.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self.script(Connection(self, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the gateway hung up, or the test is over
        finally:
            self._tasks.discard(task)
            self.ended += 1
            self.left.release()
            writer.transport.abort()


async def until_it_stops(count: Callable[[], int]) -> None:
    """Return when a count has not moved for many turns of the loop: they all wait for us."""
    before, quiet = -1, 0
    while quiet < 300:
        await asyncio.sleep(0)
        quiet = quiet + 1 if count() == before else 0
        before = count()


def answering(*answers: bytes) -> Script:
    """Answer each request with these bytes (several: each with the next, the last for ever)."""
    remaining = list(answers)

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            await connection.send(answer)

    return script


def response(
    body: bytes, *, status: int = 200, content_type: str = "application/json", headers: str = ""
) -> bytes:
    """Return a whole answer with its content-length."""
    return (
        f"HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """Frame a chunk of a body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(content: object) -> bytes:
    """Return an event with this JSON."""
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def delta(text: str, *, finish_reason: str | None = None) -> bytes:
    """Return the event of one piece of a chat answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "tiny",
            "choices": [choice],
        }
    )


def stream(events: Iterable[bytes]) -> bytes:
    """Return a whole answer that streams these events."""
    return STREAM_HEAD + b"".join(chunk(each) for each in events) + LAST_CHUNK


def ending_at(finish: asyncio.Event) -> Script:
    """Stream one piece, and the end once this is set; then wait for the gateway to hang up."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")))
        await finish.wait()
        await connection.send(chunk(DONE) + LAST_CHUNK)
        await connection.hung_up()

    return script


def captured_body(name: str) -> bytes:
    """Return the body that a real vLLM sent (tests/dataplane/captures)."""
    text = (CAPTURES / f"{name}.txt").read_bytes()
    return text.partition(b"\r\n\r\n")[2].rstrip(b"\n")


def captured(name: str) -> bytes:
    """Return the whole answer that a real vLLM sent, framed anew."""
    text = (CAPTURES / f"{name}.txt").read_bytes()
    head = text[text.index(b"HTTP/1.1") :].partition(b"\r\n\r\n")[0]
    status = int(head.split(b" ")[1])
    if b"chunked" in head:
        body = captured_body(name) + b"\n\n"
        return stream(part + b"\n\n" for part in body.split(b"\n\n")[:-1])
    return response(captured_body(name), status=status)


def piece(text: str, *, finish_reason: str | None = None) -> bytes:
    """Return the event of one piece of a completion."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return event(
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "tiny",
            "choices": [choice],
        }
    )


_STREAMED_COMPLETION = stream([piece(" os"), piece(" os", finish_reason="length"), DONE])
_WHOLE = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embed",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/tokenize": "tokenize",
    "/score": "rank-score",
    "/rerank": "rank-rerank",
}
_STREAMED = {
    "/v1/chat/completions": "chat-stream-usage",
    "/v1/responses": "responses-stream",
    "/v1/messages": "messages-stream",
}


async def as_captured(connection: Connection) -> None:
    """Answer every request as a real vLLM answered one of its kind."""
    while True:
        received = await connection.request()
        if not received.json.get("stream"):
            await connection.send(captured(_WHOLE[received.path]))
        elif received.path in _STREAMED:
            await connection.send(captured(_STREAMED[received.path]))
        else:
            await connection.send(_STREAMED_COMPLETION)
