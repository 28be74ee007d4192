"""Changes of a serving endpoint, while users ask without a pause and miss nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from hack.cluster.addons import GPU_RESOURCE
from hack.demo import calls, deploy
from hack.demo.runtimes import GPUS
from hack.demo.session import JsonObject
from hack.images.catalog import ENGINE
from helpers import packets
from helpers.builders import condition_of
from helpers.demo_cluster import Demo, eventually
from helpers.questions import questions_meanwhile
from helpers.served_models import NAMESPACE, ROLLING, STORED, Served
from helpers.small_endpoints import small_endpoint

pytestmark = pytest.mark.timeout(900, func_only=True)


@contextmanager
def losing_nothing(served: Served) -> Iterator[None]:
    """Users ask the endpoint meanwhile, and each gets what was asked for."""
    with questions_meanwhile(served.client, ROLLING) as asked:
        yield
    assert asked.failures == []
    assert asked.answers, "nobody asked"
    assert asked.streams, "nobody streamed"


def message(status: dict[str, object], kind: str) -> str:
    return str(condition_of({"status": status}, kind)["message"])


def test_a_rollout_that_never_gets_ready_leaves_the_old_replica_serving(served: Served) -> None:
    before = served.only_pod(ROLLING)
    with losing_nothing(served):
        served.change(ROLLING, engine={"args": ["--no-such-option"]})
        status = served.wait_for(ROLLING, Progressing="BadEngineArgument", Ready="Serving")
        assert status["phase"] == "Degraded"
        assert "--no-such-option" in message(status, "Progressing")
        served.change(ROLLING, engine={"args": ["--max-num-seqs=3"]})
        assert served.wait_for(ROLLING, Progressing="Complete")["phase"] == "Ready"
        assert served.only_pod(ROLLING) != before


def test_new_names_are_in_force_at_once_and_lose_nothing(served: Served) -> None:
    before = served.only_pod(ROLLING)

    def known() -> bool:
        try:
            return calls.completion(client, "renamed") != ""
        except openai.NotFoundError:
            return False

    with losing_nothing(served), served.client() as client:
        served.change(ROLLING, model={"servedNames": [ROLLING, "renamed"]})
        eventually(known, within_seconds=60)
        assert served.status(ROLLING)["engineNames"] == [ROLLING]  # of the engine before
        served.wait_for(ROLLING, Progressing="Complete")
        assert served.only_pod(ROLLING) != before
    assert served.status(ROLLING)["engineNames"] == [ROLLING, "renamed"]


def holds_its_gpus(pod: JsonObject) -> bool:
    """Whether a pod has what it asks for: one that waits or has ended does not."""
    is_over = pod["status"]["phase"] in ("Succeeded", "Failed")
    return "nodeName" in pod["spec"] and not is_over


@contextmanager
def no_gpu_left(demo: Demo) -> Iterator[None]:
    """Somebody else holds every GPU that is free."""
    pods = json.loads(demo.session.call_kubectl("get", "pods", "-A", "-o", "json"))["items"]
    held = [p["spec"]["containers"] for p in pods if holds_its_gpus(p)]
    limits = [c["resources"].get("limits", {}) for containers in held for c in containers]
    free = GPUS - sum(int(limit.get(GPU_RESOURCE, 0)) for limit in limits)
    demo.apply_all([packets.standing_pod("holder", NAMESPACE, limits={GPU_RESOURCE: str(free)})])
    holder = ["pod/holder", "-n", NAMESPACE]
    demo.session.call_kubectl("wait", "--for=condition=Ready", *holder, "--timeout=60s")
    try:
        yield
    finally:
        demo.session.call_kubectl("delete", *holder)


def test_a_new_engine_key_without_a_gpu_for_the_surge_says_the_way_out(served: Served) -> None:
    before = served.only_pod(ROLLING)
    with losing_nothing(served):
        with no_gpu_left(served.demo):
            served.change(ROLLING, engine={"keyGeneration": 2})
            status = served.wait_for(ROLLING, Progressing="RolloutWaitingForGpu", Ready="Serving")
            assert status["phase"] == "Degraded"
            assert status["engineKeys"] == [2, 1]
            assert "spec.rollout.strategy" in message(status, "Progressing")
        served.wait_for(ROLLING, Progressing="Complete")
        assert served.only_pod(ROLLING) != before
    assert served.status(ROLLING)["engineKeys"] == [2]


def test_an_endpoint_is_suspended_and_comes_back(served: Served) -> None:
    served.change(STORED, suspended=True)
    assert served.wait_for(STORED, Ready="Suspended")["phase"] == "Suspended"
    eventually(lambda: not served.demo.pods(STORED, NAMESPACE), within_seconds=120)
    with served.client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            calls.completion(client, STORED)
        assert caught.value.status_code == 503
        served.change(STORED, suspended=False)
        assert served.wait_for(STORED, Ready="Serving")["phase"] == "Ready"
        assert calls.completion(client, STORED)


def test_another_default_image_rolls_nothing(demo: Demo, served: Served) -> None:
    before = [served.only_pod(name) for name in (ROLLING, STORED)]
    with demo.chart_values({"engine.image": "vllm/vllm-openai:v9.9.9"}):
        demo.apply_all([small_endpoint("newcomer", NAMESPACE, replicas=0)])
        newcomer = served.wait_for("newcomer", Ready="NoReplicas")
        assert newcomer["image"] == "vllm/vllm-openai:v9.9.9"
        assert [served.only_pod(name) for name in (ROLLING, STORED)] == before
        assert served.status(ROLLING)["image"] == ENGINE.reference
    deploy.wait_installed(demo.session)
    assert [served.only_pod(name) for name in (ROLLING, STORED)] == before
