"""Engines that die and engines that are not up yet: what comes back, and what goes at once."""

from __future__ import annotations

import pytest

from hack.demo import calls
from helpers.demo_cluster import eventually
from helpers.packets import PYTHON
from helpers.served_models import NAMESPACE, STORED, Served
from helpers.small_endpoints import small_endpoint

pytestmark = pytest.mark.timeout(900, func_only=True)

MARKER = "a-prompt-that-is-nobodys-business"
KILL_ENGINE_CORE = """
import os, pathlib, signal
for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
    if comm.read_text().startswith("VLLM::EngineCor"):
        os.kill(int(comm.parent.name), signal.SIGKILL)
"""


def test_an_engine_that_ends_comes_back_and_no_prompt_is_told(served: Served) -> None:
    kubectl = served.demo.session.call_kubectl
    with served.client() as client:
        client.completions.create(model=STORED, prompt=MARKER, max_tokens=4)
    engine = ["exec", "-n", NAMESPACE, f"deployment/{STORED}-engine", "-c", "engine", "--"]
    kubectl(*engine, PYTHON, "-c", KILL_ENGINE_CORE)
    served.wait_for(STORED, Ready="EngineEnded")
    said = kubectl("get", "iep,events", "-n", NAMESPACE, "-o", "yaml")
    assert "EngineEnded" in said
    assert MARKER not in said
    assert served.wait_for(STORED, Ready="Serving")["phase"] == "Ready"
    with served.client() as client:
        assert calls.completion(client, STORED)


def test_an_engine_that_is_not_up_yet_goes_at_once(served: Served) -> None:
    served.demo.apply_all([small_endpoint("hasty", NAMESPACE, engine={"drainTimeout": "10m"})])
    selector = "serving.vllm-endpoints.dev/endpoint=hasty"
    running = "--for=jsonpath={.status.containerStatuses[0].state.running.startedAt}"
    wait = ["wait", "pod", "-n", NAMESPACE, "-l", selector, "--timeout=60s"]
    served.wait_for("hasty", Ready="Starting")
    # kubectl waits for no pod that is not there yet
    eventually(lambda: served.demo.pods("hasty", NAMESPACE), within_seconds=60, every_seconds=1)
    served.demo.session.call_kubectl(*wait, running)
    served.demo.session.call_kubectl("delete", "iep", "hasty", "-n", NAMESPACE)
    eventually(lambda: not served.demo.pods("hasty", NAMESPACE), within_seconds=60, every_seconds=1)
