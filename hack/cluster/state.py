"""What is known of a cluster between two commands: its directory, and what ``up`` decided.

A cluster is complete when ``up`` came to its end and stamped it so. What has a record but no
stamp is the remains of an ``up`` that was killed; it is cleared away, never repaired.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.cluster.processes import ClusterError

NODE = "node1"
NODE_ADDRESS = "10.99.0.1"
# stands for a cloud's metadata service, which this very machine may need at 169.254.169.254
LINK_LOCAL_ADDRESS = "169.254.99.1"
POD_CIDR, NODE_POD_CIDR = "10.244.0.0/16", "10.244.0.0/24"
SERVICE_CIDR, API_SERVICE_IP, DNS_IP = "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
LONGEST_DIRECTORY = 70  # the kubelet makes unix sockets below it, whose paths have 107 bytes
# below the ports that the kernel gives to clients, and below those of NodePort services
FREE_PORTS = range(20000, 30000)


@dataclass(frozen=True)
class Options:
    """What the user asked ``up`` for.

    Benchmarks leave the controllers out, and give the path of an audit policy: what it selects of
    the API server's requests is then in ``log/audit.log``.
    """

    node: bool = True
    ingress: bool = False
    gpus: int = 0
    controllers: bool = True
    audit_policy: str = ""


@dataclass(frozen=True)
class Settings:
    """What ``up`` decided, once; kept in cluster.json so that later commands agree."""

    node: bool
    address: str
    ports: dict[str, int]
    boot_id: str
    controllers: bool = True
    audit_policy: str = ""

    @property
    def url(self) -> str:
        """Base URL of the API server."""
        return f"https://{self.address}:{self.ports['api']}"


@dataclass(frozen=True)
class Layout:
    """Where one cluster keeps its files."""

    dir: Path

    @classmethod
    def named(cls, name: str, cache_root: Path) -> Layout:
        """The layout of the cluster with that name; ClusterError if the name is none."""
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
            raise ClusterError(f"--name {name}: lower-case letters, digits and dashes, at most 32")
        layout = cls(cache_root / "clusters" / name)
        if len(str(layout.dir)) > LONGEST_DIRECTORY:
            raise ClusterError(f"{layout.dir} is too long for unix sockets: set XDG_CACHE_HOME")
        return layout

    @property
    def name(self) -> str:
        """The name the user gave it."""
        return self.dir.name

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.dir / "pki"

    @property
    def log_dir(self) -> Path:
        """One log file per component."""
        return self.dir / "log"

    @property
    def audit_log(self) -> Path:
        """The API server's record of requests, where one was asked for: a line of JSON for each."""
        return self.log_dir / "audit.log"

    @property
    def run_dir(self) -> Path:
        """Pid files and other marks of what was done."""
        return self.dir / "run"

    @property
    def bin_dir(self) -> Path:
        """Links to the programs that people call by hand."""
        return self.dir / "bin"

    def kubeconfig(self, user: str = "admin") -> Path:
        """The kubeconfig of a component or, by default, of the administrator."""
        return self.dir / f"{user}.kubeconfig"

    def make(self) -> None:
        """Create the directories, readable by the owner alone."""
        for path in (self.dir, self.pki, self.log_dir, self.run_dir, self.bin_dir):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o700)

    def load(self) -> Settings | None:
        """What ``up`` decided; None if there is no (readable) record."""
        try:
            return Settings(**json.loads((self.dir / "cluster.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def settings(self) -> Settings:
        """What ``up`` decided; ClusterError if there is no such cluster."""
        settings = self.load()
        if settings is None:
            raise ClusterError(f"there is no cluster `{self.name}`: run `up` first")
        return settings

    def save(self, settings: Settings) -> None:
        """Record what ``up`` decided."""
        self.make()
        (self.dir / "cluster.json").write_text(json.dumps(asdict(settings), indent=1))

    def is_complete(self) -> bool:
        """Whether an ``up`` of this boot of the machine came to its end."""
        settings = self.load()
        return (
            settings is not None
            and settings.boot_id == boot_id()
            and (self.run_dir / "complete").exists()
        )

    def stamp_complete(self) -> None:
        """Note that ``up`` came to its end."""
        (self.run_dir / "complete").touch()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold off a second ``up`` or ``down`` of the same cluster."""
        self.dir.parent.mkdir(parents=True, exist_ok=True)
        # which stays: a command that begins while this one ends would miss it
        with locked(self.dir.with_suffix(".lock"), f"cluster `{self.name}`"):
            yield


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, which is removed in the end; ClusterError if somebody else holds it."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise ClusterError(f"{what} is in use by another command") from busy
        if not path.exists() or path.stat().st_ino != os.fstat(handle.fileno()).st_ino:
            raise ClusterError(f"{what} was in use by another command: try again")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def decide(layout: Layout, options: Options) -> Settings:
    """Choose address and ports, apart from those of every other cluster of this cache."""
    address = NODE_ADDRESS if options.node else "127.0.0.1"
    names = ["api", "etcd", "etcd-peer"]
    preferred = {}
    if options.node:
        preferred = {"api": 6443, "kubelet": 10250, "kubelet-healthz": 10248}
        preferred |= {"proxy-healthz": 10256, "proxy-metrics": 10249}
    with _port_lock(layout):
        taken = _recorded_ports(layout)
        ports: dict[str, int] = {}
        for name in dict.fromkeys([*names, *preferred]):
            ports[name] = _free_port(preferred.get(name), taken | set(ports.values()))
        settings = Settings(
            node=options.node,
            address=address,
            ports=ports,
            boot_id=boot_id(),
            controllers=options.controllers,
            audit_policy=options.audit_policy,
        )
        layout.save(settings)
    return settings


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextlib.contextmanager
def _port_lock(layout: Layout) -> Iterator[None]:
    directory = os.open(layout.dir.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _recorded_ports(layout: Layout) -> set[int]:
    records = (Layout(path.parent).load() for path in layout.dir.parent.glob("*/cluster.json"))
    return {port for record in records if record for port in record.ports.values()}


def _free_port(preferred: int | None, taken: set[int]) -> int:
    candidates = [preferred] if preferred else []
    candidates += random.sample(FREE_PORTS, 50)
    for port in candidates:
        if port not in taken and _can_bind(port):
            return port
    raise ClusterError("no free port between 20000 and 29999")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", port))
        return True
    return False
