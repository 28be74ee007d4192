"""Endpoints that serve throughout the e2e tests, beside the demo's own."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import openai

from endpoint_operator import names
from hack.cluster import addons
from hack.demo import deploy
from hack.demo.session import JsonObject
from helpers import model_store
from helpers.demo_cluster import Demo, eventually
from helpers.small_endpoints import small_endpoint

NAMESPACE = "served"
ROLLING, STORED = "rolling", "stored"
EMBED, RANKER = "embed", "ranker"
ADAPTER, ALIAS, HOST = "lora", "gpt-4o-mini", "stored.example.com"
TOOLS = {"enable-auto-tool-choice": True, "tool-call-parser": "hermes"}
ENDPOINTS = (
    small_endpoint(
        ROLLING,
        NAMESPACE,
        model={"adapters": [{"name": ADAPTER, "source": "file:///models/tiny-lora"}]},
        gpu={"count": 1, "products": [addons.GPU_LABELS["nvidia.com/gpu.product"]]},
    ),
    small_endpoint(
        STORED,
        NAMESPACE,
        model={"source": "pvc://models/acme/tiny"},
        engine={"config": TOOLS},
        access={"aliases": [ALIAS], "hosts": [HOST]},
    ),
    *(
        small_endpoint(
            name,
            NAMESPACE,
            model={"source": f"file:///models/{model}"},
            engine={"config": {"runner": "pooling"}},
        )
        for name, model in {EMBED: "tiny-embed", RANKER: "tiny-rerank"}.items()
    ),
)

KEY = {
    "apiVersion": names.API_VERSION,
    "kind": "ApiKey",
    "metadata": {"name": "all", "namespace": NAMESPACE},
    "spec": {"endpoints": ["*"]},
}


@dataclass(frozen=True)
class Served:
    """A namespace with endpoints, and a key for all of them."""

    demo: Demo
    key: str

    def client(self, path: str = "/v1") -> openai.OpenAI:
        """A user's client; without a path, the model tells the endpoint."""
        return self.demo.client(self.demo.session.url + path, self.key)

    def post(self, path: str, **body: object) -> httpx.Response:
        """Send what the SDK has no call for."""
        headers = {"authorization": f"Bearer {self.key}"}
        url = self.demo.session.url + path
        return httpx.post(url, json=body, headers=headers, timeout=60)

    def answer(self, path: str, **body: object) -> JsonObject:
        """Send it; what the good answer says."""
        response = self.post(path, **body)
        assert response.status_code == 200, response.text
        found: JsonObject = response.json()
        return found

    def status(self, name: str) -> JsonObject:
        """The status of one of them."""
        found: JsonObject = self.demo.endpoint(name, NAMESPACE)["status"]
        return found

    def change(self, name: str, **spec: object) -> None:
        """Change fields of a spec; see ``Demo.change``."""
        self.demo.change(name, NAMESPACE, spec)

    def wait_for(self, name: str, **reasons: str) -> JsonObject:
        """The status once conditions have these reasons; see ``Demo.wait_for``."""
        found: JsonObject = self.demo.wait_for(name, NAMESPACE, **reasons)["status"]
        return found

    def only_pod(self, name: str) -> str:
        """The UID of the one pod of an endpoint, once no other is there."""

        def alone() -> str:
            pods = self.demo.pods(name, NAMESPACE)
            return str(pods[0]["metadata"]["uid"]) if len(pods) == 1 else ""

        return eventually(alone, within_seconds=180)


def start(demo: Demo) -> Served:
    """Apply the endpoints, and wait until all of them serve."""
    demo.session.call_kubectl("create", "namespace", NAMESPACE)
    repositories = model_store.folder(demo, "repositories")
    demo.apply_all(
        [
            model_store.volume(repositories, claim="models", namespace=NAMESPACE),
            model_store.claim("models", NAMESPACE),
            KEY,
            *ENDPOINTS,
        ]
    )
    for endpoint in ENDPOINTS:
        demo.wait_for(endpoint["metadata"]["name"], NAMESPACE, Ready="Serving")
    return Served(demo, deploy.read_key(demo.session, "all-api-key", namespace=NAMESPACE))
