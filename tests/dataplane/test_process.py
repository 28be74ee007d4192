"""The process as a user runs it without a cluster: probes, metrics, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from endpoint_gateway.catalog import Catalog, Replica
from helpers import steady_users
from helpers.addresses import loopbacks
from helpers.fake_vllm import (
    DONE,
    STREAM_HEAD,
    Connection,
    FakeVllm,
    answering,
    captured,
    captured_body,
    chunk,
    delta,
    ending_at,
)
from helpers.gateway_process import gateway_process
from helpers.live_server import SECRET, endpoint, live_gateway, raw_request
from helpers.steady_users import Question, asking


def static(engine: FakeVllm, **environ: str) -> dict[str, str]:
    return {"API_KEYS": SECRET, "BACKEND_URL": engine.url, **environ}


async def test_one_vllm_is_served_from_two_variables() -> None:
    async with (
        FakeVllm(answering(captured("models"), captured("models"), captured("chat"))) as engine,
        gateway_process(static(engine, BACKEND_API_KEY="sk-its-own")) as running,
    ):
        listed = await running.client.get("/v1/models")
        one = await running.client.get("/v1/models/tiny")
        body = b'{"model": "any"}'
        answer = await running.client.post("/v1/chat/completions", content=body)
        page = await running.client.get(running.metrics_url)
        running.process.send_signal(signal.SIGTERM)
        status, log = await running.ended()
    assert status == 0
    assert listed.content == captured_body("models")
    assert one.json() == listed.json()["data"][0]
    assert answer.content == captured_body("chat")
    assert engine.requests[-1].body == body
    assert engine.requests[-1].headers["authorization"] == "Bearer sk-its-own"
    assert 'requests_total{endpoint="default/default",route="chat.completions"' in page.text
    assert [json.loads(line)["route"] for line in log.splitlines()] == [
        "models",
        "model",
        "chat.completions",
    ]


async def test_it_is_reached_by_every_kind_of_address() -> None:
    async with (
        FakeVllm(answering(captured("models"))) as engine,
        gateway_process(static(engine)) as running,
    ):
        for url in (str(running.client.base_url.join("/healthz")), running.metrics_url):
            for host in loopbacks():
                assert (await running.client.get(url.replace("127.0.0.1", host))).is_success


async def test_sigterm_lets_a_stream_finish_and_takes_no_new_connection() -> None:
    finish = asyncio.Event()

    async with FakeVllm(ending_at(finish)) as engine, gateway_process(static(engine)) as running:
        request = running.client.stream(
            "POST", "/v1/chat/completions", content=b'{"model":"x","stream":true}'
        )
        async with request as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == delta("one")
            running.process.send_signal(signal.SIGTERM)
            await until_refused(running.client)
            finish.set()
            assert b"".join([piece async for piece in pieces]) == DONE
        assert (await running.ended())[0] == 0


async def test_who_asks_once_more_in_the_meantime_is_answered_and_told_to_leave() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        gateway_process(static(engine)) as running,
    ):
        assert "connection" not in (await running.client.get("/healthz")).headers
        running.process.send_signal(signal.SIGTERM)
        await until_refused(running.client)
        last = await running.client.get("/readyz")
        with pytest.raises(httpx.ConnectError):
            await running.client.get("/readyz")
        status, _ = await running.ended()
    assert (last.status_code, last.headers["connection"]) == (503, "close")
    assert status == 0


async def test_a_gateway_that_ends_under_load_costs_no_request() -> None:
    async with (
        FakeVllm(steady_users.engine) as engine,
        gateway_process(static(engine)) as ending,
        gateway_process(static(engine)) as staying,
    ):
        urls = [str(each.client.base_url) for each in (ending, staying)]
        async with asking(urls, lambda: [Question(SECRET)], users=20) as asked:
            await asked.more(100)
            ending.process.send_signal(signal.SIGTERM)
            assert (await ending.ended())[0] == 0
            await asked.more(100)
    assert asked.failures == []
    assert asked.refused == 10


async def until_refused(client: httpx.AsyncClient) -> None:
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # taken, and ended at once
            pass
        else:
            writer.close()
        await asyncio.sleep(0.02)
    raise AssertionError("the gateway still takes connections")


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")))
        await connection.hung_up()

    async with (
        FakeVllm(script) as engine,
        gateway_process(static(engine, VLLM_ENDPOINTS_DRAIN_SECONDS="1")) as running,
    ):
        request = running.client.stream(
            "POST", "/v1/chat/completions", content=b'{"model":"x","stream":true}'
        )
        async with request as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == delta("one")
            running.process.send_signal(signal.SIGTERM)
            rest = b"".join([piece async for piece in pieces])
        assert b'"code":"shutting_down"' in rest
        status, log = await running.ended()
    assert status == 0
    assert b'"error":"shutting_down"' in log
    assert b'"trace"' not in running.said


async def test_a_client_that_does_not_read_outlasts_no_drain() -> None:
    full = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.writer.write(STREAM_HEAD)
        while connection.writer.transport.get_write_buffer_size() < 1 << 20:
            connection.writer.write(chunk(delta("x" * 20_000)))
            await asyncio.sleep(0)
        full.set()
        await connection.hung_up()

    async with (
        FakeVllm(script) as engine,
        gateway_process(static(engine, VLLM_ENDPOINTS_DRAIN_SECONDS="1")) as running,
    ):
        with socket.socket() as lagging:
            lagging.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            url = running.client.base_url
            lagging.connect((url.host, url.port))
            lagging.sendall(raw_request({"model": "x", "stream": True}))
            await full.wait()
            running.process.send_signal(signal.SIGTERM)
            assert (await running.ended())[0] == 0
    assert b'"trace"' not in running.said


async def test_a_second_signal_ends_what_is_in_flight() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + chunk(delta("one")))
        await connection.hung_up()

    async with FakeVllm(script) as engine, gateway_process(static(engine)) as running:
        request = running.client.stream(
            "POST", "/v1/chat/completions", content=b'{"model":"x","stream":true}'
        )
        async with request as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == delta("one")
            running.process.send_signal(signal.SIGTERM)
            await until_refused(running.client)
            running.process.send_signal(signal.SIGTERM)
            assert (await running.ended())[0] == 0
    assert b'"trace"' not in running.said


async def test_the_probes_are_open_and_tell_what_is_known() -> None:
    async with live_gateway(endpoint()) as live:
        del live.client.headers["authorization"]
        assert (await live.client.get("/healthz")).status_code == 200
        assert (await live.client.get("/readyz")).status_code == 200
        live.directory.ready = False
        assert (await live.client.get("/healthz")).status_code == 200
        assert (await live.client.get("/readyz")).status_code == 503
        live.directory.ready, live.gateway.phase.ending = True, True
        assert (await live.client.get("/readyz")).status_code == 503
        assert live.lines() == []


async def test_requests_are_counted_by_bounded_labels() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        await live.chat()
        await live.chat(model="made-up-by-a-client")
        await live.client.get("/made-up-by-a-client")
        page = live.gateway.metrics.page().decode()
    assert "made-up" not in page
    name = "vllm_endpoints_gateway_requests_total"
    counted = set(re.findall(rf"^{name}(.*)$", page, re.MULTILINE))
    assert counted == {
        '{endpoint="team-a/qwen",route="chat.completions",status="200"} 1.0',
        '{endpoint="",route="chat.completions",status="404"} 1.0',
        '{endpoint="",route="none",status="404"} 1.0',
    }
    assert "vllm_endpoints_gateway_requests_in_flight 0.0" in page
    first_byte = "vllm_endpoints_gateway_time_to_first_byte_seconds_count"
    assert f'{first_byte}{{endpoint="team-a/qwen",route="chat.completions"}} 1.0' in page


async def test_what_is_no_request_is_counted_too() -> None:
    environ = {"BACKEND_URL": "http://127.0.0.1:1", "API_KEYS": SECRET}
    async with gateway_process(environ) as running:
        url = running.client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        page = (await running.client.get(running.metrics_url)).text
    assert 'vllm_endpoints_gateway_refused_heads_total{status="400"} 1.0' in page


async def test_an_endpoint_that_is_gone_is_no_longer_counted() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica), endpoint(await gone(), name="other")) as live,
    ):
        await live.chat("team-a/qwen")
        await live.chat("team-a/other")
        await live.chat("made-up")
        metrics = live.gateway.metrics
        assert b"team-a/other" in metrics.page()
        metrics.retain(["team-a/qwen"])
        page = metrics.page().decode()
        assert "team-a/other" not in page
        counted = page.count('gateway_requests_total{endpoint="')
        await live.chat("team-a/other")
        await live.chat("team-a/qwen")
        page = metrics.page().decode()
    assert counted == 2
    labels = 'route="chat.completions",status='
    assert f'requests_total{{endpoint="team-a/qwen",{labels}"200"}} 2.0' in page
    assert f'requests_total{{endpoint="team-a/other",{labels}"502"}} 1.0' in page


async def gone() -> Replica:
    """Return a replica that refuses connections."""
    async with FakeVllm(answering(b"")) as engine:
        return engine.replica


@pytest.mark.parametrize("sent", [0, 200_000], ids=["without a body", "while it sends one"])
async def test_a_client_that_leaves_while_a_model_is_looked_up_is_noticed(sent: int) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.hung_up()

    async with FakeVllm(script) as engine, live_gateway() as live:
        backend = endpoint(engine.replica, served_names=())
        live.directory.catalog = Catalog.of([backend], catch_all=backend)
        _, writer = await live.connect()
        key = f"authorization: Bearer {SECRET}\r\n".encode()
        length = b"content-length: %d\r\n" % (2 * sent)
        writer.write(
            b"GET /v1/models/tiny HTTP/1.1\r\nhost: g\r\n" + key + length + b"\r\n" + b"x" * sent
        )
        await engine.asked.acquire()
        writer.transport.abort()
        await asyncio.wait_for(engine.left.acquire(), 5)
        assert live.balancer.in_flight(engine.replica) == 0


async def test_the_access_log_has_one_line_per_request_without_its_text() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        live_gateway(endpoint(engine.replica)) as live,
    ):
        answer = await live.chat(messages=[{"role": "user", "content": "a secret"}])
        (line,) = live.lines()
    assert b"a secret" not in live.log.getvalue()
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (
        line.items()
        >= {
            "log": "access",
            "method": "POST",
            "path": "/v1/chat/completions",
            "route": "chat.completions",
            "endpoint": "team-a/qwen",
            "key": "team-a/ci",
            "stream": False,
            "status": 200,
            "error": None,
            "attempts": 1,
        }.items()
    )
    assert 0 < line["first_byte_ms"] <= line["duration_ms"]


async def test_a_crowd_leaves_files_for_those_who_ask() -> None:
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        gateway_process(static(engine), files=128) as running,
    ):
        host, port = running.client.base_url.host, running.client.base_url.port
        crowd = [await asyncio.open_connection(host, port) for _ in range(200)]
        for _ in range(2):
            answer = await running.client.post("/v1/chat/completions", content=b'{"model":"x"}')
            assert answer.status_code == 200
        running.process.send_signal(signal.SIGTERM)
        await running.ended()
        for _, writer in crowd:
            writer.transport.abort()
    (warning,) = [json.loads(line) for line in running.said.splitlines()]
    assert warning["message"].startswith("32 connections are taken at a time, not 20000")


def memory_of(pid: int) -> int:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


STAYING = {"told to leave": "connection: close", "may stay": "x-b: 1", "refused": "host: other"}
LONG = "a" * 60_000
REQUESTS = {
    "in a header": ("/v1/embeddings", f"x-a: {LONG}"),
    "in the URL": (f"/v1/embeddings/{LONG}", "x-a: 1"),
}


@pytest.mark.parametrize(("path", "long"), REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("header", STAYING.values(), ids=STAYING)
async def test_who_stays_after_an_answer_holds_nothing_of_its_request(
    header: str, path: str, long: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{header}\r\ncontent-length: 1000000\r\n"
    request = f"{head}{long}\r\n\r\n{'z' * 60_000}".encode()
    async with (
        FakeVllm(answering(captured("chat"))) as engine,
        gateway_process(static(engine)) as running,
        contextlib.AsyncExitStack() as stack,
    ):
        url = running.client.base_url

        async def ask(clients: int) -> int:
            """Return the process' memory in KiB when so many clients have their answers."""
            for _ in range(clients):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                stack.callback(writer.close)
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 4")
            return memory_of(running.process.pid)

        before = await ask(20)
        assert await ask(200) - before < 200 * 30
