"""The story of a cluster: ``up`` starts whatever does not run, ``down`` removes every trace.

Both are safe to repeat, and after anything was killed at any moment. A complete cluster whose
components died is repaired by ``up``; an ``up`` that was itself killed is cleared away first.
"""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hack.cluster import addons, controlplane, host, node, pki, state
from hack.cluster.api import AdminApi
from hack.cluster.processes import ClusterError, Processes, end, kill, marked, wait_until
from hack.cluster.programs import Group
from hack.cluster.progress import say, step
from hack.cluster.state import NODE, Layout, Options, Settings
from hack.cluster.toolchain import Cache, default_root, images_of

CLIENTS = ("kubectl", "helm", "ctr")
# these leave something behind unless they are asked to end, or start what has been stopped
STOPPED_FIRST = ("kubelet", "proxy", "kcm", "scheduler")


@dataclass(frozen=True)
class Cluster:
    """One cluster by name; nothing is read or done before a method is called."""

    layout: Layout
    cache: Cache

    @cached_property
    def processes(self) -> Processes:
        """Its background processes."""
        return Processes(
            state_dir=self.layout.dir,
            run_dir=self.layout.run_dir,
            log_dir=self.layout.log_dir,
            path=self.cache.search_path(),
        )

    @property
    def api(self) -> AdminApi:
        """Its API server; ClusterError if there is no such cluster."""
        return AdminApi(self.layout.settings().url, self.layout.pki)

    def up(self, options: Options) -> None:
        """Start whatever does not run yet and wait until it is ready."""
        with self.layout.lock():
            settings = self._settings(options)
            self.processes.forget_dead()
            with step("certificates and kubeconfigs"):
                pki.write_credentials(self.layout, settings)
            with ThreadPoolExecutor(max_workers=1) as pool:
                runtime = pool.submit(self._start_runtime, options) if options.node else None
                self._start_control_plane(settings)
                if runtime:
                    self._start_node(settings, options, runtime)
            self._link_clients()
            self.layout.stamp_complete()

    def down(self) -> None:
        """Stop every process and undo what was done to the host; nothing happens without one."""
        with self.layout.lock():
            _remove(self.layout)

    def load(self, archives: list[Path]) -> None:
        """Import image archives into the node."""
        if not self.layout.settings().node:
            raise ClusterError(f"cluster `{self.layout.name}` has no node")
        for archive in archives:
            with step(f"load {archive.name}"):
                node.import_image(self.cache, archive)

    def load_once(self, archives: list[Path]) -> None:
        """Import archives whose names tell their contents, but for those that are there."""
        self.load([a for a in archives if not self._loaded_mark(a).exists()])
        for archive in archives:
            self._loaded_mark(archive).touch()

    def _loaded_mark(self, archive: Path) -> Path:
        return self.layout.run_dir / f"{archive.stem}.loaded"

    def _settings(self, options: Options) -> Settings:
        if not self.layout.is_complete():
            _remove(self.layout)
        settings = self.layout.load()
        if settings and settings.node != options.node:
            kind = "a node" if settings.node else "no node"
            raise ClusterError(f"cluster `{self.layout.name}` has {kind}: run `down` first")
        if options.node:
            _take_machine(self.layout)
        return settings or state.decide(self.layout, options)

    def _start_control_plane(self, settings: Settings) -> None:
        controlplane.start_api(self.layout, settings, self.processes, self.cache)
        with step("API server ready"):
            self._wait(f"the API server (see {self.processes.log_file('apiserver')})", "/readyz")
        if not settings.controllers:
            return
        controlplane.start_controllers(self.layout, settings, self.processes, self.cache)
        with step("controllers ready"):
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._wait(f"the controllers (see {self.processes.log_file('kcm')})", account)

    def _start_runtime(self, options: Options) -> None:
        node.start_runtime(self.layout, self.processes, self.cache)
        for archive in (self.cache.image(name) for name in images_of(needed_groups(options))):
            if not self._loaded_mark(archive).exists():
                node.import_image(self.cache, archive)
                self._loaded_mark(archive).touch()

    def _start_node(self, settings: Settings, options: Options, runtime: Future[None]) -> None:
        with step("containerd ready, images of the add-ons imported"):
            runtime.result()
        node.start_agents(self.layout, settings, self.processes, self.cache)
        with step("add-ons applied"):
            addons.apply(self.cache, self.layout, addons.coredns_manifest())
            if options.ingress:
                addons.apply(self.cache, self.layout, addons.traefik_manifest(host_ports=False))
        with step("NetworkPolicies enforced"):
            node.start_enforcer(self.layout, self.processes)
        with step("node ready"):
            what = f"the node (see {self.processes.log_file('kubelet')})"
            self._wait(what, f"/api/v1/nodes/{NODE}", _is_ready)
        if options.gpus:
            with step(f"{options.gpus} x {addons.GPU_RESOURCE}"):
                addons.add_gpus(self.api, options.gpus)
        with step("cluster DNS and ingress ready" if options.ingress else "cluster DNS ready"):
            addons.wait_ready(self.api, ingress=options.ingress)

    def _wait(self, what: str, path: str, test: Any = bool) -> None:
        wait_until(
            what,
            lambda: self.processes.check() and self.api.holds(path, test),
            timeout_seconds=180,
        )

    def _link_clients(self) -> None:
        for name in CLIENTS:
            link, target = self.layout.bin_dir / name, self.cache.program(name)
            link.unlink(missing_ok=True)
            if target.exists():
                link.symlink_to(target)


