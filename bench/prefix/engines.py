"""The engines: several vLLMs on the CPU with the demo's tiny model, and their own counters.

vLLM comes into an environment of its own in the cache, by the steps of hack/engine/Dockerfile.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from bench.process import Process
from hack.cluster.processes import MARK, ClusterError, run
from hack.cluster.progress import step
from hack.cluster.toolchain import Cache
from helpers.operator_process import free_port
from helpers.tree import ROOT

MODEL: Final = "tiny"
BLOCKS, BLOCK_TOKENS = 2048, 32
"""The size of a prefix cache: 65,536 tokens, about a half of what is said in a round."""

LONGEST_CONTEXT: Final = 2048
_SOURCES: Final = ROOT / "hack" / "engine"
_FILES: Final = ("requirements.txt", "METADATA", "cuda_stubs.py", "tiny_model.py")
_VERSION: Final = "vllm-0.32.0+cpu.dist-info"
_START_SECONDS: Final = 600
# as in the image: nobody is asked, nothing is compiled, and engines share the cores
_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


@dataclass(frozen=True)
class Counters:
    """What an engine has counted: tokens looked up in its cache and found there, and requests."""

    looked_up: float
    found: float
    requests: float

    @classmethod
    def read(cls, page: str) -> Counters:
        """Return those of a page of metrics."""
        names = ("prefix_cache_queries_total", "prefix_cache_hits_total", "request_success_total")
        return cls(*(_sum(page, f"vllm:{name}") for name in names))

    def since(self, before: Counters) -> Counters:
        """Return what came since then."""
        return Counters(
            self.looked_up - before.looked_up,
            self.found - before.found,
            self.requests - before.requests,
        )


@dataclass(frozen=True)
class Engine:
    """One vLLM that runs."""

    url: str

    def counters(self) -> Counters:
        """Return its own counters as they are now."""
        return Counters.read(httpx.get(f"{self.url}/metrics", trust_env=False).text)


def _sum(page: str, name: str) -> float:
    return sum(map(float, re.findall(rf"^{name}{{.*}} (\S+)$", page, re.MULTILINE)))


@contextmanager
def engines(cache: Cache, folder: Path, *, number: int) -> Iterator[Sequence[Engine]]:
    """Start so many engines, which share this machine's cores, until the end of the block."""
    program = environment(cache)
    ports = [free_port() for _ in range(number)]
    processes = [_process(program, port, folder) for port in ports]
    running = [Engine(f"http://127.0.0.1:{port}") for port in ports]
    try:
        for process in processes:
            process.start()
        with step(f"{number} vLLMs", expect="a minute or two"):
            for process, engine in zip(processes, running, strict=True):
                process.wait_until_answered(f"{engine.url}/health", timeout_seconds=_START_SECONDS)
        yield running
    finally:
        for process in processes:
            process.stop()


def _process(program: Path, port: int, folder: Path) -> Process:
    options = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": MODEL,
        "max-model-len": LONGEST_CONTEXT,
        "max-num-seqs": 16,
        "dtype": "float32",
        "block-size": BLOCK_TOKENS,
        "num-gpu-blocks-override": BLOCKS,  # also where there is no GPU
    }
    command = [str(program / "bin/vllm"), "serve", str(program / "models" / MODEL)]
    command += ["--enforce-eager", "--enable-prefix-caching"]
    command += [f"--{name}={value}" for name, value in options.items()]
    path = f"{program / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    environment = {**_ENVIRONMENT, "PATH": path, "HOME": str(folder), MARK: str(folder)}
    return Process(command, environment=environment, log=folder / f"engine-{port}.log")


def environment(cache: Cache) -> Path:
    """Return the environment that has vLLM and the model, after making it if need be."""
    if sys.version_info[:2] != (3, 11):
        raise ClusterError("vLLM's requirements are locked for Python 3.11; run this with that")
    content = b"".join((_SOURCES / name).read_bytes() for name in _FILES)
    digest = hashlib.sha256(sys.executable.encode() + content).hexdigest()[:12]
    made = cache.root / "programs" / f"vllm-{digest}"
    complete = made / ".made"
    if not complete.exists():
        with step("vLLM for the CPU", expect="3 min, 2 GB; 1 GB to download"):
            _install(made)
            complete.touch()
    return made


def _install(made: Path) -> None:
    """Do what the engine's Dockerfile does."""
    python, site = made / "bin/python", made / "lib/python3.11/site-packages"
    run([sys.executable, "-m", "venv", "--clear", "--without-pip", made])
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--compile-bytecode"]
    uv += ["--only-binary", ":all:", "--require-hashes"]
    run([*uv, "--python", python, "-r", _SOURCES / "requirements.txt"])
    run([python, _SOURCES / "cuda_stubs.py", site / "torch/lib"])
    (site / _VERSION).mkdir()
    (site / _VERSION / "METADATA").write_bytes((_SOURCES / "METADATA").read_bytes())
    run([python, _SOURCES / "tiny_model.py", made / "models" / MODEL])
