"""The gateways that are compared: how each is started in front of one engine, with one key.

Each runs as its users run it: one process (of nginx one worker), with the log of accesses that it
writes by default. What a contestant leaves out, which others do, stands in its note.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.gateway import peers
from hack.cluster.processes import ClusterError
from hack.cluster.progress import say
from hack.cluster.toolchain import Cache
from helpers.tree import ROOT

OURS: Final = "gateway"
KEY: Final = "sk-bench"
STREAMS: Final = (1000, 5000)


@dataclass(frozen=True)
class Site:
    """The ports of one run, and the folder for everybody's files."""

    engine: int
    gateway: int
    metrics: int
    dir: Path

    def fill(self, template: str) -> Path:
        """Write a configuration with this site's values; its path."""
        text = (peers.HERE / template).read_text()
        values = {"ENGINE": self.engine, "PORT": self.gateway, "DIR": self.dir, "KEY": KEY}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.dir / template
        path.write_text(text)
        return path


@dataclass(frozen=True)
class Contestant:
    """A command that starts a gateway; ``streams`` are the numbers of streams that it can take."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    streams: Sequence[int] = STREAMS
    note: str = ""


def _ours(_cache: Cache, site: Site) -> Contestant:
    python = peers.optimized_python()
    sources = [
        os.environ.get("PYTHONPATH", ""),
        *(str(ROOT / root) for root in ("gateway", "kube")),
        sysconfig.get_path("purelib"),
    ]
    environment = {
        # that Python may be another one than ours, which knows where our packages are
        "PYTHONPATH": os.pathsep.join(filter(None, sources)),
        "BACKEND_URL": f"http://127.0.0.1:{site.engine}",
        "API_KEYS": KEY,
        "VLLM_ENDPOINTS_GATEWAY_PORT": str(site.gateway),
        "VLLM_ENDPOINTS_METRICS_PORT": str(site.metrics),
    }
    return Contestant(OURS, [python, "-m", "endpoint_gateway"], environment, note=f"on {python}")


def _nginx(cache: Cache, site: Site) -> Contestant:
    command = [str(peers.nginx(cache)), "-c", str(site.fill("nginx.conf"))]
    return Contestant("nginx", command, note="looks into no body, keeps no metrics, hashes no key")


def _go(cache: Cache, site: Site) -> Contestant:
    listen = ["proxy", "--listen", f"127.0.0.1:{site.gateway}", "--key", KEY]
    command = [str(peers.program(cache)), *listen, "--backend", f"http://127.0.0.1:{site.engine}"]
    return Contestant("go", command, note="no log, no metrics, no retries")


def _vllm_router(cache: Cache, site: Site) -> Contestant:
    command = [str(peers.python_programs(cache) / "vllm-router"), "--policy", "round_robin"]
    command += ["--host", "127.0.0.1", "--port", str(site.gateway)]
    command += ["--prometheus-port", str(site.metrics)]
    command += ["--worker-urls", f"http://127.0.0.1:{site.engine}"]
    return Contestant("vllm-router", command, note="asks clients for no key, logs no requests")


def _litellm(cache: Cache, site: Site) -> Contestant:
    command = [str(peers.python_programs(cache) / "litellm"), "--host", "127.0.0.1"]
    command += ["--port", str(site.gateway), "--config", str(site.fill("litellm.yaml"))]
    # it asks the network for prices of models otherwise
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Contestant(
        "litellm", command, environment, streams=(50,), note="streams: 50, where others have 1,000"
    )


MAKERS: Final[Mapping[str, Callable[[Cache, Site], Contestant]]] = {
    OURS: _ours,
    "nginx": _nginx,
    "go": _go,
    "vllm-router": _vllm_router,
    "litellm": _litellm,
}


def contestants(cache: Cache, site: Site, names: Collection[str]) -> Iterator[Contestant]:
    """Give the contestants of these names; one that can't be had here is said and left out."""
    for name, make in MAKERS.items():
        if name in names:
            try:
                yield make(cache, site)
            except ClusterError as error:
                say(f"{name} can't be had on this machine and is LEFT OUT: {error}")
