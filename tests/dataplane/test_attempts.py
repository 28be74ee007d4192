"""How long the attempts at one request may take, without a gateway around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from endpoint_gateway.balancer import Balancer
from endpoint_gateway.catalog import Replica
from endpoint_gateway.catalog import Timeouts as OwnTimeouts
from endpoint_gateway.dispatch import Dispatcher, Pool, Timeouts
from endpoint_gateway.errors import ConnectFailed
from endpoint_gateway.metrics import Metrics
from endpoint_gateway.patience import Patience
from endpoint_gateway.record import Record
from endpoint_gateway.request import Request
from endpoint_gateway.upstream import Connection as Upstream
from helpers.engine_client import pool_of
from helpers.fake_vllm import Connection, FakeVllm, response
from helpers.live_server import endpoint

REQUEST, STREAM = (
    Request("/v1/chat/completions", [], [b"{}"], request_id=b"1", stream=stream)
    for stream in (False, True)
)
A, B, C = Replica("a", 1), Replica("b", 1), Replica("c", 1)


def dispatcher(pool: Pool, *, error: float = 1.0) -> Dispatcher:
    timeouts = Timeouts(first_byte=2.0, idle=3.0, total=5.0, error=error)
    return Dispatcher(balancer=Balancer(), pool=pool, timeouts=timeouts, metrics=Metrics())


def record() -> Record:
    return Record("POST", REQUEST.path, b"1", 0.0)


# ruff: noqa: ARG002 - the signature is Pool's
class Refused:
    """Connects to nobody, and writes down until when it was to try."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []

    async def request(
        self,
        replica: Replica,
        request: Sequence[bytes | memoryview],
        patience: Patience,
        *,
        reached: Callable[[], None],
    ) -> Upstream:
        self.deadlines.append(patience.deadline)
        raise ConnectFailed("refused")


async def test_all_attempts_together_have_one_deadline() -> None:
    pool = Refused()
    with pytest.raises(ConnectFailed):
        await dispatcher(pool).open(endpoint(A, B, C), REQUEST, record()).__aenter__()
    assert len(pool.deadlines) == 3
    assert len(set(pool.deadlines)) == 1


async def test_only_streams_have_limits_between_their_beginning_and_their_end() -> None:
    asking = dispatcher(Refused())
    whole, stream = asking.patience(endpoint(), REQUEST), asking.patience(endpoint(), STREAM)
    assert (whole.first_byte_seconds, whole.idle_seconds) == (None, None)
    assert (stream.first_byte_seconds, stream.idle_seconds) == (2.0, 3.0)


async def test_an_endpoints_own_limits_on_time_come_before_the_gateways() -> None:
    own = OwnTimeouts(connect=0.5, first_byte=20.0, total=40.0)
    now = asyncio.get_running_loop().time()
    patience = dispatcher(Refused()).patience(endpoint(timeouts=own), STREAM)
    assert patience.connect_seconds == 0.5
    assert (patience.first_byte_seconds, patience.idle_seconds) == (20.0, 3.0)
    assert patience.deadline - now == pytest.approx(40, abs=1)


async def test_an_error_whose_body_stalls_is_not_waited_for() -> None:
    async def stalling(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"no room", status=500)[:-1])
        await connection.hung_up()

    async with FakeVllm(stalling) as engine, pool_of() as pool:
        one = endpoint(engine.replica)
        async with dispatcher(pool, error=0.01).open(one, REQUEST, record()) as answer:
            assert (answer.status, await answer.read(), await answer.read()) == (
                500,
                b"no roo",
                b"",
            )
