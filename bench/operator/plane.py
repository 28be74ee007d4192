"""What contestants work against: for each run a fresh etcd and API server, and nothing beside them.

No controllers and no scheduler: they would change Deployments at times of their own, on the same
cores, and the writes of a contestant would depend on who was faster. Contestants have the rights of
the chart's ServiceAccount.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from bench.operator.audit import AuditLog
from bench.process import Process, cpu_seconds
from hack.cluster.lifecycle import Cluster
from hack.cluster.processes import MARK, ClusterError, run
from hack.cluster.state import Layout, Options
from hack.cluster.toolchain import Cache
from helpers.operator_process import RELEASE, free_port
from helpers.release import RIGHTS
from kube_api import KubeClient
from kube_api.config import from_kubeconfig

NAME: Final = "bench"
AUDIT_POLICY: Final = Path(__file__).with_name("audit-policy.yaml")


@dataclass(frozen=True)
class Plane:
    """A control plane: ``api`` is the administrator's, ``audit`` the contestant's requests."""

    cluster: Cluster
    api: KubeClient
    audit: AuditLog
    account: Path

    def process(self, command: Sequence[str]) -> Process:
        """Return a contestant with the chart's settings and rights; it is not started yet.

        It bears the cluster's mark: should this program be killed, the next one ends it.
        """
        environment = {
            **os.environ,
            **RELEASE.environment("operator"),
            "VLLM_ENDPOINTS_LIVENESS_PORT": str(free_port()),
            "KUBECONFIG": str(self.account),
            MARK: str(self.cluster.layout.dir),
        }
        log = self.cluster.layout.log_dir / "contestant.log"
        return Process(command, environment=environment, log=log)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the API server."""
        pid = self.cluster.processes.pid("apiserver")
        if pid is None:
            raise ClusterError("the API server died")
        return cpu_seconds(pid)


@asynccontextmanager
async def control_plane(cache: Cache) -> AsyncIterator[Plane]:
    """Start a control plane with the chart's CRDs and rights, and leave no trace of it."""
    cluster = Cluster(Layout.named(NAME, cache.root), cache)
    cluster.down()  # what a killed run left, its contestant included
    try:
        cluster.up(Options(node=False, controllers=False, audit_policy=str(AUDIT_POLICY)))
        admin = cluster.layout.kubeconfig()
        _install(cache.compiled("kubectl"), admin)
        config = from_kubeconfig(yaml.safe_load(admin.read_text()), base=admin.parent)
        async with KubeClient(config, user_agent="bench") as api:
            account = await RELEASE.kubeconfig(
                "operator", api, admin=admin, target=cluster.layout.kubeconfig("contestant")
            )
            yield Plane(cluster, api, AuditLog(cluster.layout.audit_log), account)
    finally:
        cluster.down()


def _install(kubectl: Path, admin: Path) -> None:
    """Install what the chart installs before an operator can work."""

    def call(*arguments: str, stdin: str = "") -> None:
        run([kubectl, "--kubeconfig", admin, *arguments], stdin=stdin)

    call("create", "namespace", RELEASE.namespace)
    for kinds in (("CustomResourceDefinition",), RIGHTS):
        call("apply", "-f", "-", stdin=RELEASE.manifests(*kinds))
    call("wait", "--for=condition=Established", "crd", "--all")
