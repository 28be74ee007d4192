"""A cluster to work on: kubectl and helm with its kubeconfig, and nothing of the user's own.

Everything here is what a user could type; failures carry what the program printed.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import proxies
from hack.cluster.processes import run

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """``url`` is where the cluster's ingress answers, without a slash at the end."""

    kubeconfig: Path
    kubectl: Path
    helm: Path
    url: str

    def call_kubectl(self, *argv: str, stdin: str | None = None) -> str:
        """Run kubectl; what it printed."""
        return run([self.kubectl, *argv], stdin=stdin, env=self._environment()).stdout

    def call_helm(self, *argv: str) -> str:
        """Run helm; what it printed."""
        return run([self.helm, *argv], env=self._environment()).stdout

    def get(self, kind: str, name: str, *, namespace: str) -> JsonObject:
        """One object as the API server has it."""
        printed = self.call_kubectl("get", kind, name, "-n", namespace, "-o", "json")
        found: JsonObject = json.loads(printed)
        return found

    def items(self, kind: str, *, namespace: str, selector: str = "") -> list[JsonObject]:
        """Every object of a kind in a namespace, or those with some labels."""
        printed = self.call_kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json")
        found: list[JsonObject] = json.loads(printed)["items"]
        return found

    def shell_settings(self) -> list[str]:
        """Lines for a shell that go on by hand with this cluster."""
        folders = dict.fromkeys(str(path.parent) for path in (self.kubectl, self.helm))
        on_path = os.environ.get("PATH", "").split(os.pathsep)
        new = [shlex.quote(folder) for folder in folders if folder not in on_path]
        lines = [f"export KUBECONFIG={shlex.quote(str(self.kubeconfig))}"]
        lines += [f"export PATH={':'.join(new)}:$PATH"] if new else []
        return [*lines, *proxies.shell_lines(os.environ)]

    def _environment(self) -> dict[str, str]:
        return proxies.past(os.environ) | {"KUBECONFIG": str(self.kubeconfig)}
