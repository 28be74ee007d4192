"""Compiled programs and the images made of them, in a cache keyed by what they are made from.

A program is compiled again when its module's files change. Each one is moved into place when it
is complete, and Go keeps its own cache of packages: a build that is killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import archives
from hack.cluster.processes import MARK, ClusterError, end, marked, run
from hack.cluster.programs import (
    HERE,
    PAUSE_IMAGE,
    PROGRAMS,
    Group,
    Program,
    linker_flags,
    program,
    version_of,
)
from hack.cluster.progress import say, step

# CoreDNS is ours alone; Traefik is named like the official image, so that its manifest fits both
COREDNS_IMAGE = "localhost/coredns:local"
TRAEFIK_IMAGE = (
    f"docker.io/library/traefik:{version_of('traefik', 'github.com/traefik/traefik/v3')}"
)
PAUSE_SOURCE = "build/pause/linux/pause.c"


def default_root() -> Path:
    """Where programs, images and clusters are kept unless the command line says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).resolve() / "vllm-endpoints"


@dataclass(frozen=True)
class Cache:
    """The directory of compiled programs and image archives; shared by all clusters."""

    root: Path

    def program(self, name: str) -> Path:
        """Path of a program, compiled or not."""
        module = program(name).module
        return self.root / "programs" / f"{module}-{_key(module)}" / name

    def compiled(self, name: str) -> Path:
        """Path of a program that must be there; the error says how to compile it."""
        path = self.program(name)
        if not path.exists():
            group = program(name).group
            raise ClusterError(
                f"{name} is not compiled: run `python3 -m hack.cluster build {group}`"
            )
        return path

    def image(self, name: str) -> Path:
        """Path of the archive of one of the images that are made of our own programs."""
        module = "kubernetes" if name == "pause" else program(name).module
        return self.root / "images" / f"{name}-{_key(module)}.tar"

    @property
    def kind_kubeconfig(self) -> Path:
        """Where the demo's cluster in kind keeps its kubeconfig, by which it is known of."""
        return self.root / "kind.kubeconfig"

    def search_path(self) -> str:
        """A PATH with every program of the cluster in front."""
        ours = dict.fromkeys(str(self.program(p.name).parent) for p in PROGRAMS)
        return os.pathsep.join([*ours, os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

    def missing(self, groups: Collection[Group]) -> list[Program]:
        """Programs of these groups that are not compiled yet."""
        return [p for p in PROGRAMS if p.group in groups and not self.program(p.name).exists()]

    def build(self, groups: Collection[Group], *, jobs: int) -> None:
        """Compile what is missing and make the images that a node needs of it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock():
            # a go command that outlived a killed build; builds of images have marks of their own
            end(lambda: marked(self.root))
            self._compile(self.missing(groups), jobs)
            for name in images_of(groups):
                self._make_image(name)

    def _compile(self, missing: list[Program], jobs: int) -> None:
        if not missing:
            return
        minutes = sum(p.cold_seconds for p in missing) / 60
        say(f"to compile: {', '.join(p.name for p in missing)}")
        say(
            f"  about {minutes:.0f} min on two cores the first time, less with warm Go caches;"
            " kept for later runs; may be interrupted at any time and goes on from there"
        )
        for each in missing:
            with step(f"build {each.name}", expect=_expected(each)):
                self._compile_one(each, jobs)

    def _compile_one(self, each: Program, jobs: int) -> None:
        out = self.program(each.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".part")
        command: list[str | Path] = ["go", "build", "-trimpath", "-buildvcs=false"]
        command += [f"-p={jobs}", f"-tags={each.tags}", f"-ldflags={linker_flags(each.module)}"]
        run(
            [*command, "-o", part, each.package],
            cwd=each.module_dir,
            env=self._go_environment(cgo=each.cgo),
        )
        part.rename(out)

    def compile_module(self, directory: Path, name: str) -> Path:
        """Compile a Go program of ours, unless its files are those of the last time; its path."""
        digest = hashlib.sha256(b"".join(f.read_bytes() for f in sorted(directory.iterdir())))
        out = self.root / "programs" / f"{name}-{digest.hexdigest()[:12]}" / name
        if not out.exists():
            expect = "up to 4 min with empty Go caches"
            with self._lock(), step(f"build {name}", expect=expect):
                out.parent.mkdir(parents=True, exist_ok=True)
                part = out.with_suffix(".part")
                command: list[str | Path] = ["go", "build", "-trimpath", "-buildvcs=false", "-o"]
                run([*command, part], cwd=directory, env=self._go_environment())
                part.rename(out)
        return out

    def _make_image(self, name: str) -> None:
        out = self.image(name)
        if out.exists():
            return
        with step(f"image {name}"), tempfile.TemporaryDirectory() as scratch:
            if name == "pause":
                binary, reference = self._compile_pause(Path(scratch)), PAUSE_IMAGE
            else:
                binary = self.program(name)
                reference = TRAEFIK_IMAGE if name == "traefik" else COREDNS_IMAGE
            layer = archives.tree_layer({name: binary, "tmp/": None}, Path(scratch))
            archives.write(out, reference, layer, {"Entrypoint": [f"/{name}"]})

    def _compile_pause(self, scratch: Path) -> Path:
        source = run(
            ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"],
            cwd=program("kubelet").module_dir,
            env=self._go_environment(),
        ).stdout.strip()
        out = scratch / "pause"
        run(
            ["cc", "-static", "-Os", "-s", "-DVERSION=local", "-o", out, f"{source}/{PAUSE_SOURCE}"]
        )
        return out

    def _go_environment(self, *, cgo: bool = False) -> dict[str, str]:
        # a user's own flags or workspace would change what the pinned modules mean
        ours = {"CGO_ENABLED": str(int(cgo)), "GOFLAGS": "", "GOWORK": "off"}
        return os.environ | ours | {MARK: str(self.root)}

    def purge(self) -> None:
        """Remove every program and image; clusters are not touched."""
        for path in self.root.iterdir() if self.root.exists() else ():
            if path.name != "clusters":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / "build.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another build is running: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def images_of(groups: Collection[Group]) -> list[str]:
    """Names of the images that a node with these groups of programs needs."""
    names = ["pause", "coredns"] if "node" in groups else []
    return [*names, "traefik"] if "ingress" in groups else names


def _expected(each: Program) -> str:
    minutes = each.cold_seconds / 60
    return f"up to {minutes:.0f} min" if minutes >= 1 else "up to a minute"


def _key(module: str) -> str:
    digest = hashlib.sha256(linker_flags(module).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((HERE / "modules" / module / name).read_bytes())
    return digest.hexdigest()[:12]
