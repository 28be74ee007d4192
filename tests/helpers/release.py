"""A release of the chart without its pods: its rights, and what its processes are told."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from helpers import helm
from helpers.live_cluster import ControlPlane
from kube_api import KubeClient

RIGHTS: Final = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@dataclass(frozen=True)
class Release:
    """A release by its name, its namespace and its values."""

    name: str = "vllm-endpoints"
    namespace: str = "vllm-system"
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fullname(self) -> str:
        """What the names of the release's objects begin with."""
        chart = "vllm-endpoints"
        return self.name if chart in self.name else f"{self.name}-{chart}"

    @property
    def objects(self) -> list[helm.Manifest]:
        """Everything that the chart makes."""
        return _rendered(self.name, self.namespace, json.dumps(dict(self.values)))

    def rules(self, part: str) -> list[dict[str, Any]]:
        """Return the rules of every role of a part, each once."""
        roles = [
            obj
            for obj in self.objects
            if obj["kind"] in ("ClusterRole", "Role")
            and obj["metadata"]["labels"]["app.kubernetes.io/component"] == part
        ]
        return [rule for role in roles for rule in role["rules"]]

    def environment(self, part: str) -> dict[str, str]:
        """Return the variables that the chart gives to a part, but for those of its pod."""
        deployment = helm.pick(self.objects, "Deployment", f"{self.fullname}-{part}")
        variables = helm.container(deployment)["env"]
        return {item["name"]: item["value"] for item in variables if "value" in item}

    def manifests(self, *kinds: str) -> str:
        """Return the chart's objects of these kinds as text for kubectl."""
        return yaml.safe_dump_all(obj for obj in self.objects if obj["kind"] in kinds)

    def install(self, plane: ControlPlane, *kinds: str) -> None:
        """Apply the chart's objects of these kinds."""
        applied = plane.kubectl("apply", "-f", "-", stdin=self.manifests(*kinds))
        assert applied.returncode == 0, applied.stderr

    async def kubeconfig(
        self, part: str, api: KubeClient, *, admin: Path, target: Path, url: str = ""
    ) -> Path:
        """Write a kubeconfig with a token of a part's ServiceAccount; return its path."""
        account = f"{self.fullname}-{part}"
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await api.request("POST", path, body=request)
        _write(target, admin, answer["status"]["token"])
        return through(target, url) if url else target


def _write(target: Path, admin: Path, token: str) -> None:
    content: dict[str, Any] = yaml.safe_load(admin.read_text())
    content["users"][0]["user"] = {"token": token}
    target.write_text(yaml.safe_dump(content))


def through(kubeconfig: Path, url: str) -> Path:
    """Write a kubeconfig with the same credentials for another address; return its path."""
    content: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    content["clusters"][0]["cluster"] = {"server": url}
    target = kubeconfig.with_name(f"{kubeconfig.name}-{url.rpartition(':')[2]}")
    target.write_text(yaml.safe_dump(content))
    return target


@functools.cache
def _rendered(name: str, namespace: str, values: str) -> list[helm.Manifest]:
    return helm.render(json.loads(values), release=name, namespace=namespace)
