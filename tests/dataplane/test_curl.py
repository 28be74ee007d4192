"""Command lines as others' documentation has them, with host and key changed."""

from __future__ import annotations

import asyncio
import json

import pytest

from helpers.fake_vllm import FakeVllm, as_captured
from helpers.live_server import SECRET, endpoint, live_gateway

NAMES = ("Qwen/Qwen2.5-7B-Instruct", "BAAI/bge-small-en-v1.5", "BAAI/bge-reranker-base")
HEADERS = '-H "Content-Type: application/json" -H "Authorization: Bearer $API_KEY"'
OTHER = '-H "Content-Type: application/json" -H "x-api-key: $API_KEY"'
ACCEPT = "-H 'accept: application/json'"
TALK = '"messages": [{"role": "user", "content": "What is vLLM?"}]'
QWEN, EMBED, RANK = (f'"model": "{name}"' for name in NAMES)
PAIRS = '"text_1": "The capital of France?", "text_2": ["Brasilia.", "Paris."]'
QUERY = '"query": "The capital of France?", "documents": ["Brasilia.", "Paris."]'
CHAT = "/v1/chat/completions"
# the command's arguments, the body, and what the engine is asked for
LINES = {
    "by path, any model": (f"$URL/qwen{CHAT} {HEADERS}", f'"model": "", {TALK}', CHAT),
    "with POST": (f"-X POST $URL{CHAT} {HEADERS}", f'{QWEN}, {TALK}, "max_tokens": 256', CHAT),
    "the other header": (f"$URL{CHAT} {OTHER}", f"{QWEN}, {TALK}", CHAT),
    "a stream": (f"-N $URL{CHAT} {HEADERS}", f'{QWEN}, "stream": true, {TALK}', CHAT),
    "a completion": (
        f"$URL/v1/completions {HEADERS}",
        f'{QWEN}, "prompt": "Finish this: GPU inference is", "max_tokens": 64',
        "/v1/completions",
    ),
    "an embedding": (
        f"$URL/v1/embeddings {HEADERS}",
        f'{EMBED}, "input": ["self hosted"]',
        "/v1/embeddings",
    ),
    "a score": (f"-X 'POST' $URL/score {ACCEPT} {HEADERS}", f"{RANK}, {PAIRS}", "/score"),
    "a ranking": (f"-X 'POST' $URL/v1/rerank {ACCEPT} {HEADERS}", f"{RANK}, {QUERY}", "/rerank"),
}


async def curl(arguments: str, url: str) -> str:
    """Run curl as a shell does it; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"curl -sS --fail-with-body {arguments}"),
        env={"URL": url, "API_KEY": SECRET, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


@pytest.mark.parametrize(("arguments", "body", "path"), LINES.values(), ids=LINES)
async def test_a_line_does_what_it_did_there(arguments: str, body: str, path: str) -> None:
    async with (
        FakeVllm(as_captured) as engine,
        live_gateway(endpoint(engine.replica, served_names=NAMES)) as live,
    ):
        said = await curl(f"{arguments} -d '{{{body}}}'", live.url)
    assert [received.path for received in engine.requests] == [path]
    if said.startswith("data: "):
        assert said.endswith("data: [DONE]\n\n")
    else:
        assert json.loads(said).keys() & {"choices", "data", "results"}


async def test_the_models_are_listed() -> None:
    async with live_gateway(endpoint(served_names=NAMES)) as live:
        said = await curl('$URL/v1/models -H "Authorization: Bearer $API_KEY"', live.url)
    assert [model["id"] for model in json.loads(said)["data"]] == list(NAMES)
