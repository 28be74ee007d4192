"""The page about a gateway without Kubernetes, typed as it is written, in front of real vLLM."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from hack.demo import calls
from helpers.demo_cluster import eventually
from helpers.gateway_process import free_port
from helpers.questions import SHORT, WORD
from helpers.served_models import EMBED, NAMESPACE, STORED, Served
from helpers.tree import ROOT

pytestmark = pytest.mark.timeout(120, func_only=True)

PAGE = (ROOT / "docs" / "without-kubernetes.md").read_text()
START = "venv/bin/endpoint-gateway"
GONE = "http://127.0.0.1:9"  # nobody listens there
MESSAGES = [{"role": "user", "content": "Say something."}]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


_, TWO_VARIABLES = blocks("bash")
(FILE,) = blocks("yaml")
LISTING, STARTING, REFUSING = blocks("console")
IN_FORCE, STAYS = (json.loads(line)["message"] for line in blocks("json")[0].splitlines())


def typed(block: str) -> list[str]:
    """The commands of a block that shows what they print, too."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)


class Shell:
    """A folder with a virtual environment, ports, and what the page calls by other names."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.folder, self.served = folder, served
        self.port = free_port()
        (folder / "venv").symlink_to(sys.prefix)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "NO_PROXY": "*",
            "VLLM_ENDPOINTS_GATEWAY_PORT": str(self.port),
            "VLLM_ENDPOINTS_METRICS_PORT": str(free_port()),
        }

    def here(self, text: str) -> str:
        """Put this machine's addresses and these engines into what the page shows."""
        others = {
            "localhost:8080": f"localhost:{self.port}",
            "http://localhost:8000": self.engine(STORED),
            "http://10.0.0.5:8000": self.engine(STORED),
            "http://10.0.0.6:8000": GONE,
            # ours wants a key, as all engines in a cluster
            "http://10.0.0.7:8000]": f"{self.engine(EMBED)}]\n    apiKey: {self.engine_key(EMBED)}",
            "qwen2.5-7b": STORED,
            "bge-m3": EMBED,
            "sk-of-vllm": self.engine_key(STORED),
            "/run/secrets/alice": str(self.folder / "alice"),
        }
        for theirs, ours in others.items():
            text = text.replace(theirs, ours)
        return text

    def engine(self, name: str) -> str:
        (pod,) = self.served.demo.engine_pods(name, NAMESPACE)
        return f"http://{pod['status']['podIP']}:8000"

    def engine_key(self, name: str) -> str:
        secrets = self.served.demo.session.items("secrets", namespace=NAMESPACE)
        (found,) = (s for s in secrets if s["metadata"]["name"].startswith(f"{name}-engine-"))
        return base64.b64decode(found["data"]["api-key"]).decode()

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command that ends."""
        return subprocess.run(
            ["bash", "-c", self.here(command.replace("curl ", "curl -s "))],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @contextmanager
    def running(self, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Type one that goes on, and wait until the gateway is ready."""
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {self.here(command)}"],
                cwd=self.folder,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            eventually(self._is_ready, within_seconds=30, every_seconds=0.1)
            yield process
        finally:
            process.kill()
            process.wait()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://localhost:{self.port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def said(self) -> list[str]:
        """What the gateway has logged."""
        lines = (self.folder / "log").read_text().splitlines()
        return [json.loads(line)["message"] for line in lines]


@pytest.fixture
def shell(served: Served, tmp_path: Path) -> Shell:
    shell = Shell(served, tmp_path)
    (tmp_path / "alice").write_text("sk-alice\n")
    (tmp_path / "gateway.yaml").write_text(shell.here(FILE))
    (tmp_path / "request.json").write_text(json.dumps({"messages": MESSAGES, "max_tokens": SHORT}))
    return shell


def test_two_variables_are_enough(shell: Shell) -> None:
    command = next(line for line in TWO_VARIABLES.splitlines() if START in line)
    key = shell.engine_key(STORED)
    with shell.running(f"BACKEND_API_KEY={key} {command}"):
        listed, refused = (shell.run(each).stdout for each in typed(LISTING))
        base = f"http://localhost:{shell.port}/v1"
        with shell.served.demo.client(base, "sk-yours") as client:
            assert calls.completion(client, STORED) == WORD * SHORT
            assert calls.streamed_chat(client, STORED)
    assert json.loads(listed)["data"][0]["id"] == STORED
    assert refused.strip() == LISTING.splitlines()[-1]


def test_a_file_is_enough(shell: Shell) -> None:
    start, call = typed(STARTING)
    with shell.running(start):
        answered = shell.run(call).stdout
        shown = re.findall(r"^(?:HTTP|x-).*$", STARTING, re.MULTILINE)
        assert [line for line in shown if line not in answered] == []
        base = f"http://localhost:{shell.port}/v1"
        with shell.served.demo.client(base, "sk-alice") as client:
            assert set(calls.model_names(client)) == {STORED, EMBED}
            # its other backend is gone
            assert {calls.completion(client, "qwen") for _ in range(4)} == {WORD * SHORT}
            assert client.embeddings.create(model=EMBED, input="one").data[0].embedding


def test_a_file_of_no_use_says_what_to_mend(shell: Shell) -> None:
    file = shell.folder / "gateway.yaml"
    text = FILE.replace("http://10.0.0.7", "https://10.0.0.7").replace("60}", '"60"}')
    file.write_text(shell.here(text))
    ended = shell.run(typed(REFUSING)[0])
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == REFUSING.splitlines()[1:]


def test_a_changed_file_is_in_force_unless_it_is_of_no_use(shell: Shell) -> None:
    file = shell.folder / "gateway.yaml"
    wrong = STAYS.removesuffix("...")
    with shell.running(typed(STARTING)[0]) as process:
        file.write_text(file.read_text().replace("[qwen]", "[embed]"))
        eventually(lambda: IN_FORCE in shell.said(), within_seconds=10)
        file.write_text(file.read_text().replace("[embed]\n    limits", "[nobody]\n    limits"))
        process.send_signal(signal.SIGHUP)
        eventually(lambda: any(each.startswith(wrong) for each in shell.said()), within_seconds=10)
        with shell.served.demo.client(f"http://localhost:{shell.port}/v1", "sk-ci") as client:
            assert calls.model_names(client) == [EMBED]
