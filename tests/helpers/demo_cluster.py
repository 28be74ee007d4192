"""What the end-to-end tests hold in their hands: the demo's cluster, as a user has it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx
import openai

from hack.cluster.processes import ClusterError
from hack.demo.deploy import CHART, ENDPOINT_LABEL, NAMESPACE, RELEASE, wait_installed
from hack.demo.runtimes import LocalRuntime
from hack.demo.session import JsonObject, Session
from helpers.machine import Snapshot

T = TypeVar("T")


@dataclass(frozen=True)
class Demo:
    """What stands after the demo's steps; ``url`` is the endpoint's, from its status."""

    runtime: LocalRuntime
    session: Session
    machine_before: Snapshot
    url: str
    key: str

    @property
    def shared_url(self) -> str:
        """Base URL under which the key's models are told apart by name."""
        return f"{self.session.url}/v1"

    def client(self, base_url: str = "", key: str = "") -> openai.OpenAI:
        """The official SDK with nothing but base URL and key; it must not hide failures."""
        return openai.OpenAI(
            base_url=base_url or self.shared_url, api_key=key or self.key, max_retries=0
        )

    def apply(self, manifest: str) -> None:
        """Apply YAML as a user does. Raises ClusterError with what kubectl printed."""
        self.session.call_kubectl("apply", "-f", "-", stdin=manifest)

    def apply_all(self, objects: Iterable[JsonObject]) -> None:
        """Apply objects, in their order."""
        self.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    @contextmanager
    def chart_values(self, values: Mapping[str, object]) -> Iterator[None]:
        """The chart with other values until the block ends, as `helm upgrade` sets them."""
        flags = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
        self._upgrade("--reuse-values", *flags)
        try:
            yield
        finally:
            self.session.call_helm("rollback", RELEASE, f"--namespace={NAMESPACE}")
            wait_installed(self.session)

    def _upgrade(self, *flags: str) -> None:
        self.session.call_helm("upgrade", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *flags)
        wait_installed(self.session)
        # one that is on its way out may still lead
        eventually(self._has_new_operators_alone, within_seconds=60, every_seconds=0.5)

    def _has_new_operators_alone(self) -> bool:
        operators = "app.kubernetes.io/component=operator"
        pods = self.session.items("pods", namespace=NAMESPACE, selector=operators)
        return not any("deletionTimestamp" in pod["metadata"] for pod in pods)

    def endpoint(self, name: str, namespace: str) -> JsonObject:
        """An endpoint as the API server has it."""
        return self.session.get("iep", name, namespace=namespace)

    def change(self, name: str, namespace: str, spec: JsonObject) -> None:
        """Change fields of an endpoint's spec, and wait until its status is about that."""
        patch = json.dumps({"spec": spec})
        self.session.call_kubectl(
            "patch", "iep", name, "-n", namespace, "--type=merge", "-p", patch
        )
        generation = self.endpoint(name, namespace)["metadata"]["generation"]
        self._wait_for(name, namespace, "{.status.observedGeneration}", str(generation), "30s")

    def wait_for(self, name: str, namespace: str, **reasons: str) -> JsonObject:
        """Wait until conditions have these reasons, as in ``Ready="Serving"``; the endpoint then.

        AssertionError with what `kubectl describe` prints when it takes longer than ten minutes.
        """
        for kind, reason in reasons.items():
            path = f'{{.status.conditions[?(@.type=="{kind}")].reason}}'
            self._wait_for(name, namespace, path, reason, "600s")
        return self.endpoint(name, namespace)

    def _wait_for(self, name: str, namespace: str, path: str, value: str, timeout: str) -> None:
        wait = ["wait", f"iep/{name}", "-n", namespace, f"--timeout={timeout}"]
        try:
            self.session.call_kubectl(*wait, f"--for=jsonpath={path}={value}")
        except ClusterError as error:
            described = self.session.call_kubectl("describe", "iep", name, "-n", namespace)
            raise AssertionError(f"{error}\n{described}") from error

    def engine_pods(self, name: str = "tiny", namespace: str = "default") -> list[JsonObject]:
        """The pods of an endpoint that are not on their way out."""
        pods = self.pods(name, namespace)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def pods(self, name: str, namespace: str) -> list[JsonObject]:
        """The pods of an endpoint, also those that are on their way out."""
        return self.session.items("pods", namespace=namespace, selector=f"{ENDPOINT_LABEL}={name}")

    def engine_metric(self, name: str, endpoint: str = "tiny", namespace: str = "default") -> float:
        """One of vLLM's own metrics, from its only pod."""
        address = self.engine_pods(endpoint, namespace)[0]["status"]["podIP"]
        text = httpx.get(f"http://{address}:8000/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def eventually(look: Callable[[], T], *, within_seconds: float, every_seconds: float = 0.02) -> T:
    """Look until something true is seen and return it; fail when the time is over."""
    end = time.monotonic() + within_seconds
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < end, f"not seen within {within_seconds} s: {look.__name__}"
        time.sleep(every_seconds)
