"""Our HTTP client against what engines, and things that are no engines, send."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from endpoint_gateway.errors import BackendFailed, BackendTimeout, BadAnswer, ConnectionLost
from helpers.engine_client import CHUNKED, REQUEST, patience, pool_of, read, sending
from helpers.fake_vllm import Connection, FakeVllm, Script, chunk, response, until_it_stops


async def asked(script: Script) -> tuple[int, bytes]:
    async with FakeVllm(script) as engine, pool_of() as pool:
        connection = await pool.request(engine.replica, REQUEST, patience())
        return connection.status, await read(connection)


ANSWERS = {
    "by length": (response(b"hello"), False, (200, b"hello")),
    "empty": (response(b""), False, (200, b"")),
    "chunked": (CHUNKED + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n", False, (200, b"hello")),
    "chunk extensions": (CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n", False, (200, b"hello")),
    "trailers": (CHUNKED + chunk(b"hello") + b"0\r\nx: y\r\n\r\n", False, (200, b"hello")),
    "until close": (b"HTTP/1.1 200 OK\r\n\r\nhello", True, (200, b"hello")),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", True, (200, b"hello")),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", False, (200, b"hello")),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", False, (204, b"")),
    "an empty header": (
        b"HTTP/1.1 200 OK\r\nx:\r\ny: \r\ncontent-length: 5\r\n\r\nhello",
        False,
        (200, b"hello"),
    ),
    "after interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        + response(b"hello"),
        False,
        (200, b"hello"),
    ),
    "followed by rubbish": (response(b"hello") + b"rubbish", False, (200, b"hello")),
}


@pytest.mark.parametrize(("answer", "close", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_read_wherever_it_is_cut(
    answer: bytes, close: bool, expected: tuple[int, bytes]
) -> None:
    for cut in range(len(answer) + 1):
        script = sending(answer[:cut], answer[cut:], close=close)
        assert await asked(script) == expected, cut


async def test_the_headers_are_those_of_the_real_answer_in_lower_case() -> None:
    script = sending(b"HTTP/1.1 103 X\r\na: 1\r\n\r\nHTTP/1.1 204 X\r\nB: 2\r\nb: 3\r\n\r\n")
    async with FakeVllm(script) as engine, pool_of() as pool:
        connection = await pool.request(engine.replica, REQUEST, patience())
        connection.release()
    assert connection.headers == [(b"b", b"2"), (b"b", b"3")]


async def test_another_answer_after_the_real_one_leaves_no_trace_in_it() -> None:
    script = sending(response(b"hello") + response(b"other", content_type="text/html", status=500))
    async with FakeVllm(script) as engine, pool_of() as pool:
        connection = await pool.request(engine.replica, REQUEST, patience())
        assert await read(connection) == b"hello"
        await engine.left.acquire()
    assert (connection.status, dict(connection.headers)[b"content-type"]) == (
        200,
        b"application/json",
    )


BAD = {
    "rubbish": b"rubbish\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "a bad status": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "a status that there is not": b"HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n",
    "a status below all": b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n",
    "a coding below the chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"
    b"0\r\n\r\n",
    "a coding of its own header": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n"
    + CHUNKED[17:]
    + b"0\r\n\r\n",
    "a coding and no chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    "a bad header": b"HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n",
    "a length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n"
    + CHUNKED[17:]
    + b"0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "a huge length": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
    "a bad chunk": CHUNKED + b"xyz\r\n",
    "a huge chunk": CHUNKED + b"fffffffffffffffff\r\n",
    "a chunk that does not end": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "one that we can't pass on, and another": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked"
    b"\r\n\r\n0\r\n\r\n" + response(b"hello"),
    "an upgrade": b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20000,
    "an endless header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    "an endless status": b"HTTP/1.1 200 " + b"y" * 100_000,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    "an endless chunk extension": CHUNKED + b"1;" + b"x" * 1_000_000,
    "endless trailers": CHUNKED + b"0\r\n" + b"x: y\r\n" * 200_000,
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_what_is_no_answer_is_refused_and_its_connection_closed(answer: bytes) -> None:
    async with FakeVllm(sending(answer)) as engine, pool_of() as pool:
        with pytest.raises(BadAnswer):
            await read(await pool.request(engine.replica, REQUEST, patience()))
        await engine.left.acquire()


PIECES = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"\xff",
        b"0\r\n\r\n",
        b"HTTP/1.0",
        b"x:\r\n" * 300,
    ),
    *(b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n"),
    *(b"connection: close\r\n", b"upgrade: h2c\r\n", b"f" * 17, b"HTTP/1.1 103 X\r\na: b\r\n\r\n"),
)


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """Write an answer in which something was put in or left out, in pieces."""
    sent = draw(st.sampled_from([answer for answer, _, _ in ANSWERS.values()]))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(sent))), draw(st.integers(0, 10))
        sent = sent[:at] + draw(st.sampled_from([b"", *PIECES])) + sent[at + length :]
    cuts = sorted({0, len(sent), *draw(st.lists(st.integers(0, len(sent)), max_size=6))})
    return [sent[begin:end] for begin, end in pairwise(cuts)]


async def what_comes_of(pieces: list[bytes]) -> tuple[int, bytes] | None:
    try:
        return await asked(sending(*pieces, close=True))
    except BackendFailed:
        return None


@given(answers())
def test_whatever_an_engine_sends_is_an_answer_or_a_failure(pieces: list[bytes]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer = runner.run(what_comes_of(pieces))
    assert answer is None or (200 <= answer[0] < 600 and len(answer[1]) <= sum(map(len, pieces)))


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_an_answer_that_is_cut_off_anywhere_is_an_error(reset: bool) -> None:
    for answer in (response(b"hello"), CHUNKED + chunk(b"hello") + b"0\r\n\r\n"):
        for cut in range(len(answer)):

            async def script(connection: Connection, begin: bytes = answer[:cut]) -> None:
                await connection.request()
                await connection.send(begin)
                connection.reset() if reset else connection.writer.close()
                await connection.hung_up()

            with pytest.raises(ConnectionLost) as caught:
                await asked(script)
            # a reset may overtake the bytes before it
            assert caught.value.untouched is (cut == 0) or reset


async def test_a_reset_does_not_end_a_body_that_ends_with_its_connection() -> None:
    read_by_us = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await read_by_us.wait()
        connection.reset()

    async with FakeVllm(script) as engine, pool_of() as pool:
        streaming = patience(first_byte=5.0)
        connection = await pool.request(engine.replica, REQUEST, streaming)
        assert await connection.read() == b"hello"
        read_by_us.set()
        with pytest.raises(ConnectionLost):
            await connection.read()
        connection.release()


async def test_a_reader_that_lags_stops_the_engine() -> None:
    sent = 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(CHUNKED)
        for _ in range(300):
            await connection.send(chunk(b"x" * 65536))
            sent += 1
        await connection.send(b"0\r\n\r\n")
        await connection.hung_up()

    async with FakeVllm(script) as engine, pool_of() as pool:
        connection = await pool.request(engine.replica, REQUEST, patience())
        await until_it_stops(lambda: sent)
        assert sent < 150
        assert len(await read(connection)) == 300 * 65536


async def test_an_early_answer_to_a_request_that_was_not_read_ends_the_connection() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(response(b"too large", status=413))
        await connection.hung_up()

    large = [b"POST / HTTP/1.1\r\ncontent-length: 50000000\r\n\r\n", b"x" * 50_000_000]
    async with FakeVllm(script) as engine, pool_of() as pool:
        connection = await pool.request(engine.replica, large, patience())
        assert connection.status == 413
        await read(connection)
        await engine.left.acquire()


@pytest.mark.parametrize(
    "limits",
    [(0.05, None, None), (5.0, 0.05, 5.0)],
    ids=["total", "first byte"],
)
async def test_a_silent_engine_is_given_up(limits: tuple[float, float, float]) -> None:
    async with FakeVllm(sending()) as engine, pool_of() as pool:
        with pytest.raises(BackendTimeout):
            await pool.request(engine.replica, REQUEST, patience(*limits))
        await engine.left.acquire()
