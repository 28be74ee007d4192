"""The gateway as a process without a cluster, with a file of endpoints and keys."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from endpoint_gateway.errors import SettingsError
from endpoint_gateway.static import FileDirectory, Known
from helpers.fake_vllm import (
    DONE,
    FakeVllm,
    answering,
    captured,
    delta,
    ending_at,
)
from helpers.gateway_process import Running, gateway_process, start
from helpers.live_server import SECRET

CHAT = answering(captured("chat"))
KEY = {"name": "ci", "key": SECRET}


def entry(engine: FakeVllm, name: str = "qwen", **fields: Any) -> dict[str, Any]:
    return {"name": name, "models": [f"{name}-7b"], "backends": [engine.url], **fields}


def text(*endpoints: dict[str, Any], keys: list[dict[str, Any]] | None = None) -> str:
    return yaml.safe_dump({"endpoints": list(endpoints), "keys": keys or [KEY]})


async def ask(running: Running, url: str, **options: Any) -> httpx.Response:
    model = options.pop("model", None)
    body = json.dumps({"messages": []} | ({"model": model} if model else {}))
    return await running.client.post(url, content=body, **options)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to be")


ADDRESSES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a model": ("/v1/chat/completions", {"model": "coder-7b"}, "coder-7b"),
    "an adapter": ("/v1/chat/completions", {"model": "sql"}, "sql"),
    "an alias": ("/v1/chat/completions", {"model": "gpt"}, "coder-7b"),
    "the name": ("/v1/chat/completions", {"model": "coder"}, "coder-7b"),
    "namespace and name": ("/v1/chat/completions", {"model": "b/coder"}, "coder-7b"),
    "a path": ("/coder/v1/chat/completions", {"model": "any"}, "coder-7b"),
    "a path without v1": ("/coder/chat/completions", {"model": "any"}, "coder-7b"),
    "a path with the namespace": ("/b.coder/v1/chat/completions", {"model": "x"}, "coder-7b"),
    "an id": ("/v2/coder/openai/v1/chat/completions", {"model": "coder-7b"}, "coder-7b"),
    "a host": (
        "/v1/chat/completions",
        {"model": "any", "headers": {"host": "coder.example.com:8080"}},
        "coder-7b",
    ),
    "its name as host": (
        "/v1/chat/completions",
        {"model": "any", "headers": {"host": "coder.b"}},
        "coder-7b",
    ),
}


async def test_endpoints_of_a_file_are_addressed_as_in_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    async with FakeVllm(CHAT) as qwen, FakeVllm(CHAT) as coder:
        access = {"aliases": ["gpt"], "hosts": ["coder.example.com"]}
        other = entry(coder, "coder", namespace="b", adapters=["sql"], access=access)
        more: dict[str, Any] = {
            "apiKey": {"env": "ENGINE"},
            "access": {"limits": {"requestsPerMinute": 9}},
        }
        keys: list[dict[str, Any]] = [
            KEY,
            {"name": "qwens", "key": {"env": "QWENS"}, "endpoints": ["qwen"]},
        ]
        path.write_text(text(entry(qwen, **more), other, keys=keys))
        environ = {"QWENS": "sk-qwens", "ENGINE": "sk-engine"}
        async with gateway_process(environ, "--config", str(path)) as running:
            for name, (url, options, model) in ADDRESSES.items():
                answer = await ask(running, url, **options)
                assert answer.status_code == 200, name
                assert coder.requests[-1].json["model"] == model, name
            assert len(coder.requests) == len(ADDRESSES)
            assert not qwen.requests
            mine = {"authorization": "Bearer sk-qwens"}
            limited = await ask(running, "/v1/chat/completions", model="qwen-7b", headers=mine)
            strange = await ask(running, "/coder/v1/chat/completions", headers=mine)
            lists = [await running.client.get("/v1/models", headers=key) for key in ({}, mine)]
            one = await running.client.get("/v1/models/gpt")
            unknown = await ask(running, "/v1/chat/completions", model="other")
    assert limited.headers["x-ratelimit-limit-requests"] == "9"
    assert qwen.requests[0].headers["authorization"] == "Bearer sk-engine"
    assert "authorization" not in coder.requests[0].headers
    assert strange.status_code == 404
    listed = [[each["id"] for each in answer.json()["data"]] for answer in lists]
    assert listed == [["coder-7b", "sql", "gpt", "qwen-7b"], ["qwen-7b"]]
    assert (one.json()["id"], one.json()["created"]) == ("gpt", int(path.stat().st_mtime))
    assert unknown.json()["error"]["code"] == "model_not_found"


async def test_a_backend_that_is_gone_costs_no_request(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    async with FakeVllm(CHAT) as engine:
        async with FakeVllm(CHAT) as gone:
            backends = [gone.url, engine.url]
        path.write_text(text(entry(engine, backends=backends)))
        async with gateway_process({"VLLM_ENDPOINTS_CONFIG": str(path)}) as running:
            answers = [await ask(running, "/qwen/v1/chat/completions") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_file_that_is_swapped_is_in_force_without_a_dropped_request(tmp_path: Path) -> None:
    finish = asyncio.Event()

    # a ConfigMap's volume: the file is a link through a link, and the latter is swapped
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "gateway.yaml").symlink_to("..data/gateway.yaml")
    async with FakeVllm(ending_at(finish)) as before, FakeVllm(CHAT) as after:
        (tmp_path / "..1" / "gateway.yaml").write_text(text(entry(before)))
        keys = [{"name": "new", "key": "sk-new"}]
        (tmp_path / "..2" / "gateway.yaml").write_text(text(entry(after, "coder"), keys=keys))
        environ = {"VLLM_ENDPOINTS_CONFIG": str(tmp_path / "gateway.yaml")}
        async with gateway_process(environ) as running:
            request = running.client.stream(
                "POST", "/qwen/v1/chat/completions", content=b'{"stream":true}'
            )
            async with request as answer:
                pieces = answer.aiter_raw()
                assert await anext(pieces) == delta("one")
                (tmp_path / "..new").symlink_to("..2")
                (tmp_path / "..new").rename(tmp_path / "..data")

                async def is_in_force() -> bool:
                    new = {"authorization": "Bearer sk-new"}
                    return (await ask(running, "/coder/chat/completions", headers=new)).is_success

                await until(is_in_force)
                assert (await ask(running, "/qwen/chat/completions")).status_code == 401
                finish.set()
                assert b"".join([piece async for piece in pieces]) == DONE


async def test_a_file_with_a_mistake_changes_nothing_and_is_told_of_in_a_line(
    tmp_path: Path,
) -> None:
    path, key = tmp_path / "gateway.yaml", tmp_path / "key"
    key.write_text("sk-of-before\n")
    async with FakeVllm(CHAT) as engine:
        keys = [{"name": "ci", "key": {"file": str(key)}}]
        path.write_text(text(entry(engine), keys=keys))
        async with gateway_process({"VLLM_ENDPOINTS_CONFIG": str(path)}) as running:

            async def status(secret: str) -> int:
                headers = {"authorization": f"Bearer {secret}"}
                return (await ask(running, "/qwen/chat/completions", headers=headers)).status_code

            async def is_replaced() -> bool:
                return await status("sk-of-after") == 200

            assert await status("sk-of-before") == 200
            wrong = {"endpoints": [{"name": "Q", "backends": ["x"]}], "keys": keys}
            path.write_text(yaml.safe_dump(wrong))
            running.process.send_signal(signal.SIGHUP)
            assert await status("sk-of-before") == 200
            path.write_text(text(entry(engine), keys=keys))
            key.write_text("sk-of-after\n")
            await until(is_replaced)
            assert await status("sk-of-before") == 401
            running.process.terminate()
            await running.ended()
    lines = [json.loads(line) for line in running.said.splitlines()]
    told = [line["message"] for line in lines if line["level"] == "error"]
    assert told[0].startswith("what was before stays in force: ")
    assert "endpoints[0].name: must be" in told[0]
    assert "endpoints[0].backends[0]: must be" in told[0]
    assert b"sk-of" not in running.said


def directory(path: Path, taken: list[Known]) -> FileDirectory:
    return FileDirectory(path, {}, on_change=taken.append)


def written(name: str) -> str:
    return text({"name": name, "models": ["tiny"], "backends": ["http://x"]})


def test_a_file_is_read_when_it_is_no_longer_being_written(tmp_path: Path) -> None:
    path, taken = tmp_path / "gateway.yaml", list[Known]()
    path.write_text(written("one"))
    known = directory(path, taken)
    for name in ("a-half", "another-half", "two"):
        path.write_text(written(name))
        known.look()
    assert not taken
    for _ in range(3):
        known.look()
    assert [endpoint.name for endpoint in known.catalog.endpoints] == ["two"]
    assert taken == [(known.catalog, known.keyring)]


OF_NO_USE = {
    "nothing": "",
    "a list": "[]",
    "a loop": "a: &a [*a]",
    "no text": "a: \0",
    "deep": "[" * 5000,
    "a path that is none": written("one").replace(SECRET, '{file: "/run/\\0"}'),
    "no path at all": written("one").replace(SECRET, "{file: /}"),
}


@pytest.mark.parametrize("wrong", OF_NO_USE.values(), ids=OF_NO_USE)
def test_a_file_of_no_use_leaves_what_was_before(
    wrong: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, taken = tmp_path / "gateway.yaml", list[Known]()
    path.write_text(written("one"))
    known = directory(path, taken)
    path.write_text(wrong)
    known.reload()
    assert not taken
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "what was before stays in force"
    ]


def test_a_file_that_goes_away_leaves_what_it_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, taken = tmp_path / "gateway.yaml", list[Known]()
    path.write_text(written("one"))
    known = directory(path, taken)
    path.unlink()
    for _ in range(4):
        known.look()
    assert [endpoint.name for endpoint in known.catalog.endpoints] == ["one"]
    (line,) = caplog.messages
    assert line.endswith("can't be read (No such file or directory)")
    path.write_text(written("three"))
    for _ in range(2):
        known.look()
    assert [endpoint.name for endpoint in known.catalog.endpoints] == ["three"]


def test_a_secret_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    path, key, taken = tmp_path / "gateway.yaml", tmp_path / "key", list[Known]()
    path.write_text(written("one"))
    known = directory(path, taken)
    path.write_text(written("two").replace(SECRET, f"{{file: {key}}}"))
    for _ in range(3):
        known.look()
    assert not taken
    key.write_text("sk-late")
    for _ in range(2):
        known.look()
    assert [endpoint.name for endpoint in known.catalog.endpoints] == ["two"]


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"keys: \xff")
    with pytest.raises(SettingsError, match="is not text in UTF-8"):
        directory(path, [])


async def test_a_start_with_a_file_of_no_use_says_why_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("endpoints: []\nkeys: []\n")
    for named, said in (
        (path, [f"{path}: endpoints: must not be empty", f"{path}: keys: must not be empty"]),
        (tmp_path / "none", [f"{tmp_path}/none: can't be read (No such file or directory)"]),
    ):
        process = start({}, "--config", str(named))
        _, errors = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 2
        lines = errors.decode().removeprefix("endpoint-gateway: ").splitlines()
        assert [line.partition("; ")[0] for line in lines] == said


async def test_help_tells_of_the_file() -> None:
    process = start({}, "--help")
    output, _ = await asyncio.to_thread(process.communicate, timeout=20)
    assert b"--config FILE" in output
    assert b"VLLM_ENDPOINTS_CONFIG" in output
