"""A gateway's file that changes in every way that files do, while users ask and miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from helpers import steady_users
from helpers.fake_vllm import DONE, FakeVllm, delta, ending_at
from helpers.gateway_process import Running, gateway_process
from helpers.live_server import SECRET
from helpers.steady_users import Question, asking

Object = dict[str, Any]
Write = Callable[[Path, str], None]

CHAT = "/v1/chat/completions"
LASTING = (
    Question(SECRET, model="qwen-7b"),
    Question(SECRET, model="qwen"),
    Question(SECRET, model="stays"),
    Question(SECRET, path=f"/qwen{CHAT}", model="any"),
    Question(SECRET, path=f"/default.qwen{CHAT}"),
    Question(SECRET, path=f"/v2/qwen/openai{CHAT}", model="qwen-7b"),
    Question(SECRET, host="qwen.example.com", model="any"),
)


def in_place(path: Path, text: str) -> None:
    """Write over the file, as some editors do."""
    path.write_text(text)


def piecemeal(path: Path, text: str) -> None:
    """Write over the file bit by bit."""
    with path.open("w") as file:
        for at in range(0, len(text), 100):
            file.write(text[at : at + 100])
            file.flush()


def by_rename(path: Path, text: str) -> None:
    """Put another file into its place, as other editors do."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def by_link(path: Path, text: str) -> None:
    """Swap a link on the way to it, as the kubelet does with a ConfigMap."""
    data = path.parent / "..data"
    folder = path.parent / ("..2" if data.is_symlink() and data.readlink().name == "..1" else "..1")
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_text(text)
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(f"..data/{path.name}")
    new = path.parent / "..new"
    new.symlink_to(folder.name)
    new.rename(data)


def after_a_mistake(path: Path, text: str) -> None:
    """Write what is of no use first, and mend it."""
    path.write_text("endpoints: [")
    path.write_text(text[: len(text) // 2])
    path.unlink()
    path.write_text(text)


def content(number: int, *backends: FakeVllm, endpoints: list[Object], **limits: int) -> str:
    """Return a file in which all but the lasting names is another one each time."""
    hosts = ["qwen.example.com", f"qwen-{number}.example.com"]
    access = {"aliases": ["stays", f"alias-{number}"], "hosts": hosts}
    urls = [each.url for each in backends]
    qwen = {"name": "qwen", "models": ["qwen-7b"], "backends": urls, "access": access}
    keys: list[Object] = [
        {"name": "lasting", "key": SECRET, "limits": limits},
        {"name": "other", "key": f"sk-{number}"},
    ]
    return yaml.safe_dump({"endpoints": [qwen, *endpoints], "keys": keys})


async def in_force(running: Running, number: int) -> None:
    """Wait until the file of this number is in force, and see that the one before is not."""
    for _ in range(1000):
        if await status(running, f"sk-{number}") == 200:
            break
        await asyncio.sleep(0.02)
    assert await status(running, f"sk-{number - 1}") == 401


async def status(running: Running, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return (await running.client.get("/v1/models", headers=headers)).status_code


WAYS: tuple[Write, ...] = (in_place, piecemeal, by_rename, after_a_mistake, by_link, by_link)


async def test_no_legitimate_request_is_lost_however_the_file_changes(tmp_path: Path) -> None:
    path, finish = tmp_path / "gateway.yaml", asyncio.Event()
    async with (
        FakeVllm(steady_users.engine) as one,
        FakeVllm(steady_users.engine) as two,
        FakeVllm(ending_at(finish)) as slow,
    ):
        other = {"name": "other", "models": ["other"], "backends": [slow.url]}
        path.write_text(content(0, one, endpoints=[other]))
        async with gateway_process({}, "--config", str(path)) as running:
            stream = Question(SECRET, path=f"/other{CHAT}").request(stream=True)
            async with (
                running.client.stream(**stream) as answer,
                asking([str(running.client.base_url)], lambda: LASTING) as asked,
            ):
                pieces = answer.aiter_raw()
                assert await anext(pieces) == delta("one")
                for number, write in enumerate(WAYS, 1):
                    backends = [(one, two), (two,), (two, one)][number % 3]
                    limits = {"requestsPerMinute": 1_000_000 + number}
                    write(path, content(number, *backends, endpoints=[], **limits))
                    await in_force(running, number)
                    await asked.more(20)
                finish.set()
                assert b"".join([piece async for piece in pieces]) == DONE
    assert asked.failures == []
    assert asked.refused == 0
