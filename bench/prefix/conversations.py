"""The load: many conversations at a time, each turn of which repeats what was said before."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import httpx

from bench.prefix.engines import MODEL
from hack.cluster.processes import ClusterError

Message = dict[str, str]

SYSTEM_PROMPTS: Final = 4
SYSTEM_WORDS, QUESTION_WORDS, ANSWER_TOKENS = 60, 30, 12


@dataclass(frozen=True)
class Plan:
    """How many conversations there are, of how many turns, and how many turns run at a time."""

    conversations: int = 150
    turns: int = 6
    at_a_time: int = 24


@dataclass
class Conversation:
    """What was said so far."""

    messages: list[Message]
    words: random.Random = field(repr=False)

    def ask(self) -> None:
        """Add a question."""
        self.messages.append({"role": "user", "content": _text(self.words, QUESTION_WORDS)})

    def hear(self, answer: str) -> None:
        """Add an answer."""
        self.messages.append({"role": "assistant", "content": answer})


def conversations(number: int, *, seed: int) -> Iterator[Conversation]:
    """Give conversations that share a few system prompts; those of another seed share nothing."""
    words = random.Random(seed)  # noqa: S311 - the same load each time
    prompts = [_text(words, SYSTEM_WORDS) for _ in range(SYSTEM_PROMPTS)]
    for _ in range(number):
        system = {"role": "system", "content": words.choice(prompts)}
        yield Conversation([system], random.Random(words.random()))  # noqa: S311 - as above


def _text(words: random.Random, number: int) -> str:
    return " ".join(f"word{words.randrange(1000)}" for _ in range(number))


async def talk(plan: Plan, address: Callable[[], str], *, seed: int, key: str) -> list[float]:
    """Have all conversations; return how long each turn took, in milliseconds.

    `address` says where the next request goes. All conversations get their first turn, in some
    order, then their second one, and so on, so that each waits for all others between its turns.
    Raises ClusterError where a turn is not answered.
    """
    order = random.Random(seed)  # noqa: S311 - the same load each time
    everybody = list(conversations(plan.conversations, seed=seed))
    places = asyncio.Semaphore(plan.at_a_time)
    headers = {"authorization": f"Bearer {key}"}
    took: list[float] = []
    async with httpx.AsyncClient(headers=headers, timeout=300, trust_env=False) as client:
        for _ in range(plan.turns):
            order.shuffle(everybody)
            turns = (_turn(client, address, each, places=places) for each in everybody)
            took += await asyncio.gather(*turns)
    return took


async def _turn(
    client: httpx.AsyncClient,
    address: Callable[[], str],
    conversation: Conversation,
    *,
    places: asyncio.Semaphore,
) -> float:
    conversation.ask()
    body = {
        "model": MODEL,
        "messages": conversation.messages,
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
    }
    async with places:
        begun = time.monotonic()
        response = await client.post(f"{address()}/v1/chat/completions", json=body)
        took = time.monotonic() - begun
    if response.status_code != httpx.codes.OK:
        raise ClusterError(f"a turn was answered with {response.status_code}: {response.text}")
    conversation.hear(response.json()["choices"][0]["message"]["content"])
    return took * 1000