def needed_groups(options: Options) -> list[Group]:
    """Groups of programs that such a cluster runs."""
    wanted: dict[Group, bool] = {
        "control-plane": True,
        "client": True,
        "node": options.node,
        "ingress": options.ingress,
    }
    return [group for group, needed in wanted.items() if needed]


def _is_ready(found: Any) -> bool:
    conditions = found["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _take_machine(layout: Layout) -> None:
    """Make this cluster the owner of the machine's one node, over dead remains of another."""
    owner = host.owner()
    if owner is None:
        host.refuse_foreign_node()
    elif owner != layout.dir:
        _evict(Layout(owner))
    host.claim(layout.dir)


def _evict(other: Layout) -> None:
    if other.is_complete() and marked(other.dir):
        raise ClusterError(
            f"cluster `{other.name}` has a node on this machine, and there is room for one:"
            f" remove it with `{_remedy(other)}`"
        )
    say(f"clearing away what is left of cluster `{other.name}`")
    with other.lock():
        _remove(other)


def _remedy(other: Layout) -> str:
    cache_home = other.dir.parent.parent.parent
    prefix = (
        "" if cache_home / "vllm-endpoints" == default_root() else f"XDG_CACHE_HOME={cache_home} "
    )
    return f"{prefix}python3 -m hack.cluster --name {other.name} down"


def free_machine() -> None:
    """Remove the node on this machine, whoever made it and wherever its cluster is kept."""
    if not host.is_used():
        return
    owner = host.owner()
    if owner is None:  # killed between taking the machine and saying so, or the other way round
        host.undo()
        return
    other = Layout(owner)
    say(f"cluster `{other.name}` in {owner} has a node on this machine")
    with other.lock():
        _remove(other)


def _remove(layout: Layout) -> None:
    """Everything of one cluster: processes, mounts, kernel objects, files."""
    on_host = host.is_used_by(layout.dir)
    if not (layout.dir.exists() or on_host or marked(layout.dir)):
        return
    with step(f"stop the processes of cluster `{layout.name}`"):
        _stop(layout, on_host=on_host)
    with step("remove its mounts, network, cgroups and files"):
        host.unmount(layout.dir)
        if on_host:
            host.undo()
        if layout.dir.exists():
            shutil.rmtree(layout.dir)


def _stop(layout: Layout, *, on_host: bool) -> None:
    processes = Processes(
        state_dir=layout.dir, run_dir=layout.run_dir, log_dir=layout.log_dir, path=""
    )
    polite = [pid for name in STOPPED_FIRST if (pid := processes.pid(name))]
    kill(polite, with_signal=signal.SIGTERM, grace_seconds=3)
    end(lambda: marked(layout.dir) | (host.pod_processes() if on_host else set()))
