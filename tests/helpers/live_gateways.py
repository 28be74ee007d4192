"""Gateways as processes beside a real API server, and engines of which it is told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx

from endpoint_gateway.discovery import SLICES
from endpoint_gateway.objects import ENDPOINT_LABEL, SERVICE_LABEL
from helpers.addresses import outward
from helpers.fake_vllm import FakeVllm, Script
from helpers.gateway_process import Running, gateway_process
from helpers.live_cluster import USER, LiveCluster
from helpers.operator_process import NAMESPACE, RELEASE
from helpers.steady_users import Question

Object = dict[str, Any]

SERVICE: Final = f"{RELEASE.fullname}-gateway"
READY: Final = {"ready": True}
NOT_READY: Final = {"ready": False}
TERMINATING: Final = {"ready": False, "serving": True, "terminating": True}


class Fleet:
    """Gateways and engines that live as long as a stack."""

    def __init__(
        self, cluster: LiveCluster, stack: AsyncExitStack, environ: dict[str, str]
    ) -> None:
        self.gateways: list[Running] = []
        self.urls: list[str] = []
        self.engines: list[FakeVllm] = []
        self._cluster = cluster
        self._stack = stack
        self._environ = environ

    async def start(self) -> Running:
        """Start another gateway, and wait until it is ready."""
        running = await self._stack.enter_async_context(gateway_process(self._environ))
        self.gateways.append(running)
        self.urls.append(str(running.client.base_url))
        return running

    async def engine(self, script: Script) -> FakeVllm:
        """Start an engine, of which the cluster is still to be told."""
        engine = await self._stack.enter_async_context(FakeVllm(script, host=outward()))
        self.engines.append(engine)
        return engine

    async def tell(
        self, namespace: str, endpoint: str, engine: FakeVllm, conditions: Object = READY
    ) -> None:
        """Tell the cluster of an engine, as the controller of EndpointSlices does."""
        labels = {ENDPOINT_LABEL: endpoint, SERVICE_LABEL: f"{endpoint}-engine"}
        await self._apply(
            namespace,
            f"{endpoint}-{engine.replica.port}",
            labels=labels,
            endpoints=[{"addresses": [engine.replica.host], "conditions": conditions}],
            ports=[{"name": "http", "port": engine.replica.port}],
        )

    async def forget(self, namespace: str, endpoint: str, engine: FakeVllm) -> None:
        """Tell the cluster that an engine is no more."""
        await self._cluster.api.delete(SLICES, namespace, f"{endpoint}-{engine.replica.port}")

    async def count(self, gateways: int) -> None:
        """Tell the cluster that there are so many gateways."""
        endpoints = [
            {
                "addresses": [f"192.0.2.{number}"],
                "conditions": READY,
                "targetRef": {"kind": "Pod", "name": f"gateway-{number}", "namespace": NAMESPACE},
            }
            for number in range(1, gateways + 1)
        ]
        labels = {SERVICE_LABEL: SERVICE}
        await self._apply(NAMESPACE, "gateways", labels=labels, endpoints=endpoints, ports=[])

    async def _apply(
        self, namespace: str, name: str, *, labels: Object, endpoints: list[Object], ports: Any
    ) -> None:
        body = {
            "apiVersion": SLICES.api_version,
            "kind": SLICES.kind,
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        }
        await self._cluster.api.apply(SLICES, body, field_manager=USER)

    async def everywhere(self, question: Question, status: int) -> None:
        """Wait until every gateway answers a question like this."""

        async def ask() -> bool:
            return {each[0] for each in await self.answers(question)} == {status}

        await self._cluster.until(ask, what=f"{status} to {question}")

    async def answers(self, question: Question) -> list[tuple[int, str]]:
        """Return what each gateway answers."""
        return [await answer(each.client, question) for each in self.gateways]

    async def verdicts(self, questions: Sequence[Question]) -> list[list[tuple[int, str]]]:
        """Return for each gateway what it answers to all of these."""
        return [
            [await answer(each.client, question) for question in questions]
            for each in self.gateways
        ]


async def answer(client: httpx.AsyncClient, question: Question) -> tuple[int, str]:
    """Return status and body of an answer."""
    got = await client.request(**question.request(stream=False))
    return got.status_code, got.text
