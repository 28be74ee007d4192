"""Users who ask gateways without a pause while something else goes on, and miss nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from helpers.fake_vllm import DONE, LAST_CHUNK, STREAM_HEAD, Connection, chunk, delta, response
from helpers.live_server import NO_TLS

PIECES = 5


async def engine(connection: Connection) -> None:
    """Answer whole or by a stream, as it is asked, each with a moment of work."""
    while True:
        asked = (await connection.request()).json
        await asyncio.sleep(0.002)
        if not asked.get("stream"):
            answer = {"object": "chat.completion", "model": asked.get("model"), "choices": []}
            await connection.send(response(json.dumps(answer).encode()))
            continue
        await connection.send(STREAM_HEAD)
        for number in range(PIECES):
            await connection.send(chunk(delta(str(number))))
            await asyncio.sleep(0.002)
        await connection.send(chunk(DONE) + LAST_CHUNK)


@dataclass(frozen=True)
class Question:
    """What a user asks: with which key, where, and for which model."""

    key: str
    path: str = "/v1/chat/completions"
    model: str | None = None
    host: str | None = None
    method: str = "POST"

    def request(self, *, stream: bool) -> dict[str, Any]:
        """Return what an HTTP client sends."""
        headers = {"authorization": f"Bearer {self.key}"}
        if self.host is not None:
            headers["host"] = self.host
        asked = {"method": self.method, "url": self.path, "headers": headers}
        content: dict[str, Any] = {"stream": stream, "messages": []}
        if self.model is not None:
            content["model"] = self.model
        return asked if self.method == "GET" else asked | {"json": content}


@dataclass
class Asked:
    """What came of it."""

    answers: int = 0
    streams: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answers + self.streams + answers
        async with asyncio.timeout(30):
            while self.answers + self.streams < wanted and not self.failures:
                self.news.clear()
                await self.news.wait()


Questions = Callable[[], Sequence[Question]]


@asynccontextmanager
async def asking(
    urls: Sequence[str], questions: Questions, *, users: int = 6
) -> AsyncIterator[Asked]:
    """Ask these gateways these questions until the block ends, some of them for streams.

    Whoever is refused a connection asks the next gateway.
    """
    asked, over = Asked(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(_ask(urls, questions, asked, number=number, over=over))
        try:
            yield asked
        finally:
            over.set()


async def _ask(
    urls: Sequence[str], questions: Questions, asked: Asked, *, number: int, over: asyncio.Event
) -> None:
    async with httpx.AsyncClient(timeout=20, verify=NO_TLS) as client:
        gateway = number
        for turn in count(number):
            if over.is_set():
                return
            known = questions()
            question = known[turn % len(known)]
            client.base_url = httpx.URL(urls[gateway % len(urls)])
            try:
                await _once(client, question, asked, stream=turn % 3 == 0)
            except httpx.ConnectError:
                asked.refused += 1
                gateway += 1
            except httpx.TransportError as error:
                asked.failures.append(f"{question}: {error!r}")
            asked.news.set()


async def _once(
    client: httpx.AsyncClient, question: Question, asked: Asked, *, stream: bool
) -> None:
    answer = await client.request(**question.request(stream=stream))
    if not answer.is_success:
        asked.failures.append(f"{question}: {answer.status_code} {answer.text}")
    elif stream:
        asked.streams += 1
        if answer.text.count("data: ") != PIECES + 1 or not answer.text.endswith(DONE.decode()):
            asked.failures.append(f"{question}: a stream that reads {answer.text}")
    else:
        asked.answers += 1
