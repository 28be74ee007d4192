"""Limits and accounts of a key, with two gateways, real vLLM and a real Redis."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from hack.cluster.state import NODE_ADDRESS
from hack.demo import deploy
from helpers.demo_cluster import eventually
from helpers.questions import PROMPT, SHORT
from helpers.redis_server import RedisServer, redis_server
from helpers.served_models import KEY, NAMESPACE, RANKER, STORED, Served

pytestmark = [pytest.mark.timeout(180, func_only=True), pytest.mark.usefixtures("redis")]

METRIC = "vllm_endpoints_gateway_"
ASKED: dict[str, Any] = {"model": STORED, "prompt": PROMPT, "temperature": 0}
MESSAGES: list[Any] = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def redis(served: Served) -> Iterator[RedisServer]:
    """Gateways that count together, in a Redis on the node."""
    with (
        redis_server(host=NODE_ADDRESS) as server,
        served.demo.chart_values({"gateway.limits.redis.url": server.url}),
    ):
        yield server


def limited(served: Served, name: str, **limits: int) -> Served:
    """The endpoints, with a key of their own that has limits."""
    key = KEY | {"metadata": {"name": name, "namespace": NAMESPACE}}
    served.demo.apply_all([key | {"spec": {"endpoints": ["*"], "limits": limits}}])
    kubectl = served.demo.session.call_kubectl
    kubectl("wait", f"apikey/{name}", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s")
    secret = deploy.read_key(served.demo.session, f"{name}-api-key", namespace=NAMESPACE)
    other = Served(served.demo, secret)
    # lists of models count for nothing, and four in a row reach both gateways
    eventually(lambda: all(_is_known(other) for _ in range(4)), within_seconds=30)
    return other


def _is_known(served: Served) -> bool:
    with served.client() as client:
        try:
            return bool(client.models.list().data)
        except openai.AuthenticationError:
            return False


def gateways(served: Served, metric: str, **labels: str) -> list[float]:
    """A counter of each gateway, summed over other labels; 0 where it has not counted yet."""
    component = "app.kubernetes.io/component=gateway"
    pods = served.demo.session.items("pods", namespace=deploy.NAMESPACE, selector=component)
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    found = []
    for pod in (pod for pod in pods if "deletionTimestamp" not in pod["metadata"]):
        page = httpx.get(f"http://{pod['status']['podIP']}:9090/metrics").text
        lines = re.findall(rf"^{METRIC}{metric}(?:{{(.*)}})? (\S+)$", page, re.MULTILINE)
        found.append(sum(float(n) for label, n in lines if all(each in label for each in wanted)))
    return found


def statuses(served: Served, times: int, **asked: Any) -> Counter[int]:
    path = asked.pop("path", "/v1/completions")
    return Counter(served.post(path, **asked).status_code for _ in range(times))


def test_gateways_count_requests_together(served: Served) -> None:
    # one comes back every 15 s, and all of this takes a second
    user = limited(served, "counted", requestsPerMinute=4)
    left = []
    with user.client() as client:
        for _ in range(4):
            raw = client.completions.with_raw_response.create(**ASKED, max_tokens=1)
            assert raw.headers["x-ratelimit-limit-requests"] == "4"
            left.append(raw.headers["x-ratelimit-remaining-requests"])
        for _ in range(4):
            with pytest.raises(openai.RateLimitError, match="requests per min") as caught:
                client.completions.create(**ASKED, max_tokens=1)
            assert float(caught.value.response.headers["retry-after"]) <= 15
    assert left == ["3", "2", "1", "0"]
    told = {"endpoint": f"{NAMESPACE}/{STORED}", "key": f"{NAMESPACE}/counted"}
    by_gateway = gateways(served, "key_requests_total", **told)
    assert sum(by_gateway) == 8
    assert min(by_gateway) > 0, "one gateway alone was asked"
    assert sum(gateways(served, "key_requests_total", **told, status_class="2xx")) == 4


def test_an_endpoint_has_limits_of_its_own(served: Served) -> None:
    served.change(RANKER, access={"limits": {"requestsPerMinute": 4}})
    asked: dict[str, Any] = {"path": "/classify", "model": RANKER, "input": "one"}
    eventually(lambda: statuses(served, 6, **asked)[429] > 0, within_seconds=30)
    assert "this endpoint" in served.post("/classify", model=RANKER, input="one").text
    served.change(RANKER, access=None)
    eventually(lambda: statuses(served, 6, **asked) == {200: 6}, within_seconds=30)


def test_tokens_of_a_stream_are_taken_when_it_ends(served: Served) -> None:
    user = limited(served, "frugal", tokensPerMinute=60)
    with user.client() as client:
        list(client.completions.create(**ASKED, max_tokens=100, stream=True))

    def refusal() -> openai.RateLimitError | None:
        try:
            client.completions.create(**ASKED, max_tokens=1)
        except openai.RateLimitError as error:
            return error
        return None

    # the client has its last event a moment before the tokens are taken
    with user.client() as client:
        refused = eventually(refusal, within_seconds=5)
    assert refused is not None
    assert "tokens per min" in refused.message
    # more than 100 of 60: what is missing comes back within 40 s and a little
    headers = refused.response.headers
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert 20 < float(headers["retry-after"]) < 60


def test_a_stream_takes_a_place_until_it_ends(served: Served) -> None:
    user = limited(served, "alone", maxInFlight=1)

    def is_free() -> bool:
        return statuses(user, 4, **ASKED, max_tokens=1) == {200: 4}

    with user.client() as client:
        with client.completions.create(**ASKED, max_tokens=480, stream=True) as stream:
            next(iter(stream))
            with pytest.raises(openai.RateLimitError, match="in flight"):
                client.completions.create(**ASKED, max_tokens=1)
        eventually(is_free, within_seconds=30)


def test_without_its_redis_a_gateway_serves_and_says_so(served: Served, redis: RedisServer) -> None:
    user = limited(served, "resilient", requestsPerMinute=60)

    def both_say(up: float) -> bool:
        assert statuses(user, 2, **ASKED, max_tokens=1) == {200: 2}
        return gateways(served, "shared_limits_up") == [up, up]

    redis.kill()
    eventually(lambda: both_say(0), within_seconds=20, every_seconds=1)
    redis.start()
    eventually(lambda: both_say(1), within_seconds=20, every_seconds=1)


CHAT = {"model": STORED, "messages": MESSAGES, "max_tokens": SHORT}
COMPLETION = {**ASKED, "max_tokens": SHORT}
RESPONSE = {"model": STORED, "input": "Say something.", "max_output_tokens": SHORT}
COUNTED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", COMPLETION),
    ("/v1/completions", {**COMPLETION, "prompt": [PROMPT, "def "]}),
    ("/v1/responses", RESPONSE),
    ("/v1/messages", CHAT),
]


def test_tokens_are_counted_as_vllm_counts_them(served: Served) -> None:
    user = limited(served, "metered", requestsPerMinute=1000)
    names = ("prompt_tokens_total", "generation_tokens_total")
    before = [served.demo.engine_metric(name, STORED, NAMESPACE) for name in names]
    for path, asked in COUNTED:
        for stream in (False, True):
            assert user.post(path, **asked, stream=stream).status_code == 200
    after = [served.demo.engine_metric(name, STORED, NAMESPACE) for name in names]
    key = {"key": f"{NAMESPACE}/metered", "endpoint": f"{NAMESPACE}/{STORED}"}
    counted = [
        sum(gateways(served, "tokens_total", **key, direction=direction, estimated="false"))
        for direction in ("input", "output")
    ]
    assert counted == [now - then for then, now in zip(before, after, strict=True)]
    assert sum(gateways(served, "tokens_total", **key, estimated="true")) == 0
