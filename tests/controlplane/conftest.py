"""What the control plane's tests share: settings, and a context on a cluster in memory."""

from __future__ import annotations

import itertools

import pytest

from endpoint_operator.context import Context, InUse
from endpoint_operator.keys import RootKey
from endpoint_operator.settings import Settings
from endpoint_operator.upgrades import Slots
from helpers.builders import RELEASE_NAMESPACE
from helpers.memory_cluster import MakeContext, MemoryCluster

NOON = 1795262400.0
"""2026-11-21T12:00:00Z"""


@pytest.fixture
def settings() -> Settings:
    return Settings(
        release_namespace=RELEASE_NAMESPACE,
        keyring_secret="vllm-endpoints-keyring",
        root_key_secret="vllm-endpoints-root-key",
        gateway_service="vllm-endpoints-gateway",
        default_engine_image="vllm/vllm-openai:v0.33.0",
    )


@pytest.fixture
def make_context(settings: Settings) -> MakeContext:
    """Contexts whose time stands still and whose dice always show the next number."""
    rolls = itertools.count()

    def make(cluster: MemoryCluster) -> Context:
        return Context(
            cluster=cluster,
            settings=settings,
            in_use=InUse(RootKey(b"r" * 32)),
            clock=lambda: NOON,
            entropy=lambda size: next(rolls).to_bytes(size, "big"),
            slots=Slots(settings.upgrade_max_concurrent),
        )

    return make
