"""The page about moving here holds: its base URLs, its programs, its settings, its parameters."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import yaml

from helpers.fake_vllm import FakeVllm, as_captured
from helpers.live_server import SECRET, Live, endpoint, live_gateway
from helpers.node import run_node
from helpers.tree import ROOT

PAGE = (ROOT / "docs" / "migration.md").read_text()
(OBJECT,) = yaml.safe_load_all(
    re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
)
MODEL = OBJECT["spec"]["model"]["servedNames"][0]
CHAT = "/v1/chat/completions"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def engine() -> AsyncIterator[FakeVllm]:
    async with FakeVllm(as_captured) as engine:
        yield engine


@pytest.fixture
async def live(engine: FakeVllm) -> AsyncIterator[Live]:
    spec = OBJECT["spec"]
    qwen = endpoint(
        engine.replica,
        **OBJECT["metadata"],
        served_names=tuple(spec["model"]["servedNames"]),
        aliases=tuple(spec["access"]["aliases"]),
        # the page's own host for the endpoint is this one (see `here`)
        hosts=("localhost",),
    )
    embed = endpoint(engine.replica, name="embed", served_names=("bge-m3",))
    async with live_gateway(qwen, embed) as live:
        yield live


def here(text: str, live: Live) -> str:
    """Put this gateway and a key of it into what the page shows."""
    text = text.replace("https://llm.example.com", live.url).replace("sk-...", SECRET)
    return text.replace("https://qwen.example.com", f"http://localhost:{live.port}")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without their own headings."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


BASES = {cells[0]: cells[2].strip("`") for cells in rows("Base URL and model")[1:]}
ANY_MODEL = {"Vast's proxy", "Yotta's endpoints"}


@pytest.mark.parametrize("origin", BASES)
async def test_its_base_urls_work_with_the_sdk(live: Live, engine: FakeVllm, origin: str) -> None:
    async with openai.AsyncOpenAI(
        base_url=here(BASES[origin], live), api_key=SECRET, max_retries=0
    ) as client:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert MODEL in [model.id async for model in client.models.list()]
        if origin in ANY_MODEL:
            await client.chat.completions.create(model="", messages=MESSAGES)
        else:
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert {received.path for received in engine.requests} == {CHAT}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


async def printed(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


PROGRAMS = dict(zip(["openai", "langchain", "anthropic"], blocks("python"), strict=True))
SAID = {"openai": "\n" * 9, "langchain": "64\n", "anthropic": "\n" * 9}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_its_python_runs(live: Live, name: str) -> None:
    assert f"from {name}" in PROGRAMS[name]
    assert await printed(sys.executable, "-c", here(PROGRAMS[name], live)) == SAID[name]
    embeds = name == "langchain"
    assert live.lines()[-1]["endpoint"] == ("team-a/embed" if embeds else "team-a/qwen")


async def test_its_javascript_runs(live: Live) -> None:
    (program,) = blocks("javascript")
    assert await run_node(here(program, live)) == "\n\n\n"


async def test_its_command_runs(live: Live, engine: FakeVllm) -> None:
    (command,) = blocks("bash")
    answer = json.loads(
        await printed("bash", "-c", here(command, live).replace("curl ", "curl -s "))
    )
    assert answer["choices"][0]["text"].startswith(" os")
    assert engine.requests[0].json["top_k"] == 20


OPTIONS = {
    name.removeprefix("--")
    for name in (ROOT / "tests" / "contract" / "vllm-options.txt").read_text().split()
}


def test_its_options_are_vllms() -> None:
    settings = " ".join(" ".join(cells) for cells in rows("Settings"))
    shown = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", settings)) - {"x-request-id"}
    assert {"max-model-len", "tool-call-parser"} <= shown
    assert shown - OPTIONS == set()
    flags = set(re.findall(r"`--([a-z-]+)`", settings)) - {"gpus"}  # Docker's
    assert flags - OPTIONS == {"task"}


def test_its_fields_are_those_of_the_api() -> None:
    api = (ROOT / "docs" / "reference" / "api.md").read_text()
    shown = set(re.findall(r"`(spec\.[\w.]+)`", PAGE))
    assert len(shown) > 8
    assert [field for field in shown if f"`{field}" not in api] == []


# what the documents of others name, each with a value of its type
OPENAIS: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "n": 2,
    "max_tokens": 500,
    "seed": 42,
    "stop": ["END", "\n\n"],
    "presence_penalty": -0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "user": "someone",
}
VLLMS: dict[str, Any] = {
    "best_of": 3,
    "top_k": -1,
    "ignore_eos": True,
    "use_beam_search": True,
    "stop_token_ids": [1, 2],
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "add_generation_prompt": False,
    "echo": True,
    "repetition_penalty": 1.1,
    "min_p": 0.05,
    "length_penalty": 1.0,
    "include_stop_str_in_output": True,
    "guided_choice": ["positive", "negative"],
    "chat_template_kwargs": {"enable_thinking": False},
    "what_nobody_knows": {"a": [None]},
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PICTURE = {"url": "data:image/png;base64,AA==", "detail": "high"}
CHATS: dict[str, Any] = {
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "logprobs": True,
    "top_logprobs": 5,
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": PICTURE}]}],
}
PROMPTS: dict[str, Any] = {"prompt": ["a", "b"], "logprobs": 5}
ADDRESSES = ["", "/qwen", "/v2/qwen/openai"]
PARAMETERS = {
    CHAT: {"messages": MESSAGES, **OPENAIS, **VLLMS, **CHATS},
    "/v1/completions": {"prompt": "hi", **OPENAIS, **VLLMS, **PROMPTS},
    "/v1/embeddings": {"input": ["a"], "encoding_format": "float", "dimensions": 8, "user": "u"},
    "/score": {"text_1": "a", "text_2": ["b", "c"], "encoding_format": "float"},
    "/rerank": {"query": "a", "documents": ["b", "c"], "top_n": 1},
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("path", PARAMETERS)
async def test_every_parameter_reaches_the_engine_as_it_was_sent(
    live: Live, engine: FakeVllm, path: str, address: str
) -> None:
    for name, value in PARAMETERS[path].items():
        # not as Python's json writes it, so that what is written anew is seen
        body = json.dumps({"model": MODEL, name: value}, separators=(" ,", " :  ")).encode()
        assert (await live.post(address + path, body)).status_code == 200
        assert engine.requests[-1].body == body, name


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_suffix_is_accepted_and_does_not_reach_the_engine(
    live: Live, engine: FakeVllm, stream: bool
) -> None:
    asked = {"model": MODEL, "prompt": "hi", "suffix": "end", "stream": stream}
    assert (await live.post("/v1/completions", asked)).status_code == 200
    assert engine.requests[0].json.get("suffix") is None
    assert b"end" not in engine.requests[0].body


async def test_a_request_id_is_the_clients_in_answer_and_engine(
    live: Live, engine: FakeVllm
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key=SECRET) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, extra_headers={"x-request-id": "sentiment-00001"}
        )
    assert answer._request_id == "sentiment-00001"
    assert engine.requests[0].headers["x-request-id"] == "sentiment-00001"


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/images/generations", "/v1/moderations"])
async def test_what_stays_unserved_is_a_501(live: Live, path: str) -> None:
    assert (await live.post(path, {"model": MODEL, "input": "hi"})).status_code == 501
