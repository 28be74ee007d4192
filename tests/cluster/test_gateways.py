"""Gateways beside a real API server: whatever changes there, nobody's request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from endpoint_operator.live import Ref
from helpers import builders, live_keys, steady_users
from helpers.chaos_proxy import CALM, STORM, ChaosProxy, Odds
from helpers.fake_vllm import DONE, FakeVllm, delta, ending_at
from helpers.live_cluster import ControlPlane, LiveCluster
from helpers.live_gateways import NOT_READY, READY, TERMINATING, Fleet
from helpers.operator_process import HOST_DOMAIN, RELEASE, OperatorProcess
from helpers.steady_users import Asked, Question, asking
from kube_api import NotFound

Object = dict[str, Any]

AWAY = Odds(lost=2, broken_watch=1)
CHAT = "/v1/chat/completions"
PROMISED_SECONDS = 2.0

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture(params=[CALM, STORM], ids=["calm", "storm"])
def weather(request: pytest.FixtureRequest) -> Odds:
    """What the gateways' way to the API server is like."""
    odds: Odds = request.param
    return odds


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(
    plane: ControlPlane, cluster: LiveCluster, proxy: ChaosProxy, weather: Odds, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """Three gateways with the chart's rights, by way of a proxy."""
    proxy.odds = weather
    kubeconfig = await rights(plane, cluster, tmp_path / "config", url=proxy.url)
    async with started(cluster, kubeconfig) as running:
        yield running


async def rights(plane: ControlPlane, cluster: LiveCluster, target: Path, *, url: str = "") -> Path:
    admin = plane.kubeconfig
    return await RELEASE.kubeconfig("gateway", cluster.api, admin=admin, target=target, url=url)


@asynccontextmanager
async def started(cluster: LiveCluster, kubeconfig: Path) -> AsyncIterator[Fleet]:
    """Run three gateways with these rights."""
    told = RELEASE.environment("gateway") | {"KUBECONFIG": str(kubeconfig)}
    environ = {name: value for name, value in told.items() if not name.endswith("_PORT")}
    async with AsyncExitStack() as stack:
        fleet = Fleet(cluster, stack, environ)
        for _ in range(3):
            await fleet.start()
        yield fleet


def manifest(name: str, namespace: str, **spec: Any) -> Object:
    model = {"source": "hf://org/model", "servedNames": [f"{name}-7b"]}
    body = builders.endpoint(name, namespace, **{"model": model, "replicas": 0, **spec})
    return body | {"metadata": {"name": name, "namespace": namespace}}


async def new_key(cluster: LiveCluster, namespace: str, name: str, **spec: Any) -> str:
    await cluster.create(live_keys.manifest(name, namespace, **spec))
    return await live_keys.in_force(cluster, namespace, name)


def ways_to(namespace: str, key: str) -> list[Question]:
    """Return a question by each way to address the endpoint qwen."""
    return [
        Question(key, model="qwen-7b"),
        Question(key, model="qwen"),
        Question(key, model=f"{namespace}/qwen"),
        Question(key, model="stays"),
        Question(key, path=f"/qwen{CHAT}"),
        Question(key, path=f"/{namespace}.qwen/chat/completions", model="any"),
        Question(key, path=f"/v2/qwen/openai{CHAT}", model="qwen-7b"),
        Question(key, host=f"qwen.{namespace}", model="any"),
        Question(key, host=f"{namespace}.{HOST_DOMAIN}", model="any"),
    ]


async def served(cluster: LiveCluster, namespace: str, fleet: Fleet) -> list[Question]:
    """Have the endpoint qwen and a key for it; return a question by each way to it."""
    access = {"aliases": ["gone", "stays"], "hosts": [f"{namespace}.{HOST_DOMAIN}"]}
    await cluster.create(manifest("qwen", namespace, access=access))
    await fleet.tell(namespace, "qwen", await fleet.engine(steady_users.engine))
    questions = ways_to(namespace, await new_key(cluster, namespace, "users"))
    for question in questions:
        await fleet.everywhere(question, 200)
    return questions


class Changes:
    """Everything that is changed while users ask the endpoint qwen."""

    def __init__(self, cluster: LiveCluster, namespace: str, fleet: Fleet) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._fleet = fleet
        self.seconds: list[float] = []

    async def keys(self, users_key: str) -> None:
        """Make, suspend, rotate and delete a key; limit the one that users have."""
        cluster, namespace, fleet = self._cluster, self._namespace, self._fleet
        ref = Ref("ApiKey", namespace, "other")
        first = await new_key(cluster, namespace, "other")
        await fleet.everywhere(Question(first, model="qwen"), 200)
        await cluster.patch(ref, {"spec": {"suspended": True}})
        await self._ends(first)
        await cluster.patch(ref, {"spec": {"suspended": None}})
        await fleet.everywhere(Question(first, model="qwen"), 200)
        await cluster.patch(ref, {"spec": {"rotation": {"id": "2", "overlap": "0s"}}})
        await fleet.everywhere(Question(first, model="qwen"), 401)
        second = await live_keys.in_force(cluster, namespace, "other")
        await fleet.everywhere(Question(second, model="qwen"), 200)
        await cluster.delete(ref)
        await self._ends(second)
        limits = {"requestsPerMinute": 1_000_000, "maxInFlight": 1000}
        await cluster.patch(Ref("ApiKey", namespace, "users"), {"spec": {"limits": limits}})
        await fleet.everywhere(Question(users_key, model="qwen"), 200)

    async def _ends(self, key: str) -> None:
        begun = time.monotonic()
        await self._fleet.everywhere(Question(key, model="qwen"), 401)
        self.seconds.append(time.monotonic() - begun)

    async def endpoints(self, key: str) -> None:
        """Make another endpoint and delete it; change names and hosts of the one that is asked."""
        cluster, namespace, fleet = self._cluster, self._namespace, self._fleet
        engine = await fleet.engine(steady_users.engine)
        await cluster.create(manifest("coder", namespace))
        await fleet.tell(namespace, "coder", engine)
        await fleet.everywhere(Question(key, model="coder"), 200)
        access = {"aliases": ["new", "stays"], "hosts": [f"{namespace}.{HOST_DOMAIN}"]}
        for name, status in (("new", 200), ("gone", 404)):
            ref = Ref("InferenceEndpoint", namespace, "qwen")
            await cluster.patch(ref, {"spec": {"access": access}})
            await fleet.everywhere(Question(key, model=name), status)
        await cluster.delete(Ref("InferenceEndpoint", namespace, "coder"))
        await fleet.everywhere(Question(key, path=f"/coder{CHAT}"), 404)

    async def replicas(self, first: FakeVllm, asked: Asked) -> None:
        """Put an engine into the place of the first, which stops being ready; and again."""
        old = first
        for last_words in (NOT_READY, TERMINATING):
            new = await self._fleet.engine(steady_users.engine)
            await self._fleet.tell(self._namespace, "qwen", new)
            await new.asked.acquire()
            await self._fleet.tell(self._namespace, "qwen", old, last_words)
            await is_left_alone(old, asked)
            old.stop_listening()
            await self._fleet.forget(self._namespace, "qwen", old)
            old = new


async def is_left_alone(engine: FakeVllm, asked: Asked) -> None:
    """Wait until an engine gets no request while many are answered."""
    async with asyncio.timeout(60):
        before = -1
        while before != len(engine.requests):
            before = len(engine.requests)
            await asked.more(60)


async def test_no_legitimate_request_is_lost_whatever_changes(
    cluster: LiveCluster, namespace: str, fleet: Fleet, proxy: ChaosProxy, weather: Odds
) -> None:
    questions = await served(cluster, namespace, fleet)
    (first,) = fleet.engines
    key = questions[0].key
    changes = Changes(cluster, namespace, fleet)
    async with asking(fleet.urls, lambda: questions) as asked:
        await changes.keys(key)
        await changes.endpoints(key)
        await changes.replicas(first, asked)
        proxy.odds = AWAY
        await asked.more(300)
        late = await new_key(cluster, namespace, "late")
        proxy.odds = CALM
        await fleet.everywhere(Question(late, model="qwen"), 200)
    assert asked.failures == []
    assert asked.refused == 0
    assert weather is STORM or max(changes.seconds) < PROMISED_SECONDS


async def test_gateways_are_replaced_one_by_one_and_no_request_is_lost(
    cluster: LiveCluster, namespace: str, fleet: Fleet
) -> None:
    questions = await served(cluster, namespace, fleet)
    async with asking(fleet.urls, lambda: questions, users=9) as asked:
        for old in list(fleet.gateways):
            await asked.more(50)
            await fleet.start()
            old.process.send_signal(signal.SIGTERM)
            assert (await old.ended())[0] == 0
            fleet.gateways.remove(old)
        await asked.more(50)
    assert asked.failures == []
    assert asked.refused >= 9


async def test_no_request_is_lost_while_the_api_server_is_away(
    plane: ControlPlane,
    cluster: LiveCluster,
    namespace: str,
    operator: OperatorProcess,
    tmp_path: Path,
) -> None:
    kubeconfig = await rights(plane, cluster, tmp_path / "config")
    async with started(cluster, kubeconfig) as fleet:
        questions = await served(cluster, namespace, fleet)
        async with asking(fleet.urls, lambda: questions) as asked:
            operator.stop()
            plane.kill_api()
            await asked.more(300)
            await asyncio.to_thread(plane.start_again)
            await operator.start()
            key = await new_key(cluster, namespace, "late")
            await fleet.everywhere(Question(key, model="qwen"), 200)
    assert asked.failures == []


async def test_a_stream_outlives_its_key_its_endpoint_and_its_replica(
    cluster: LiveCluster, namespace: str, fleet: Fleet
) -> None:
    finish = asyncio.Event()
    await cluster.create(manifest("qwen", namespace))
    engine = await fleet.engine(ending_at(finish))
    await fleet.tell(namespace, "qwen", engine)
    key = await new_key(cluster, namespace, "users")
    models = Question(key, path="/qwen/v1/models", method="GET")
    await fleet.everywhere(models, 200)
    asked = Question(key, path=f"/qwen{CHAT}").request(stream=True)
    async with fleet.gateways[0].client.stream(**asked) as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == delta("one")
        await fleet.forget(namespace, "qwen", engine)
        await cluster.delete(Ref("InferenceEndpoint", namespace, "qwen"))
        await fleet.everywhere(models, 404)
        await cluster.delete(Ref("ApiKey", namespace, "users"))
        await fleet.everywhere(models, 401)
        finish.set()
        assert b"".join([piece async for piece in pieces]) == DONE


NAMES = ("qwen", "coder", "embed")
MODELS = ("common", "a", "b")
LIMIT = 6


class Dice:
    """Changes at random: endpoints with names that others have too, their engines, keys."""

    def __init__(self, cluster: LiveCluster, namespace: str, fleet: Fleet) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._fleet = fleet
        self._dice = Random(5)  # noqa: S311 - to fall the same way again

    async def throw(self, engines: Sequence[FakeVllm]) -> None:
        """Change something."""
        name, kind = self._dice.choice(NAMES), self._dice.randrange(5)
        endpoint = Ref("InferenceEndpoint", self._namespace, name)
        key = Ref("ApiKey", self._namespace, name)
        if kind == 0:
            await self._cluster.apply(self._endpoint(name))
        elif kind == 1:
            conditions = self._dice.choice([READY, READY, NOT_READY, TERMINATING])
            engine = self._dice.choice(engines)
            await self._fleet.tell(self._namespace, name, engine, conditions)
        elif kind == 2:
            spec = {"endpoints": self._dice.choice([["*"], [name], ["qwen", "coder"]])}
            await self._cluster.apply(live_keys.manifest(name, self._namespace, **spec))
        elif kind == 3:
            await self._delete(self._dice.choice([endpoint, key]))
        else:
            await self._fleet.count(self._dice.randrange(1, 4))

    def _endpoint(self, name: str) -> Object:
        model = {"source": "hf://org/model", "servedNames": [self._dice.choice(MODELS)]}
        access = {
            "aliases": self._dice.sample(["x", "y", "z"], 2),
            "hosts": [f"{self._dice.choice(NAMES)}.{HOST_DOMAIN}"],
            "modelField": self._dice.choice(["Ignore", "Match"]),
        }
        return manifest(name, self._namespace, model=model, access=access)

    async def _delete(self, ref: Ref) -> None:
        with contextlib.suppress(NotFound):
            await self._cluster.delete(ref)


def every_question(namespace: str, keys: Sequence[str]) -> list[Question]:
    """Return all that could have another answer after a change."""
    names = [*NAMES, *MODELS, *"xyz", *(f"{namespace}/{name}" for name in NAMES)]
    return [
        question
        for key in keys
        for question in (
            Question(key, path="/v1/models", method="GET"),
            *(Question(key, model=name) for name in names),
            *(Question(key, path=f"/{name}{CHAT}", model="x") for name in NAMES),
            *(Question(key, host=f"{name}.{HOST_DOMAIN}", model="x") for name in NAMES),
        )
    ]


async def test_gateways_agree_with_each_other_and_with_one_that_starts_anew(
    cluster: LiveCluster, namespace: str, fleet: Fleet
) -> None:
    engines = [await fleet.engine(steady_users.engine) for _ in range(3)]
    key = await new_key(cluster, namespace, "all")
    limited = await new_key(cluster, namespace, "few", limits={"requestsPerMinute": LIMIT})
    dice = Dice(cluster, namespace, fleet)
    keys = [key, "sk-unknown"]
    for _ in range(60):
        await dice.throw(engines)
    for name in NAMES:
        await cluster.apply(live_keys.manifest(name, namespace, endpoints=[name]))
        keys.append(await live_keys.in_force(cluster, namespace, name))
    await fleet.tell(namespace, "last", engines[0])
    await cluster.apply(manifest("last", namespace))
    await fleet.count(3)
    await fleet.everywhere(Question(key, model="last"), 200)
    await fleet.start()
    questions = every_question(namespace, keys)

    async def agree() -> bool:
        first, *others = await fleet.verdicts(questions)
        return all(each == first for each in others)

    await cluster.until(agree, what="the same answers everywhere")
    shares = [await fleet.answers(Question(limited, model="last")) for _ in range(LIMIT)]
    statuses = [[status for status, _ in each] for each in zip(*shares, strict=True)]
    assert statuses == [[200, 200, 429, 429, 429, 429]] * 4
