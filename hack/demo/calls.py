"""What a user of the OpenAI SDK does: one function per call, nothing set but base URL and key.

Called by the demo, which prints what they return, and by the e2e tests, which look closer.
"""

from __future__ import annotations

import openai
from openai.types.chat import ChatCompletionUserMessageParam

QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "Say something."}
SEED = 7  # random weights give something to look at only when they are sampled from


def model_names(client: openai.OpenAI) -> list[str]:
    """Ids of the models that the key may use."""
    return [model.id for model in client.models.list()]


def completion(client: openai.OpenAI, model: str) -> str:
    """A short completion."""
    answer = client.completions.create(model=model, prompt="import os", max_tokens=8, temperature=0)
    return answer.choices[0].text


def chat(client: openai.OpenAI, model: str) -> str:
    """A short chat answer."""
    answer = client.chat.completions.create(
        model=model, messages=[QUESTION], max_tokens=16, seed=SEED
    )
    return answer.choices[0].message.content or ""


def streamed_chat(client: openai.OpenAI, model: str) -> list[str]:
    """The pieces of a streamed chat answer, in the order they came."""
    chunks = client.chat.completions.create(
        model=model, messages=[QUESTION], max_tokens=16, seed=SEED, stream=True
    )
    return [c.choices[0].delta.content or "" for c in chunks if c.choices]


def error_of_wrong_key(base_url: str, model: str) -> openai.AuthenticationError | None:
    """What the SDK raises for a key that does not exist; None if it raises nothing."""
    client = openai.OpenAI(base_url=base_url, api_key="sk-wrong", max_retries=0)
    try:
        chat(client, model)
    except openai.AuthenticationError as error:
        return error
    return None


def error_of_wrong_model(client: openai.OpenAI) -> openai.NotFoundError | None:
    """What the SDK raises for a model that does not exist; None if it raises nothing."""
    try:
        chat(client, "no-such-model")
    except openai.NotFoundError as error:
        return error
    return None
