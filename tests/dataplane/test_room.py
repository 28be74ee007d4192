"""How much of large bodies is held at a time, and for whom."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest

from endpoint_gateway.client import make_room, read_body
from endpoint_gateway.errors import Overloaded
from endpoint_gateway.exchange import Exchange
from endpoint_gateway.room import FREE_BYTES, Place, Room
from helpers.fake_vllm import Connection, FakeVllm, captured, response
from helpers.live_server import endpoint, key, live_gateway

KIB = 1024


def room(most: int = 400, largest: int = 100, **options: float) -> Room:
    return Room(most * KIB, largest=largest * KIB, **options)


async def taken(room: Room, owner: str, kib: int) -> Place:
    place = Place(room, owner)
    await place.take(kib * KIB)
    return place


async def test_what_is_taken_comes_back_at_the_end_of_the_block() -> None:
    whole = room()
    with await taken(whole, "a", 100) as place:
        assert whole.taken == 100 * KIB
        place.give_back(down_to=30 * KIB)
        assert whole.taken == 30 * KIB
    assert whole.taken == 0


async def test_who_finds_no_room_waits_for_it_in_order() -> None:
    whole = room(most=200)
    first, second = await taken(whole, "a", 100), await taken(whole, "b", 60)
    large = asyncio.create_task(taken(whole, "c", 50))
    small = asyncio.create_task(taken(whole, "d", 20))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    second.give_back(down_to=50 * KIB)
    await large
    assert not small.done()
    first.give_back()
    await small


async def test_one_owner_gets_half_and_who_waits_for_its_own_half_blocks_no_other() -> None:
    whole = room(most=400)
    mine = [await taken(whole, "a", 100) for _ in range(2)]
    more = asyncio.create_task(taken(whole, "a", 100))
    await asyncio.sleep(0)
    for _ in range(2):
        await taken(whole, "b", 100)
    assert not more.done()
    mine[0].give_back()
    await more


async def test_the_largest_body_fits_however_little_room_there_is() -> None:
    await taken(room(most=20, largest=100), "a", 100)


async def test_who_waits_too_long_is_refused_and_makes_way() -> None:
    whole = room(most=200, patience_seconds=0.02)
    await taken(whole, "a", 100)
    await taken(whole, "b", 60)
    large = asyncio.create_task(taken(whole, "c", 50))
    await asyncio.sleep(0.01)
    small = asyncio.create_task(taken(whole, "d", 40))
    with pytest.raises(Overloaded) as refused:
        await large
    await small
    assert (b"retry-after", b"1") in refused.value.headers


async def test_who_leaves_while_waiting_takes_nothing() -> None:
    whole = room(most=100)
    with await taken(whole, "a", 100):
        waiting = [asyncio.create_task(taken(whole, "b", 100)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    # let in, and cancelled before it could know
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert whole.taken == 0


async def refused_of(waiting: list[asyncio.Task[Place]]) -> int:
    """Say how many of these are refused at once, and end the others."""
    for _ in range(3):
        await asyncio.sleep(0)
    refused = [each for each in waiting if each.done()]
    assert {type(each.exception()) for each in refused} <= {Overloaded}
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return len(refused)


async def test_only_so_many_wait_of_one_and_of_all() -> None:
    whole = room(most=100)
    with await taken(whole, "a", 100):
        of_one = [asyncio.create_task(taken(whole, "b", 100)) for _ in range(70)]
        assert await refused_of(of_one) == 6
        of_all = [asyncio.create_task(taken(whole, str(n % 10), 100)) for n in range(260)]
        assert await refused_of(of_all) == 4
    assert whole.taken == 0


async def test_who_waits_for_its_own_half_costs_others_nothing() -> None:
    whole = room(most=400)
    for _ in range(2):
        await taken(whole, "a", 100)
    waiting = [asyncio.create_task(taken(whole, "a", 100)) for _ in range(300)]
    for _ in range(3):
        await asyncio.sleep(0)
    await taken(whole, "b", 100)
    assert Place(whole, "b").grow(50 * KIB)
    assert not Place(whole, "a").grow(50 * KIB)
    await refused_of(waiting)


async def test_an_answer_takes_no_room_that_somebody_waits_for() -> None:
    whole = room(most=200)
    await taken(whole, "a", 100)
    await taken(whole, "b", 60)
    waiting = asyncio.create_task(taken(whole, "c", 50))
    await asyncio.sleep(0)
    assert not Place(whole, "d").grow(20 * KIB)
    after_it = asyncio.create_task(taken(whole, "d", 50))
    await refused_of([after_it])
    assert not Place(whole, "d").grow(20 * KIB)
    await refused_of([waiting])
    assert Place(whole, "d").grow(20 * KIB)


async def test_a_request_that_has_begun_goes_on_before_those_who_wait() -> None:
    whole = room(most=200)
    with await taken(whole, "a", 60) as place:
        waiting = asyncio.create_task(taken(whole, "a", 50))
        await asyncio.sleep(0)
        assert not place.grow(80 * KIB)
        assert place.grow(80 * KIB, yields=False)
        assert not place.grow(101 * KIB, yields=False)
    await waiting


async def test_owners_take_turns() -> None:
    whole, turns = room(most=100, largest=50), list[str]()

    async def keep_asking(owner: str) -> None:
        while len(turns) < 30:
            with await taken(whole, owner, 50):
                turns.append(owner)
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for owner in "aaabccc":
            group.create_task(keep_asking(owner))
    assert min(turns.count(owner) for owner in "abc") >= 5


async def test_an_answer_grows_as_far_as_there_is_room() -> None:
    whole = room(most=200)
    await taken(whole, "a", 100)
    with Place(whole, "b") as place:
        assert place.grow(FREE_BYTES)
        assert whole.taken == 100 * KIB
        assert place.grow(90 * KIB)
        assert not place.grow(101 * KIB)
        assert whole.taken == 190 * KIB


def large(size: int) -> bytes:
    return json.dumps({"model": "tiny", "prompt": "x" * size}).encode()


async def test_a_large_body_waits_unread_until_an_answer_has_begun_and_a_small_one_does_not() -> (
    None
):
    answer = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            received = await connection.request()
            if len(received.body) > FREE_BYTES and received.headers.get("x-first"):
                await answer.wait()
            await connection.send(captured("completion"))

    tight: dict[str, Any] = {"max_body_bytes": 4_000_000, "body_memory_bytes": 5_000_000}
    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica), **tight) as live,
    ):
        body = large(3_000_000)
        send = live.client.post("/v1/completions", content=body, headers={"x-first": "1"})
        first = asyncio.create_task(send)
        await engine.asked.acquire()
        assert live.gateway.room.taken > 3_000_000
        second = asyncio.create_task(live.post("/v1/completions", body))
        assert (await live.post("/v1/completions", large(10))).status_code == 200
        assert len(engine.requests) == 2
        answer.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert live.gateway.room.taken == 0


class Wire:
    """A connection of which is to be seen how long a body may take."""

    seconds: float | None = None

    def write(self, data: bytes) -> None:
        pass

    def hold_reading(self) -> None:
        pass

    def go_on_reading(self) -> None:
        pass

    def hurry(self, seconds: float) -> None:
        self.seconds = seconds

    def answered(self, exchange: Exchange) -> None:
        pass


def asked(wire: Wire, *headers: tuple[bytes, bytes]) -> Exchange:
    return Exchange(
        wire, method="POST", path="/", headers=[*headers], version="1.1", keep_alive=True
    )


@pytest.mark.parametrize(("size", "seconds"), [(b"%d" % FREE_BYTES, None), (b"655360", 40)])
async def test_who_has_room_for_a_body_sends_it_soon(size: bytes, seconds: float | None) -> None:
    wire, whole = Wire(), room(4000, 1000)
    with Place(whole, "a") as place:
        await make_room(asked(wire, (b"content-length", size)), place, limit=1000 * KIB)
        assert whole.taken == (int(size) if seconds else 0)
    assert wire.seconds == seconds


async def test_a_body_without_a_length_takes_room_as_it_comes() -> None:
    wire, whole = Wire(), room(200, 100)
    exchange = asked(wire)
    with Place(whole, "a") as place:
        await make_room(exchange, place, limit=100 * KIB)
        assert (whole.taken, wire.seconds) == (0, 30 + 100 / 64)
        reading = asyncio.create_task(read_body(exchange, place, limit=100 * KIB))
        for _ in range(2):
            exchange.take_body(b"x" * 20 * KIB)
            await asyncio.sleep(0.001)
        assert whole.taken == 40 * KIB
        await taken(whole, "a", 50)
        exchange.take_body(b"x" * 20 * KIB)
        with pytest.raises(Overloaded):
            await reading


async def test_a_large_body_is_held_once_while_it_comes() -> None:
    exchange = Exchange(Wire(), method="POST", path="/", headers=[], version="1.1", keep_alive=True)
    tracemalloc.start()
    try:
        reading = asyncio.create_task(
            read_body(exchange, Place(room(8 * KIB, 8 * KIB)), limit=8 << 20)
        )
        for _ in range(64):
            exchange.take_body(b"x".ljust(65536))
            await asyncio.sleep(0)
        exchange.complete()
        body = await reading
        assert len(body) == 4 << 20
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(body)
    finally:
        tracemalloc.stop()


async def test_neither_a_wrong_key_nor_a_body_too_large_takes_room() -> None:
    tight: dict[str, Any] = {"max_body_bytes": 50_000, "body_memory_bytes": 50_000}
    async with live_gateway(endpoint(), keys=(key(), key("sk-b")), **tight) as live:
        with Place(live.gateway.room, "team-a") as place:
            await place.take(50_000)
            wrong = {"authorization": "Bearer wrong"}
            refused = await live.client.post(
                "/v1/completions", content=large(40_000), headers=wrong
            )
            assert refused.status_code == 401
            assert (await live.post("/v1/completions", large(60_000))).status_code == 413


async def test_an_answer_for_which_there_is_no_room_passes_as_it_comes() -> None:
    body = b'{"data":"' + b"x" * 300_000 + b'"}'

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(body))

    tight: dict[str, Any] = {"max_body_bytes": 50_000, "body_memory_bytes": 100_000}
    async with (
        FakeVllm(script) as engine,
        live_gateway(endpoint(engine.replica), **tight) as live,
    ):
        answer = await live.post("/v1/completions", large(10))
        assert answer.content == body
        assert answer.headers["transfer-encoding"] == "chunked"
        assert live.gateway.room.taken == 0
