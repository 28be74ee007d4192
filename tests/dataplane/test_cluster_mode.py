"""The process in a cluster, as far as an API server can be played."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from helpers.fake_vllm import FakeVllm, answering, captured
from helpers.gateway_process import Running, free_port, gateway_process, start
from helpers.live_server import SECRET

Object = dict[str, Any]
NAMES = {
    "VLLM_ENDPOINTS_RELEASE_NAMESPACE": "system",
    "VLLM_ENDPOINTS_KEYRING_SECRET": "keyring",
    "VLLM_ENDPOINTS_ROOT_KEY_SECRET": "root",
    "VLLM_ENDPOINTS_GATEWAY_SERVICE": "gateway",
}
IEP_PATH = "/apis/serving.vllm-endpoints.dev/v1alpha1/inferenceendpoints"
SLICE_PATH = "/apis/discovery.k8s.io/v1/endpointslices"
SECRET_PATH = "/api/v1/namespaces/system/secrets"


def described(name: str, namespace: str, **fields: Any) -> Object:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "creationTimestamp": "2026-11-21T06:00:00Z",
        **fields.pop("metadata", {}),
    }
    return {"metadata": metadata, **fields}


def secret(name: str, key: str, value: bytes) -> Object:
    return described(name, "system", data={key: base64.b64encode(value).decode()})


def objects_of(engine: FakeVllm) -> dict[str, Object]:
    digest = sha256(SECRET.encode()).hexdigest()
    entry = {"sha256": digest, "namespace": "team-a", "name": "ci", "endpoints": ["*"]}
    keyring = json.dumps({"version": 1, "keys": [entry]}).encode()
    labels = {
        "serving.vllm-endpoints.dev/endpoint": "qwen",
        "kubernetes.io/service-name": "qwen-engine",
    }
    return {
        IEP_PATH: described("qwen", "team-a", status={"servedNames": ["tiny"]}),
        SLICE_PATH: described(
            "qwen-engine-x",
            "team-a",
            metadata={"labels": labels},
            endpoints=[{"addresses": [engine.replica.host], "conditions": {"ready": True}}],
            ports=[{"name": "http", "port": engine.replica.port}],
        ),
        SECRET_PATH + "?metadata.name=keyring": secret("keyring", "keyring.json", keyring),
        SECRET_PATH + "?metadata.name=root": secret("root", "root-key", bytes(32)),
    }


class ApiServer:
    """Lists what it has, tells every later change to every watch, and refuses what it is told."""

    def __init__(self, objects: dict[str, Object]) -> None:
        self.objects = objects
        self.refused: set[str] = set()
        self._watches: list[tuple[str, web.StreamResponse]] = []

    async def change(self, path: str, obj: Object) -> None:
        line = json.dumps({"type": "MODIFIED", "object": obj}).encode() + b"\n"
        for watched, response in self._watches:
            if watched == path:
                await response.write(line)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        selector = request.query.get("fieldSelector")
        path = f"{request.path}?{selector}" if selector else request.path
        if path in self.refused:
            status = {"kind": "Status", "message": "not allowed", "reason": "Forbidden"}
            return web.json_response(status, status=403)
        if "watch" not in request.query:
            items = [self.objects[path]] if path in self.objects else []
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        self._watches.append((path, response))
        await asyncio.Event().wait()
        return response


@asynccontextmanager
async def cluster(api: ApiServer, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run this API server; give the environment of a gateway in its cluster."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    named = {"name": "here"}
    kubeconfig = {
        "current-context": "here",
        "contexts": [{**named, "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{**named, "cluster": {"server": f"http://{host}:{port}"}}],
        "users": [{**named, "user": {"token": "t"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(kubeconfig))
    try:
        yield {**NAMES, "KUBECONFIG": str(folder / "config")}
    finally:
        await runner.cleanup()


async def test_a_clusters_endpoint_is_served_and_an_edit_is_in_force_at_once(
    tmp_path: Path,
) -> None:
    async with FakeVllm(answering(captured("chat"))) as engine:
        api = ApiServer(objects_of(engine))
        async with cluster(api, tmp_path) as environ, gateway_process(environ) as running:
            answer = await running.client.post(
                "/v1/chat/completions", content=b'{"model":"team-a/qwen"}'
            )
            assert answer.status_code == 200
            assert engine.requests[0].json == {"model": "qwen"}
            edited = api.objects[IEP_PATH] | {"status": {"servedNames": ["other"]}}
            await api.change(IEP_PATH, edited)
            await asyncio.wait_for(until_listed("other", running), 30)


async def until_listed(model: str, running: Running) -> None:
    while model not in (await running.client.get("/v1/models")).text:
        pass


async def test_a_missing_permission_ends_the_process_and_is_named(tmp_path: Path) -> None:
    async with FakeVllm(answering(b"")) as engine:
        api = ApiServer(objects_of(engine))
        api.refused.add(SLICE_PATH)
        async with cluster(api, tmp_path) as environ:
            output, status = await ended(environ)
    assert status == 1
    assert b"not allowed" in output
    assert b"Traceback" not in output


def in_namespace(path: str, namespace: str) -> str:
    group, _, plural = path.rpartition("/")
    return f"{group}/namespaces/{namespace}/{plural}"


@pytest.mark.parametrize("closed", [[], ["gone"]])
async def test_named_namespaces_are_all_that_is_asked_for(
    tmp_path: Path, closed: list[str]
) -> None:
    async with FakeVllm(answering(captured("chat"))) as engine:
        objects = objects_of(engine)
        for path in (IEP_PATH, SLICE_PATH):
            objects[in_namespace(path, "team-a")] = objects.pop(path)
        api = ApiServer(objects)
        api.refused |= {IEP_PATH, SLICE_PATH}
        api.refused |= {
            in_namespace(path, name) for path in (IEP_PATH, SLICE_PATH) for name in closed
        }
        names = ",".join(["team-a", *closed])
        async with cluster(api, tmp_path) as environ:
            environ["VLLM_ENDPOINTS_WATCH_NAMESPACES"] = names
            async with gateway_process(environ) as running:
                listed = (await running.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["tiny"]


async def test_no_way_to_the_cluster_is_told(tmp_path: Path) -> None:
    output, status = await ended({**NAMES, "KUBECONFIG": str(tmp_path / "none")})
    assert status == 1
    assert b"KUBECONFIG" in output


async def ended(environ: dict[str, str]) -> tuple[bytes, int]:
    process = start({**environ, "VLLM_ENDPOINTS_GATEWAY_PORT": str(free_port())})
    _, output = await asyncio.to_thread(process.communicate, timeout=20)
    return output, process.returncode
