"""What tests ask of ApiKeys, their Secrets and the keyring on a real API server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from endpoint_operator import keyring, keys
from endpoint_operator.live import Ref
from helpers import builders
from helpers.live_cluster import LiveCluster
from helpers.operator_process import NAMESPACE

Object = dict[str, Any]

RING: Final = Ref("Secret", NAMESPACE, "vllm-endpoints-keyring")
ROOT_KEY: Final = Ref("Secret", NAMESPACE, "vllm-endpoints-root-key")


def manifest(name: str, namespace: str, **spec: Any) -> Object:
    """Return an ApiKey as a user applies it."""
    body = builders.api_key(name, namespace, **spec)
    return body | {"metadata": {"name": name, "namespace": namespace}}


def key_of(secret: Object, field: str = "api-key") -> str:
    """Return a key in a Secret."""
    return keys.read_field(secret, field)


def lists(namespace: str, *texts: str) -> Callable[[Object], bool]:
    """Return whether a keyring has exactly these keys of a namespace."""
    wanted = {keys.digest(text) for text in texts}

    def check(secret: Object) -> bool:
        return {entry.sha256 for entry in entries_of(secret, namespace)} == wanted

    return check


def entries_of(ring: Object, namespace: str) -> list[keyring.Entry]:
    """Return what a keyring lists for a namespace."""
    return [entry for entry in keyring.read_keyring(ring) if entry.namespace == namespace]


def says(reason: str) -> Callable[[Object], bool]:
    """Return whether an ApiKey's condition has this reason."""
    return lambda body: builders.condition_of(body, "Ready").get("reason") == reason


async def in_force(cluster: LiveCluster, namespace: str, name: str = "ci") -> str:
    """Wait until a key is in force; return it."""
    body = await cluster.eventually(Ref("ApiKey", namespace, name), says("InForce"))
    secret = body["spec"].get("secretName", f"{name}-api-key")
    return key_of(await cluster.must_get(Ref("Secret", namespace, secret)))


def in_seconds(seconds: float) -> str:
    """Return the time in so many seconds, as a spec has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
