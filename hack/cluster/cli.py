"""The command line: parsing, and one small function per command.

Errors that a person can act on are printed as one message (``shell``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hack.cluster import prerequisites, proxies
from hack.cluster.lifecycle import Cluster, needed_groups
from hack.cluster.processes import ClusterError
from hack.cluster.programs import GROUPS, PROGRAMS
from hack.cluster.progress import say
from hack.cluster.shell import exit_status
from hack.cluster.state import Layout, Options
from hack.cluster.toolchain import Cache, default_root

Command = Callable[[Cluster, argparse.Namespace], None]


def main(argv: Sequence[str]) -> int:
    """Run one command; the exit status."""
    args = _parser().parse_args(argv)
    command: Command = args.command
    cache = Cache(default_root())
    return exit_status(
        lambda: command(Cluster(Layout.named(args.name, cache.root), cache), args),
        interrupted="the same command goes on from here",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m hack.cluster",
        description="A real Kubernetes on this machine, without a container engine.",
        epilog=f"Everything is kept below {default_root()} (XDG_CACHE_HOME moves it).",
    )
    parser.add_argument("--name", default="demo", help="which cluster (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    check = add("check", _check, "name everything that is missing on this machine")
    up = add("up", _up, "start a cluster, or whatever part of it does not run")
    build = add("build", _build, "compile what is not in the cache yet")
    build.add_argument("groups", nargs="*", metavar="GROUP", help=f"of: {', '.join(GROUPS)}")
    for sub in (check, up):
        sub.add_argument("--no-node", action="store_true", help="control plane only; without root")
    up.add_argument("--ingress", action="store_true", help="with Traefik, at http://10.99.0.1")
    up.add_argument("--gpus", type=int, default=0, metavar="N", help="advertise N fake GPUs")
    for sub in (build, up):
        sub.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    load = add("load-image", _load, "import OCI or Docker archives into the node")
    load.add_argument("archives", nargs="+", type=Path, metavar="TAR")
    add("status", _status, "list components")
    add("kubeconfig", _kubeconfig, "print the path of the administrator's kubeconfig")
    add("env", _env, "print shell settings: KUBECONFIG, and kubectl and helm on PATH")
    which = add("which", _which, "print the path of a compiled program")
    which.add_argument("program", choices=sorted(p.name for p in PROGRAMS))
    add("down", _down, "stop the cluster and remove every trace of it; safe to repeat")
    add("purge", _purge, "remove compiled programs and images from the cache")
    return parser


def _options(args: argparse.Namespace) -> Options:
    node = not args.no_node
    if (args.ingress or args.gpus) and not node:
        raise ClusterError("--ingress and --gpus need a node")
    return Options(node=node, ingress=args.ingress, gpus=args.gpus)


def _check(cluster: Cluster, args: argparse.Namespace) -> None:
    prerequisites.provide(cluster.cache, node=not args.no_node, images=not args.no_node)
    say("nothing is missing")


def _build(cluster: Cluster, args: argparse.Namespace) -> None:
    groups = args.groups or list(GROUPS)
    if unknown := set(groups) - set(GROUPS):
        raise ClusterError(f"no such group: {', '.join(sorted(unknown))}")
    prerequisites.provide_for_build(cluster.cache, groups)
    cluster.cache.build(groups, jobs=args.jobs)


def _up(cluster: Cluster, args: argparse.Namespace) -> None:
    options = _options(args)
    prerequisites.provide(cluster.cache, node=options.node, images=False)
    cluster.cache.build(needed_groups(options), jobs=args.jobs)
    cluster.up(options)
    _env(cluster, args)


def _load(cluster: Cluster, args: argparse.Namespace) -> None:
    cluster.load(args.archives)


def _status(cluster: Cluster, _: argparse.Namespace) -> None:
    settings = cluster.layout.settings()
    for name in cluster.processes.names():
        pid = cluster.processes.pid(name)
        print(f"{name:11} {'running' if pid else 'dead':9} {_memory(pid)}")
    ready = "ready" if cluster.api.holds("/readyz") else "not ready"
    print(f"{'API':11} {ready:9} {settings.url}")


def _memory(pid: int | None) -> str:
    if pid is None:
        return ""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return f"pid {pid:<8} {pages * os.sysconf('SC_PAGE_SIZE') >> 20:5} MiB"


def _kubeconfig(cluster: Cluster, _: argparse.Namespace) -> None:
    cluster.layout.settings()
    print(cluster.layout.kubeconfig())


def _env(cluster: Cluster, _: argparse.Namespace) -> None:
    cluster.layout.settings()
    print(f"export KUBECONFIG={cluster.layout.kubeconfig()}")
    print(f"export PATH={cluster.layout.bin_dir}:$PATH")
    for line in proxies.shell_lines(os.environ):
        print(line)


def _which(cluster: Cluster, args: argparse.Namespace) -> None:
    print(cluster.cache.compiled(args.program))


def _down(cluster: Cluster, _: argparse.Namespace) -> None:
    cluster.down()


def _purge(cluster: Cluster, _: argparse.Namespace) -> None:
    root = cluster.cache.root
    used = [*(root / "clusters").glob("*/cluster.json"), root / "buildah"]
    if any(path.exists() for path in (*used, cluster.cache.kind_kubeconfig)):
        raise ClusterError("clusters or builds use what is there: run `make demo-down` first")
    cluster.cache.purge()
    say(f"emptied {cluster.cache.root}; Go's own caches: `go clean -cache -modcache`")
