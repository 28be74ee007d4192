"""Every parameter that other services document for chats and completions does what it is for.

The tiny model makes it cheap to tell: at temperature 0 it says the same word for ever, so what a
parameter does is seen in one short answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.questions import PROMPT, WORD
from helpers.served_models import STORED, Served

pytestmark = pytest.mark.timeout(60, func_only=True)

LENGTH = 6
GREEDY = {"temperature": 0}
END, ASSISTANT = 2, 5  # tokens of the model's that are no text
LOUD = {**GREEDY, "logit_bias": {str(ASSISTANT): 100}}
Choice = dict[str, Any]
Check = Callable[[list[Choice]], bool]


def text_of(choice: Choice) -> str:
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def says(text: str) -> Check:
    return lambda choices: [text_of(choice) for choice in choices] == [text]


def says_not(text: str) -> Check:
    return lambda choices: text_of(choices[0]) != text


def stops_at(reason: object, text: str) -> Check:
    def check(choices: list[Choice]) -> bool:
        (choice,) = choices
        ended = choice["finish_reason"], choice["stop_reason"]
        return (text_of(choice), ended) == (text, ("stop", reason))

    return check


def are(number: int) -> Check:
    return lambda choices: len(choices) == number


def table(word: str) -> dict[str, tuple[dict[str, Any], Check]]:
    """Parameters and what shows that they are in force, where the model says this word."""
    usual = says(word * LENGTH)
    ended = {**GREEDY, "logit_bias": {str(END): 100}}
    readable = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
    stopped = {**GREEDY, "stop": word, "include_stop_str_in_output": True}
    return {
        "temperature": (GREEDY, usual),
        "max_tokens": ({**GREEDY, "max_tokens": 2}, says(word * 2)),
        "top_p": ({"top_p": 1e-6}, usual),
        "top_k": ({"top_k": 1}, usual),
        "top_k, none": ({**GREEDY, "top_k": -1}, usual),
        "min_p": ({"min_p": 1.0}, usual),
        "n": ({"n": 2}, are(2)),
        "best_of": ({"best_of": 3}, are(1)),
        "use_beam_search": ({**GREEDY, "use_beam_search": True, "n": 2}, are(2)),
        "length_penalty": ({**GREEDY, "use_beam_search": True, "length_penalty": 0.5}, are(1)),
        "stop": ({**GREEDY, "stop": word * 2}, stops_at(word * 2, "")),
        "stop, several": ({**GREEDY, "stop": ["no", word]}, stops_at(word, "")),
        "include_stop_str_in_output": (stopped, stops_at(word, word)),
        "stop_token_ids": ({**LOUD, "stop_token_ids": [ASSISTANT]}, stops_at(ASSISTANT, "")),
        "presence_penalty": ({**GREEDY, "presence_penalty": 2.0}, says_not(word * LENGTH)),
        "frequency_penalty": ({**GREEDY, "frequency_penalty": 2.0}, says_not(word * LENGTH)),
        "repetition_penalty": ({**GREEDY, "repetition_penalty": 9.0}, says_not(word * LENGTH)),
        "logit_bias": (LOUD, says("")),
        "skip_special_tokens": ({**LOUD, **readable}, says("<|assistant|>" * LENGTH)),
        "no ignore_eos": (ended, stops_at(None, "")),
        "ignore_eos": ({**ended, "ignore_eos": True}, lambda found: not stops_at(None, "")(found)),
        "user": ({**GREEDY, "user": "somebody"}, usual),
        "unknown": ({**GREEDY, "nobody_knows": {"a": [None]}}, usual),
        "structured_outputs": ({"structured_outputs": {"choice": ["yes"]}}, says("yes")),
    }


def have_logprobs(choices: list[Choice]) -> bool:
    return [len(each) for each in choices[0]["logprobs"]["top_logprobs"]] == [3] * LENGTH


COMPLETIONS = {
    **table(WORD),
    "echo": ({**GREEDY, "echo": True}, says(PROMPT + WORD * LENGTH)),
    "prompt": ({"prompt": [PROMPT, PROMPT]}, are(2)),
    "suffix": ({**GREEDY, "suffix": "end"}, says(WORD * LENGTH)),
    "logprobs": ({**GREEDY, "logprobs": 3}, have_logprobs),
}
CHAT_WORD = "\n"  # what it has to say to a chat's template


def is_said_by_the_user(choices: list[Choice]) -> bool:
    return bool(choices[0]["message"]["role"] == "user")


PARTS = [{"type": "text", "text": PROMPT}]
CHATS = {
    **table(CHAT_WORD),
    "add_generation_prompt": ({"add_generation_prompt": False}, is_said_by_the_user),
    "messages of parts": (
        {**GREEDY, "messages": [{"role": "user", "content": PARTS}]},
        says(CHAT_WORD * LENGTH),
    ),
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_of_completions(served: Served, name: str) -> None:
    parameters, holds = COMPLETIONS[name]
    asked: dict[str, Any] = {"prompt": PROMPT, "max_tokens": LENGTH, **parameters}
    choices = served.answer("/v1/completions", model=STORED, **asked)["choices"]
    assert holds(choices), choices


@pytest.mark.parametrize("name", CHATS)
def test_of_chats(served: Served, name: str) -> None:
    parameters, holds = CHATS[name]
    messages = [{"role": "user", "content": PROMPT}]
    asked: dict[str, Any] = {"messages": messages, "max_tokens": LENGTH, **parameters}
    choices = served.answer("/v1/chat/completions", model=STORED, **asked)["choices"]
    assert holds(choices), choices


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_seed_gives_the_same_answer_again(served: Served, path: str) -> None:
    asked = {"prompt": PROMPT, "messages": [{"role": "user", "content": PROMPT}]}
    asked.pop("messages" if path == "/v1/completions" else "prompt")
    answers = [
        text_of(served.answer(path, model=STORED, seed=seed, **asked)["choices"][0])
        for seed in (7, 7, 8)
    ]
    assert answers[0] == answers[1] != answers[2]
