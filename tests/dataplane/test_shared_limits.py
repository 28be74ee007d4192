"""Limits that gateways count together, with a real Redis."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from endpoint_gateway.catalog import Limits
from endpoint_gateway.errors import RateLimited, SharedLimitsAway
from endpoint_gateway.limits import Scope, pacing
from endpoint_gateway.shared_limits import Address, SharedLimits
from helpers.fake_vllm import Connection, FakeVllm, answering, captured
from helpers.gateway_process import Running, gateway_process
from helpers.live_server import SECRET, endpoint, key, live_gateway, raw_request
from helpers.redis_server import RedisServer, redis_server
from helpers.slow_path import slow_path


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def server(running: RedisServer) -> RedisServer:
    """The module's server, with nothing in it."""
    async with Redis.from_url(running.url) as client:
        await client.flushdb()
    return running


class Sharing(SharedLimits):
    """Limits shared by a server whose every answer is waited for long enough, unless told."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self.states: asyncio.Queue[bool] = asyncio.Queue()
        given = {name: options.pop(name) for name in Address._fields if name in options}
        options = {"prefix": "test", "trip_seconds": 5, **options}
        address = Address(**{"url": server.url, **given})
        super().__init__(address, on_change=self.states.put_nowait, **options)


async def is_up(shared: Sharing) -> bool:
    """Wait for the next change of whether the server can be had, and return it."""
    return await shared.states.get()


def scope(name: str = "key/a/b", **limits: int) -> Scope:
    return Scope(name, "API key", Limits(**limits))


async def admitted(shared: SharedLimits, *scopes: Scope) -> bool:
    try:
        await shared.admit(scopes)
    except RateLimited:
        return False
    return True


async def until_admitted(shared: SharedLimits, wanted: Scope) -> None:
    """Try again until there is room."""
    for _ in range(200):
        if await admitted(shared, wanted):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("there is no room")


async def test_a_limit_is_exact_with_three_gateways(server: RedisServer) -> None:
    limit = 12
    keys = (key(limits=Limits(requests_per_minute=limit)),)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(FakeVllm(answering(captured("chat"))))
        lives = []
        for _ in range(3):
            shared = await stack.enter_async_context(Sharing(server))
            assert await is_up(shared)
            live = live_gateway(endpoint(engine.replica), keys=keys, shared=shared)
            lives.append(await stack.enter_async_context(live))
        asked = [live.chat() for live in lives for _ in range(limit)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    # none came back before the last of them was asked: that takes five seconds
    assert (statuses.count(200), statuses.count(429)) == (limit, 2 * limit)


async def test_tokens_that_one_gateway_counts_are_missing_at_another(server: RedisServer) -> None:
    here = scope(tokens_per_minute=100)
    async with Sharing(server) as one, Sharing(server) as other:
        assert await is_up(one)
        assert await is_up(other)
        _, holder = await one.admit((here,))
        one.settle((here,), holder, tokens=1000)
        assert not await admitted(one, here)  # so that it has been told
        with pytest.raises(RateLimited) as caught:
            await other.admit((here,))
    assert "tokens per min (TPM): Limit 100, Used 1000." in caught.value.message
    assert dict(caught.value.headers)[b"x-ratelimit-remaining-tokens"] == b"0"


async def test_places_are_those_of_all_gateways(server: RedisServer) -> None:
    wide, narrow = scope(requests_per_minute=10), scope("endpoint/a/q", in_flight=1)
    async with Sharing(server) as one, Sharing(server) as other:
        assert await is_up(one)
        assert await is_up(other)
        standings, holder = await one.admit((narrow, wide))
        assert dict(pacing(standings))[b"x-ratelimit-remaining-requests"] == b"9"
        assert not await admitted(other, narrow, wide)
        one.settle((narrow, wide), holder, tokens=0)
        assert await admitted(one, wide)
        standings, _ = await other.admit((narrow, wide))
        # refused, it had taken nothing
        assert dict(pacing(standings))[b"x-ratelimit-remaining-requests"] == b"7"


async def test_the_places_of_a_gateway_that_is_no_more_come_back(server: RedisServer) -> None:
    narrow = scope(in_flight=1)
    async with Sharing(server, lease_seconds=0.6) as other:
        assert await is_up(other)
        async with Sharing(server, lease_seconds=0.6) as one:
            assert await is_up(one)
            assert await admitted(one, narrow)
            # it lives: its place is kept for longer than a lease
            for _ in range(10):
                assert not await admitted(other, narrow)
                await asyncio.sleep(0.1)
        await until_admitted(other, narrow)


async def test_a_request_that_is_given_up_while_it_waits_holds_no_place(
    server: RedisServer,
) -> None:
    narrow = scope(in_flight=1)
    async with Sharing(server) as shared:
        assert await is_up(shared)
        with server.frozen():
            waiting = asyncio.create_task(shared.admit((narrow,)))
            for _ in range(20):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        await until_admitted(shared, narrow)


async def test_nothing_is_kept_for_longer_than_it_means_anything(server: RedisServer) -> None:
    async with Sharing(server) as shared, Redis.from_url(server.url) as client:
        assert await is_up(shared)
        here = scope(requests_per_minute=60, tokens_per_minute=600, in_flight=3)
        _, holder = await shared.admit((here,))
        name = "{vllm-endpoints/test}:key/a/b"
        assert await client.pttl(name) > 3600_000
        shared.settle((here,), holder, tokens=100)
        assert await admitted(shared, scope("other", in_flight=1))
        assert 9_000 < await client.pttl(name) <= 10_001
        assert await client.hlen(name) == 3
        assert 0 < await client.pttl("{vllm-endpoints/test}:gateways") <= 24_000


@pytest.mark.parametrize("tokens", [10**13, 2**63 - 1], ids=["long", "endless"])
async def test_no_number_of_tokens_ends_what_gateways_share(
    tokens: int, server: RedisServer
) -> None:
    here = scope(tokens_per_minute=1)
    async with Sharing(server) as shared, Redis.from_url(server.url) as client:
        assert await is_up(shared)
        _, holder = await shared.admit((here,))
        shared.settle((here,), holder, tokens=tokens)
        for _ in range(2):
            assert not await admitted(shared, here)
        assert await admitted(shared, scope("other", in_flight=1))
        left = await client.pttl("{vllm-endpoints/test}:key/a/b")
    assert 29 * 86400_000 < left <= 30 * 86400_000 + 1


async def test_limits_that_change_while_a_round_trip_is_under_way_lose_no_place(
    server: RedisServer,
) -> None:
    old, new = scope(in_flight=1), scope(in_flight=2)
    async with Sharing(server) as shared:
        assert await is_up(shared)
        asked = [admitted(shared, each) for each in (new, old, new)]
        # what was taken is what those who were admitted give back
        assert await asyncio.gather(*asked) == [True, True, False]


async def test_a_server_that_forgot_the_script_is_told_it_again(server: RedisServer) -> None:
    async with Sharing(server) as shared, Redis.from_url(server.url) as client:
        assert await is_up(shared)
        await client.script_flush()
        assert await admitted(shared, scope(in_flight=1))


async def test_releases_with_one_server_do_not_share(server: RedisServer) -> None:
    async with Sharing(server) as one, Sharing(server, prefix="other") as other:
        assert await is_up(one)
        assert await is_up(other)
        assert await admitted(one, scope(in_flight=1))
        assert await admitted(other, scope(in_flight=1))


async def test_while_the_server_is_away_each_gateway_counts_its_share(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    keys = (key(limits=Limits(requests_per_minute=4)),)
    with redis_server() as server:
        async with (
            FakeVllm(answering(captured("chat"))) as engine,
            Sharing(server) as shared,
            live_gateway(endpoint(engine.replica), keys=keys, shared=shared) as live,
        ):
            live.directory.gateways = 2
            assert await is_up(shared)
            assert (await live.chat()).headers["x-ratelimit-remaining-requests"] == "3"
            server.kill()
            answers = [await live.chat() for _ in range(3)]
            assert [each.status_code for each in answers] == [200, 200, 429]
            assert not await is_up(shared)
            await tried_again(server.port)
            server.start()
            assert await is_up(shared)
            assert (await live.chat()).headers["x-ratelimit-remaining-requests"] == "3"
    said = [each.message for each in caplog.records if "shared limits" in each.message]
    assert len(said) == 2
    assert "is away" in said[0]
    assert "is back" in said[1]


async def tried_again(port: int) -> None:
    """Wait until somebody has tried twice to find a server here, in vain."""
    tries = asyncio.Semaphore(0)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        tries.release()

    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        for _ in range(2):
            await tries.acquire()


async def test_requests_wait_a_moment_for_a_slow_server_and_go_on_without(
    server: RedisServer,
) -> None:
    async with Sharing(server, trip_seconds=0.25) as shared:
        assert await is_up(shared)
        with server.frozen():
            waiting = [shared.admit((scope(requests_per_minute=9),)) for _ in range(500)]
            async with asyncio.timeout(2):
                refused = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(each) for each in refused} == {SharedLimitsAway}
            with pytest.raises(SharedLimitsAway):
                await shared.admit((scope(),))
        assert not await is_up(shared)
        assert await is_up(shared)
        assert await admitted(shared, scope())


@pytest.mark.parametrize(("given", "works"), [("secret", True), ("wrong", False), (None, False)])
async def test_the_password_can_come_beside_the_url(
    given: str | None, works: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(password="secret") as server:
        async with Sharing(server, password=given) as shared:
            assert await is_up(shared) is works
    assert "secret" not in caplog.text
    assert "wrong" not in caplog.text.replace("WRONGPASS", "")


@pytest.mark.parametrize(("given", "works"), [("secret", True), ("wrong", False)])
async def test_a_user_has_a_password_too(given: str, works: bool) -> None:
    with redis_server(user="gateways", password="secret") as server:
        async with Sharing(server, password=given) as shared:
            assert await is_up(shared) is works


async def test_the_certificate_of_a_server_is_checked(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tls=True) as server:
        async with Sharing(server, ca_file=server.ca_file) as shared:
            assert await is_up(shared)
            assert await admitted(shared, scope(requests_per_minute=1))
            assert not await admitted(shared, scope(requests_per_minute=1))
        async with Sharing(server) as shared:
            assert not await is_up(shared)
        async with Sharing(server, ca_file="/nowhere.crt") as shared:
            assert not await is_up(shared)
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert "No such file" in caplog.text


async def test_what_a_server_forgot_is_counted_anew(server: RedisServer) -> None:
    few = scope(requests_per_minute=2, in_flight=2)
    async with Sharing(server) as shared, Redis.from_url(server.url) as client:
        assert await is_up(shared)
        _, holder = await shared.admit((few,))
        assert await admitted(shared, few)
        assert not await admitted(shared, few)
        await client.flushall()
        shared.settle((few,), holder, tokens=0)
        assert [await admitted(shared, few) for _ in range(3)] == [True, True, False]


REFUSALS = {
    "a replica": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
    "a full one": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
    "one that is locked": (
        ["ACL", "SETUSER", "default", "-evalsha"],
        ["ACL", "SETUSER", "default", "+evalsha"],
    ),
}


@pytest.mark.parametrize(("begin", "end"), REFUSALS.values(), ids=REFUSALS)
async def test_a_server_that_refuses_is_told_of_and_stops_nobody(
    begin: list[str], end: list[str], server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    keys = (key(limits=Limits(requests_per_minute=2)),)
    client: Any = Redis.from_url(server.url)
    async with (
        client,
        FakeVllm(answering(captured("chat"))) as engine,
        Sharing(server) as shared,
        live_gateway(endpoint(engine.replica), keys=keys, shared=shared) as live,
    ):
        assert await is_up(shared)
        await client.execute_command(*begin)
        try:
            answers = [await live.chat() for _ in range(3)]
            assert not await is_up(shared)
        finally:
            await client.execute_command(*end)
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert await is_up(shared)
        assert (await live.chat()).status_code == 200
    assert caplog.text.count("is away") == 1


async def speak_nonsense(
    said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Agree to every command, and say this to whoever wants to be admitted."""
    while line := await reader.readline():
        words = []
        for _ in range(int(line[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        answer = b"+OK\r\n"
        if words[0] == b"HELLO":
            answer = b"%1\r\n+proto\r\n:3\r\n"
        elif words[0] == b"EVALSHA":
            answer = b"*0\r\n" if b'"wanted":[]' in words[-1] else said
        writer.write(answer)
    writer.close()


NONSENSE = {
    "too little": b"*2\r\n+0\r\n+0\r\n",
    "no numbers": b"*3\r\n+one\r\n+two\r\n:0\r\n",
    "no end of places": b"*3\r\n+0\r\n+0\r\n+inf\r\n",
    "more than a float": b"*3\r\n:" + b"9" * 400 + b"\r\n:0\r\n:0\r\n",
    "more than any time": b"*3\r\n+1e308\r\n+0\r\n+0\r\n",
    "nothing": b"_\r\n",
    "no number of members": b"*x\r\n",
    "less than no length": b"$-5\r\n",
    "a list as a key": b"%1\r\n*1\r\n+a\r\n+b\r\n",
    "lists in lists": b"*1\r\n" * 5000,
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_a_server_that_speaks_nonsense_counts_as_away_for_a_moment(
    said: bytes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with await asyncio.start_server(partial(speak_nonsense, said), "127.0.0.1", 0) as liar:
        url = f"redis://127.0.0.1:{liar.sockets[0].getsockname()[1]}/0"
        async with Sharing(server, url=url) as shared:
            assert await is_up(shared)
            with pytest.raises(SharedLimitsAway):
                await shared.admit((scope(requests_per_minute=9),))
            assert not await is_up(shared)
            assert await is_up(shared)
    assert "is away (InvalidResponse: " in caplog.text


async def test_a_fault_of_ours_ends_whoever_shares_instead_of_the_sharing_alone(
    server: RedisServer,
) -> None:
    def fail(_: bool) -> None:
        raise KeyError

    with pytest.raises(ExceptionGroup) as caught:
        async with (
            asyncio.timeout(5),
            SharedLimits(Address(server.url), prefix="test", on_change=fail),
        ):
            await asyncio.Event().wait()
    assert caught.value.subgroup(KeyError)


async def test_a_server_that_takes_too_long_is_done_without(server: RedisServer) -> None:
    async with slow_path(server.port, 0.2) as port:
        url = f"redis://127.0.0.1:{port}/0"
        async with Sharing(server, url=url, trip_seconds=0.1) as shared:
            assert not await is_up(shared)
            with pytest.raises(SharedLimitsAway):
                shared.admit((scope(),)).send(None)  # at once


async def test_who_finds_no_room_in_a_slow_servers_next_answer_goes_on_without(
    server: RedisServer,
) -> None:
    async with slow_path(server.port, 0.1) as port:
        url = f"redis://127.0.0.1:{port}/0"
        async with Sharing(server, url=url, trip_seconds=2) as shared:
            assert await is_up(shared) or await is_up(shared)
            asked = [shared.admit((scope(requests_per_minute=9999),)) for _ in range(10_000)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
    counted = [each for each in answers if not isinstance(each, SharedLimitsAway)]
    # 200 at a time, a tenth of a second each, for those who are still there
    assert 200 <= len(counted) <= 6000


async def test_a_place_is_held_over_both_gateways_until_its_client_leaves(
    server: RedisServer,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.hung_up()

    keys = (key(limits=Limits(in_flight=1)),)
    async with (
        FakeVllm(script) as engine,
        Sharing(server) as one,
        Sharing(server) as other,
        live_gateway(endpoint(engine.replica), keys=keys, shared=one) as first,
        live_gateway(endpoint(engine.replica), keys=keys, shared=other) as second,
    ):
        assert await is_up(one)
        assert await is_up(other)
        _, writer = await first.connect()
        writer.write(raw_request({"model": "tiny"}))
        await engine.asked.acquire()
        assert (await second.chat()).status_code == 429
        writer.transport.abort()
        await engine.left.acquire()
        await until_admitted(other, scope("key/team-a/ci", in_flight=1))


async def test_the_process_shares_what_it_counts_and_says_whether_it_can() -> None:
    with redis_server(password="sk-secret") as server:
        environ = {
            "API_KEYS": SECRET,
            "BACKEND_URL": "http://127.0.0.1:1",
            "VLLM_ENDPOINTS_LIMITS_REDIS_URL": server.url,
            "VLLM_ENDPOINTS_LIMITS_REDIS_PASSWORD": "sk-secret",
        }
        async with gateway_process(environ) as running:
            assert await shown(running, "shared_limits_up 1.0")
            server.kill()
            assert await shown(running, "shared_limits_up 0.0")
            running.process.send_signal(signal.SIGTERM)
            status, log = await running.ended()
    assert status == 0
    assert b"is away" in running.said
    assert b"sk-secret" not in running.said + log


async def shown(running: Running, text: str) -> bool:
    """Wait until the page of metrics has this."""
    for _ in range(300):
        if text in (await running.client.get(running.metrics_url)).text:
            return True
        await asyncio.sleep(0.05)
    return False
