"""The operator as a process of its own, with the chart's settings and the chart's rights."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from helpers.mortal import ending_with_us
from helpers.release import Release, through

HOST_DOMAIN: Final = "hosts.example.com"
RELEASE: Final = Release(values={"gateway.hostDomains": [{"domain": HOST_DOMAIN}]})
NAMESPACE: Final = RELEASE.namespace
SYNCED: Final = "every first list is in"
STANDS_BY: Final = "stands by"


class OperatorProcess:
    """One operator; starts, dies and starts again, and keeps the log of all its lives."""

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        *,
        identity: str = "operator-0",
        release: Release = RELEASE,
    ) -> None:
        self.kubeconfig = kubeconfig
        self._release = release
        self._identity = identity  # a container that starts again is in the same pod
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.liveness_port = free_port()

    def twin(self, identity: str, *, url: str = "") -> OperatorProcess:
        """Return another operator with the same rights, which is not started yet.

        ``url``: where it is to look for the API server.
        """
        kubeconfig = through(self.kubeconfig, url) if url else self.kubeconfig
        return OperatorProcess(
            kubeconfig, self._log.with_name(f"log-{identity}"), identity=identity
        )

    async def start(self, *, until: str = SYNCED, **settings: str) -> None:
        """Start, and wait until it works (or says something else).

        Keywords replace settings (``LOG_LEVEL="debug"``).
        """
        begun = len(self.log())
        self.launch(**settings)
        await self.says(until, since=begun)

    def launch(self, **settings: str) -> None:
        """Start, without waiting for anything."""
        self._process = self._spawn(settings)

    async def says(self, text: str, *, since: int = 0, within: float = 60) -> float:
        """Wait until the log, from some character on, has a text; return how long that took."""
        begun = time.monotonic()
        while text not in self.log()[since:]:
            assert self.is_running(), f"the operator ended:\n{self.log()[since:]}"
            assert time.monotonic() - begun < within, f"no {text!r}:\n{self.log()[since:]}"
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    def pause(self) -> None:
        """Keep it from running, as a machine that hangs does."""
        self._running().send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._running().send_signal(signal.SIGCONT)

    async def ends(self) -> int:
        """Wait for its end; return the exit code."""
        return await asyncio.to_thread(self._running().wait, timeout=30)

    def kill(self) -> None:
        """End it as a lost node or the OOM killer does."""
        self._running().kill()
        self._running().wait()

    def stop(self) -> tuple[int, float]:
        """End it as Kubernetes does; return exit code and seconds."""
        begun = time.monotonic()
        self._running().terminate()
        code = self._running().wait(timeout=30)
        return code, time.monotonic() - begun

    async def restart(self, **settings: str) -> None:
        """Stop it and start it with other settings."""
        self.stop()
        await self.start(**settings)

    def log(self) -> str:
        """Return everything it has written so far."""
        return self._log.read_text() if self._log.exists() else ""

    def is_running(self) -> bool:
        """Return whether it lives."""
        return self._process is not None and self._process.poll() is None

    def _spawn(self, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        overrides = {f"VLLM_ENDPOINTS_{name}": value for name, value in settings.items()}
        variables = {
            **os.environ,
            **self._release.environment("operator"),
            "VLLM_ENDPOINTS_LIVENESS_PORT": str(self.liveness_port),
            "VLLM_ENDPOINTS_IDENTITY": self._identity,
            "KUBECONFIG": str(self.kubeconfig),
            **overrides,
        }
        with self._log.open("ab") as output:
            return subprocess.Popen(
                ending_with_us([sys.executable, "-m", "endpoint_operator"]),
                env=variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the operator was never started"
        return self._process


def free_port() -> int:
    """Return a port that nobody has, on whatever address."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
