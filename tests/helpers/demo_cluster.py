"""What the end-to-end tests hold in their hands: the demo's cluster, as a user has it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import httpx
import openai

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

    def engine_pods(self) -> list[JsonObject]:
        """The pods of the endpoint."""
        selector = self.session.get("iep", "tiny", namespace="default")["status"]["selector"]
        listed = self.session.call_kubectl("get", "pods", "-l", selector, "-o", "json")
        pods: list[JsonObject] = json.loads(listed)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def engine_metric(self, name: str) -> float:
        """One of vLLM's own metrics, from its only pod."""
        address = self.engine_pods()[0]["status"]["podIP"]
        text = httpx.get(f"http://{address}:8000/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def eventually(look: Callable[[], T], *, within_seconds: float) -> T:
    """Look until something true is seen and return it; fail when the time is over."""
    end = time.monotonic() + within_seconds
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < end, f"not seen within {within_seconds} s: {look.__name__}"
        time.sleep(0.02)
