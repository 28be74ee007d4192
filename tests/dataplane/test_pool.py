"""Which connections to engines are kept, and what becomes of a request whose one is lost."""

from __future__ import annotations

import asyncio

import pytest

from endpoint_gateway.catalog import Replica
from endpoint_gateway.errors import BackendTimeout, ConnectFailed, ConnectionLost, EngineGone
from endpoint_gateway.pool import Pool
from endpoint_gateway.upstream import Limits
from helpers.engine_client import CHUNKED, REQUEST, patience, pool_of, read, sending
from helpers.fake_vllm import Connection, FakeVllm, answering, chunk, response


async def test_a_connection_is_used_again() -> None:
    async with FakeVllm(answering(response(b"hello"))) as engine, pool_of() as pool:
        for _ in range(3):
            await read(await pool.request(engine.replica, REQUEST, patience()))
        assert engine.connections == 1


NOT_AGAIN = {
    "the engine closes": response(b"hello", headers="connection: close\r\n"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "something follows": response(b"hello") + b"HTTP/1.1 200 OK\r\n",
}


@pytest.mark.parametrize("answer", NOT_AGAIN.values(), ids=NOT_AGAIN)
async def test_a_connection_is_not_used_again_where(answer: bytes) -> None:
    async with FakeVllm(answering(answer)) as engine, pool_of() as pool:
        for _ in range(2):
            await read(await pool.request(engine.replica, REQUEST, patience()))
        assert engine.connections == 2


async def test_an_answer_to_no_request_closes_its_connection() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"hello"))
        await connection.send(response(b"poison"))
        await connection.hung_up()

    async with FakeVllm(script) as engine, pool_of() as pool:
        await read(await pool.request(engine.replica, REQUEST, patience()))
        await engine.left.acquire()
        assert await read(await pool.request(engine.replica, REQUEST, patience())) == b"hello"


async def test_a_connection_whose_answer_was_not_read_is_closed() -> None:
    async with FakeVllm(sending(CHUNKED + chunk(b"hello"))) as engine, pool_of() as pool:
        connection = await pool.request(engine.replica, REQUEST, patience())
        connection.release()
        await engine.left.acquire()


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    limits = Limits(idle_seconds=0.02)
    async with FakeVllm(answering(response(b"hello"))) as engine, pool_of(limits) as pool:
        await read(await pool.request(engine.replica, REQUEST, patience()))
        await engine.left.acquire()


async def test_no_more_connections_are_kept_than_allowed() -> None:
    limits = Limits(idle_connections=1)
    async with FakeVllm(answering(response(b"hello"))) as engine, pool_of(limits) as pool:
        one = await pool.request(engine.replica, REQUEST, patience())
        two = await pool.request(engine.replica, REQUEST, patience())
        await read(one)
        await read(two)
        await engine.left.acquire()
        assert (engine.connections, engine.ended) == (2, 1)


async def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    async with FakeVllm(sending()) as engine, pool_of() as pool:
        task = asyncio.create_task(pool.request(engine.replica, REQUEST, patience()))
        await engine.asked.acquire()
        task.cancel()
        await engine.left.acquire()


async def test_a_connect_that_takes_too_long_is_given_up() -> None:
    limits = Limits(connect_seconds=1e-9)
    async with FakeVllm(sending()) as engine, pool_of(limits) as pool:
        with pytest.raises(ConnectFailed):
            await pool.request(engine.replica, REQUEST, patience())


@pytest.mark.parametrize("limits", [{"total": 0.0}, {"first_byte": 0.0}], ids=str)
async def test_a_limit_that_is_over_during_a_connect_is_no_fault_of_the_replica(
    limits: dict[str, float],
) -> None:
    async with FakeVllm(sending()) as engine, pool_of() as pool:
        with pytest.raises(BackendTimeout):
            await pool.request(engine.replica, REQUEST, patience(**limits))
        assert engine.requests == []


async def one_answer_then_reset(connection: Connection) -> None:
    await connection.request()
    await connection.send(response(b"hello"))
    await connection.request()
    connection.reset()


async def test_what_is_lost_with_a_kept_connection_is_sent_once_more() -> None:
    async with FakeVllm(one_answer_then_reset) as engine, pool_of() as pool:
        for _ in range(2):
            await read(await pool.request(engine.replica, REQUEST, patience()))
        assert (engine.connections, len(engine.requests)) == (2, 3)


async def test_what_is_lost_late_is_not_sent_again() -> None:
    limits = Limits(resend_seconds=0.0)
    async with FakeVllm(one_answer_then_reset) as engine, pool_of(limits) as pool:
        await read(await pool.request(engine.replica, REQUEST, patience()))
        with pytest.raises(ConnectionLost):
            await pool.request(engine.replica, REQUEST, patience())
        assert (engine.connections, len(engine.requests)) == (1, 2)


async def test_what_is_lost_with_the_engine_is_told_from_what_was_never_sent() -> None:
    async def mortal(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"hello"))
        await connection.request()
        connection.die()

    async with FakeVllm(mortal) as engine, pool_of() as pool:
        await read(await pool.request(engine.replica, REQUEST, patience()))
        with pytest.raises(EngineGone):
            await pool.request(engine.replica, REQUEST, patience())
        with pytest.raises(ConnectFailed):
            await pool.request(engine.replica, REQUEST, patience())


async def test_a_replica_is_known_to_be_there_before_it_answers() -> None:
    reached = asyncio.Event()
    async with FakeVllm(sending()) as engine, pool_of() as pool:
        asking = pool.request(engine.replica, REQUEST, patience(), reached=reached.set)
        task = asyncio.create_task(asking)
        await reached.wait()
        task.cancel()
        await engine.left.acquire()


async def test_a_name_whose_look_up_hangs_takes_one_place_however_many_ask() -> None:
    hanging: list[str] = []

    async def look_up(host: str, _port: int) -> list[str]:
        if host == "dead.example":
            hanging.append(host)
            await asyncio.Event().wait()
        return ["127.0.0.2", "127.0.0.1"]

    async with FakeVllm(answering(response(b"hello"))) as engine:
        pool = Pool(Limits(connect_seconds=0.1), look_up=look_up)
        dead, live = Replica("dead.example", 80), Replica("live.example", engine.replica.port)
        asked = [pool.request(dead, REQUEST, patience()) for _ in range(20)]
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in failed} == {ConnectFailed}
        assert hanging == ["dead.example"]
        assert await read(await pool.request(live, REQUEST, patience())) == b"hello"
        pool.close()


async def test_a_name_that_is_not_known_cannot_be_connected_to() -> None:
    async def look_up(host: str, _port: int) -> list[str]:
        raise OSError(f"{host} is not known")

    pool = Pool(Limits(), look_up=look_up)
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await pool.request(Replica("nowhere.example", 80), REQUEST, patience())


async def test_what_is_no_name_cannot_be_connected_to() -> None:
    with pytest.raises(ConnectFailed):
        await Pool(Limits()).request(Replica("a..b", 80), REQUEST, patience())
