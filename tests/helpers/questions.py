"""Users who ask without a pause while something else goes on, and miss nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai

PAUSE_SECONDS = 0.1
WORD = " os"  # all that the tiny model has to say to PROMPT at temperature 0
PROMPT = "import os"
SHORT, LONG = 8, 200  # tokens; a long stream lasts a second or so
# what is sure to be answered with WORD, SHORT times
CERTAIN: dict[str, Any] = {"prompt": PROMPT, "max_tokens": SHORT, "temperature": 0}


@dataclass
class Asked:
    """What came of it: how many answers of each kind were right, and what was wrong."""

    answers: int = 0
    streams: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def questions_meanwhile(clients: Callable[[], openai.OpenAI], model: str) -> Iterator[Asked]:
    """Ask until the block ends, with the plain call and with streams at the same time."""
    asked, over = Asked(), threading.Event()

    def ask(once: Callable[[openai.OpenAI, str, Asked], None]) -> None:
        with clients() as client:
            while not over.wait(PAUSE_SECONDS):
                try:
                    once(client, model, asked)
                except openai.OpenAIError as error:
                    asked.failures.append(f"{error!r} because of {error.__cause__!r}")

    threads = [threading.Thread(target=ask, args=[once]) for once in (_plain, _stream)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _plain(client: openai.OpenAI, model: str, asked: Asked) -> None:
    answer = client.completions.create(model=model, **CERTAIN)
    asked.answers += 1
    if answer.choices[0].text != WORD * SHORT:
        asked.failures.append(f"an answer that reads {answer.choices[0].text!r}")


def _stream(client: openai.OpenAI, model: str, asked: Asked) -> None:
    chunks = list(
        client.completions.create(
            model=model, prompt=PROMPT, max_tokens=LONG, temperature=0, stream=True
        )
    )
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    asked.streams += 1
    if "".join(c.text for c in choices) != WORD * LONG or choices[-1].finish_reason != "length":
        asked.failures.append(f"a stream that ends after {len(choices)} pieces")
