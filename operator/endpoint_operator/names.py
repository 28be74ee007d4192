"""Every name that the operator gives or reads: groups, labels, annotations, children.

Pure and without imports of ours, so that each module can use it. The gateway knows the same names
by its own constants; contract tests compare the two.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "serving.vllm-endpoints.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MANAGER: Final = "vllm-endpoints"
"""Our field manager, and the value of the managed-by label."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
APP_NAME: Final = "app.kubernetes.io/name"
APP_INSTANCE: Final = "app.kubernetes.io/instance"
ENDPOINT: Final = f"{GROUP}/endpoint"

APPLIED_HASH: Final = f"{GROUP}/applied-hash"
SPEC_HASH: Final = f"{GROUP}/spec-hash"
DEFAULT_IMAGE: Final = f"{GROUP}/default-image"
REFERENCED_HASH: Final = f"{GROUP}/referenced-hash"

UPGRADE: Final = f"{GROUP}/upgrade"
"""On a Deployment: the revision for which it holds one of the slots of an upgrade (ADR 0013)."""

ROTATION: Final = f"{GROUP}/rotation"
PREVIOUS_UNTIL: Final = f"{GROUP}/previous-until"
NEXT_FROM: Final = f"{GROUP}/next-from"

REVISION: Final = f"{GROUP}/revision"
"""On pods and their template: its digest, by which pods of the current spec are known."""

ENGINE_PORT: Final = 8000
ENGINE_CONTAINER: Final = "engine"
GATEWAY_PORT: Final = 80
ENGINE_KEY_FIELD: Final = "api-key"
CONFIG_FIELD: Final = "config.yaml"
CHAT_TEMPLATE_FIELD: Final = "chat-template.jinja"
CA_FIELD: Final = "ca.crt"
START_FIELD: Final = "sitecustomize.py"
"""Python itself looks for a module of this name."""
KEYRING_FIELD: Final = "keyring.json"
ROOT_KEY_FIELD: Final = "root-key"
PREVIOUS_ROOT_KEY_FIELD: Final = "previous-root-key"
API_KEY_FIELD: Final = "api-key"
PREVIOUS_API_KEY_FIELD: Final = "previous-api-key"
NEXT_API_KEY_FIELD: Final = "next-api-key"

LONGEST_ENDPOINT_NAME: Final = 40
LONGEST_API_KEY_NAME: Final = 63
ENGINE_SUFFIX: Final = "-engine"
CACHE_SUFFIX: Final = "-cache"

RESERVED_NAMES: Final = (
    "audio", "chat", "classify", "completions", "detokenize", "embeddings", "health", "healthz",
    "images", "invocations", "livez", "load", "messages", "metrics", "models", "openai", "ping",
    "pooling", "readyz", "rerank", "responses", "score", "tokenize", "v1", "v2", "version",
)  # fmt: skip
"""First path segments of the gateway's routes, with and without /v1 before them, and of vLLM's,
which an endpoint of that name would hide."""


def owner_reference(kind: str, name: str, uid: str) -> dict[str, str | bool]:
    """Return the reference by which a child belongs to an object of ours, and goes with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
    }


def engine_name(endpoint: str) -> str:
    """Return the name of an endpoint's Deployment, headless Service, NetworkPolicy and budget."""
    return endpoint + ENGINE_SUFFIX


def content_name(endpoint: str, digest: str) -> str:
    """Return the name of the ConfigMap or Secret whose content has this digest."""
    return f"{engine_name(endpoint)}-{digest}"


def cache_name(endpoint: str) -> str:
    """Return the name of the claim that the operator makes for an endpoint's cache."""
    return endpoint + CACHE_SUFFIX


def selector_labels(endpoint: str) -> dict[str, str]:
    """Return the labels that select an endpoint's pods; they can never change."""
    return {APP_NAME: "vllm", ENDPOINT: endpoint}


def child_labels(endpoint: str) -> dict[str, str]:
    """Return the labels of every object that we make for an endpoint."""
    return {MANAGED_BY: MANAGER, APP_INSTANCE: endpoint, **selector_labels(endpoint)}


def selector_text(endpoint: str) -> str:
    """Return the selector of an endpoint's pods as the scale subresource wants it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(endpoint).items()))


def api_key_secret_name(api_key: str) -> str:
    """Return the name of an ApiKey's Secret when the ApiKey gives none."""
    return f"{api_key}-api-key"
