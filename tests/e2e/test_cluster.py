"""What a user of kubectl sees and does."""

from __future__ import annotations

from collections.abc import Callable

import openai
import pytest

from hack.demo import calls, deploy
from hack.demo.deploy import NAMESPACE, RELEASE
from helpers.demo_cluster import Demo, eventually
from helpers.questions import questions_meanwhile

pytestmark = pytest.mark.timeout(180, func_only=True)

ENDPOINT = """
apiVersion: serving.vllm-endpoints.dev/v1alpha1
kind: InferenceEndpoint
metadata: {{name: tiny, namespace: default}}
spec:
  model: {{source: {source}, servedNames: [tiny]}}
  engine: {{image: "vllm/vllm-openai:v0.32.0-cpu", config: {config}}}
"""
KEY = """
apiVersion: serving.vllm-endpoints.dev/v1alpha1
kind: ApiKey
metadata: {{name: second, namespace: default}}
spec: {{endpoints: [{scope}]}}
"""


def test_the_listing_tells_what_matters(demo: Demo) -> None:
    header, line = demo.session.call_kubectl("get", "iep").splitlines()
    assert header.split() == ["NAME", "MODEL", "PHASE", "READY", "GPU", "URL", "AGE"]
    assert line.split()[:-1] == ["tiny", "file:///models/tiny", "Ready", "True", "1", demo.url]


def test_the_wide_listing_tells_why_and_of_what(demo: Demo) -> None:
    header, line = demo.session.call_kubectl("get", "iep", "-o", "wide").splitlines()
    assert header.split()[-3:] == ["AGE", "REASON", "IMAGE"]
    assert line.split()[-2:] == ["Serving", "vllm/vllm-openai:v0.32.0-cpu"]


def test_waiting_for_ready_works(demo: Demo) -> None:
    printed = demo.session.call_kubectl("wait", "--for=condition=Ready", "iep/tiny")
    assert "condition met" in printed


def test_the_engine_has_its_gpu(demo: Demo) -> None:
    (pod,) = demo.engine_pods()
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("namespace", ["default", NAMESPACE])
def test_every_pod_meets_the_restricted_standard(demo: Demo, namespace: str) -> None:
    # asked to enforce it, the API server warns of each pod that would not be let in
    label = "pod-security.kubernetes.io/enforce=restricted"
    printed = demo.session.call_kubectl(
        "label", "--dry-run=server", "--overwrite", "namespace", namespace, label
    )
    assert "violate" not in printed


def test_the_endpoints_name_is_its_address_inside_the_cluster(demo: Demo) -> None:
    script = (
        "import sys, urllib.request as u;"
        "r = u.Request('http://tiny.default/v1/models',"
        " headers={'Authorization': 'Bearer ' + sys.argv[1]});"
        "print(u.urlopen(r, timeout=10).read().decode())"
    )
    python = ["/opt/venv/bin/python", "-c", script, demo.key]
    gateway = f"deployment/{RELEASE}-gateway"
    printed = demo.session.call_kubectl("exec", "-n", NAMESPACE, gateway, "--", *python)
    assert '"id":"tiny"' in printed


def test_what_only_the_operator_can_refuse_leaves_the_engine_alone(demo: Demo) -> None:
    (before,) = demo.engine_pods()
    demo.apply(ENDPOINT.format(source="file:///models/tiny", config='{"--dtype": float32}'))

    def refused() -> str:
        found = demo.session.get("iep", "tiny", namespace="default")
        accepted = next(c for c in found["status"]["conditions"] if c["type"] == "Accepted")
        is_current = accepted["observedGeneration"] == found["metadata"]["generation"]
        return accepted["message"] if is_current and accepted["status"] == "False" else ""

    message = eventually(refused, within_seconds=30)
    assert "spec.engine.config" in message
    assert "without dashes" in message
    assert calls.completion(demo.client(), "tiny") == " os" * 8
    deploy.apply_file(demo.session, deploy.EXAMPLE)
    deploy.wait_ready(demo.session, "tiny", timeout_seconds=30)
    (after,) = demo.engine_pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_key_is_in_force_changed_and_revoked_at_every_gateway(demo: Demo) -> None:
    demo.apply(KEY.format(scope="tiny"))
    deploy.wait_ready(demo.session, "second", kind="apikey", timeout_seconds=30)
    client = demo.client(key=deploy.read_key(demo.session, "second-api-key"))

    def works() -> bool:
        try:
            return bool(client.models.list().data)
        except openai.AuthenticationError:
            return False

    def sees_nothing() -> bool:
        return not client.models.list().data

    def at_every_gateway(look: Callable[[], bool]) -> None:
        # the ingress takes turns: four looks in a row reach both gateways; two seconds are
        # promised, but not on a machine on which engines start meanwhile
        eventually(lambda: all(look() for _ in range(4)), within_seconds=30)

    at_every_gateway(works)
    demo.apply(KEY.format(scope="other"))
    at_every_gateway(sees_nothing)
    demo.session.call_kubectl("delete", "apikey", "second", "--wait=false")
    at_every_gateway(lambda: not works())


def test_new_gateways_and_a_new_operator_cost_no_request(demo: Demo) -> None:
    (before,) = demo.engine_pods()
    parts = [f"deployment/{RELEASE}-gateway", f"deployment/{RELEASE}-operator"]
    with questions_meanwhile(demo.client, "tiny") as asked:
        demo.session.call_kubectl("rollout", "restart", "-n", NAMESPACE, *parts)
        for part in parts:
            demo.session.call_kubectl("rollout", "status", "-n", NAMESPACE, part, "--timeout=120s")
    assert asked.failures == []
    (after,) = demo.engine_pods()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
