"""Builds Dockerfiles with buildah, in a chroot, from base images made of Debian packages.

These take the names of Docker Hub's images, so that the very same Dockerfiles work with those.
pip's settings and the certificates of this machine are mounted while commands run; since the last
stage of our Dockerfiles runs none, not even an empty mount point is left in an image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from hack.cluster import archives, host
from hack.cluster.processes import MARK, end, marked, rooted, run
from hack.cluster.progress import step
from hack.cluster.state import locked
from hack.images.catalog import REPOSITORY, Image

SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
# the name of each base, and its packages; the second one is for what is compiled
BASES = {
    "docker.io/library/python:3.11-slim-bookworm": PACKAGES,
    "docker.io/library/python:3.11-bookworm": f"{PACKAGES},gcc,libc6-dev,libpython3-dev",
}
EXCLUDED = ("doc", "man", "locale")
# where the official image has its Python
LINKS = (
    "for n in python pip; do"
    ' ln -sf "/usr/bin/${n}3" "$1/usr/local/bin/$n";'
    ' ln -sf "/usr/bin/${n}3" "$1/usr/local/bin/${n}3"; done'
)
LOCKED = "the builder of images"
CERTIFICATES = "/run/host-certificates.crt"
WHEELS = "/run/host-wheels"

# buildah makes these and their folders whatever it is told; removed where they were not before
STRAYS = ("/var/lib/containers/cache/blob-info-cache-v1.boltdb", "/etc/cni/net.d/cni.lock")

Command = list[str | Path]


class Builder:
    """Builds images into the cache; one at a time, whoever asks."""

    def __init__(self, cache_root: Path) -> None:
        self._archives = cache_root / "images"
        self._store = cache_root / "buildah"
        self._lock = cache_root / "images.lock"

    def archive(self, image: Image) -> Path:
        """Where the archive of an image is, once it is built."""
        bases = [self._base(name).name for name in image.bases()]
        key = hashlib.sha256(f"{image.key()} {bases}".encode()).hexdigest()[:12]
        return self._archives / f"{image.name}-{key}.tar"

    def build(self, images: Iterable[Image]) -> list[Path]:
        """Build what is not in the cache; the archives of all of them, in order."""
        # named once: a source that is edited meanwhile must not give an old image a new key
        wanted = {image: self.archive(image) for image in images}
        missing = {image: out for image, out in wanted.items() if not out.exists()}
        if missing:
            with self._open_store():
                self._build_all(missing)
        return list(wanted.values())

    def clean(self) -> None:
        """Remove what a build that was killed has left; ClusterError while one is at work."""
        if self._store.exists():
            with locked(self._lock, LOCKED):
                self._clean()

    def _clean(self) -> None:
        if not self._store.exists():
            return
        end(lambda: marked(self._store) | rooted(self._store))
        host.unmount(self._store)
        strays = self._store / "strays"
        for path in strays.read_text().split() if strays.exists() else ():
            _remove_if_unused(Path(path))
        shutil.rmtree(self._store)

    def _build_all(self, missing: dict[Image, Path]) -> None:
        for name in sorted({base for image in missing for base in image.bases()}):
            self._provide_base(name)
        for image, out in missing.items():
            with step(f"image {image.reference}", expect=image.expect):
                self._build_one(image, out)

    def _build_one(self, image: Image, out: Path) -> None:
        part = out.with_suffix(".part")
        part.unlink(missing_ok=True)
        with self._settings_of_this_machine() as volumes:
            command = self._buildah("build", "--isolation", "chroot", "--network", "host")
            command += ["--pull-never", "--layers=false", "--format", "oci", *volumes]
            file = REPOSITORY / image.dockerfile
            self._run([*command, "-f", file, "-t", image.reference, REPOSITORY])
        # the disk is the bottleneck of everything that writes or reads the archive
        push = self._buildah("push", "-q", "--compression-format", "zstd", image.reference)
        self._run([*push, f"oci-archive:{part}:{image.reference}"])
        self._run(self._buildah("rmi", "-f", image.reference))
        part.rename(out)
        self._forget_others(out)

    def _base(self, name: str) -> Path:
        made_of = f"{SUITE} {BASES[name]} {LINKS} {EXCLUDED}"
        key = hashlib.sha256(made_of.encode()).hexdigest()[:12]
        return self._archives / f"{name.rpartition(':')[2]}-{key}.tar"

    def _provide_base(self, name: str) -> None:
        base = self._base(name)
        if not base.exists():
            with step(f"image {name}", expect="about a minute; from Debian packages"):
                self._make_base(name, base)
        pulled = self._run(self._buildah("pull", "-q", f"oci-archive:{base}")).split()[-1]
        self._run(self._buildah("tag", pulled, name))

    def _make_base(self, name: str, out: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._store) as scratch:
            layer = Path(scratch, "layer.tar")
            command: Command = ["mmdebstrap", "--variant=minbase", "--mode=root"]
            command += [f"--include={BASES[name]}", f"--customize-hook={LINKS}"]
            command += ["--aptopt=APT::Install-Recommends false"]
            command += [f"--dpkgopt=path-exclude=/usr/share/{n}/*" for n in EXCLUDED]
            self._run([*command, SUITE, layer])
            archives.write(out, name, layer, {"Cmd": ["python3"]})
        self._forget_others(out)

    def _forget_others(self, archive: Path) -> None:
        """Remove archives of the same image that were made of other files."""
        name = archive.stem.rpartition("-")[0]
        for outdated in set(self._archives.glob(f"{name}-*.tar")) - {archive}:
            outdated.unlink()

    @contextlib.contextmanager
    def _open_store(self) -> Iterator[None]:
        """A fresh store for this run alone, so that nothing of it stays behind."""
        self._archives.mkdir(parents=True, exist_ok=True)
        with locked(self._lock, LOCKED):
            self._clean()
            (self._store / "tmp").mkdir(parents=True)
            (self._store / "strays").write_text("\n".join(_absent_strays()))
            try:
                yield
            finally:
                self._clean()

    def _buildah(self, *argv: str) -> Command:
        command: Command = ["buildah", "--storage-driver", "overlay"]
        return [*command, "--root", self._store / "root", "--runroot", self._store / "run", *argv]

    def _run(self, command: Command) -> str:
        ours = {"TMPDIR": str(self._store / "tmp"), MARK: str(self._store)}
        return run(command, env=os.environ | ours).stdout

    @contextlib.contextmanager
    def _settings_of_this_machine(self) -> Iterator[list[str]]:
        """Arguments that mount pip's settings and the certificates it trusts."""
        settings = _pip_settings()
        volumes = []
        bundle = settings.pop("cert", "") or ssl.get_default_verify_paths().cafile or ""
        if Path(bundle).is_file():
            settings["cert"] = CERTIFICATES
            volumes += ["--volume", f"{Path(bundle).resolve()}:{CERTIFICATES}:ro"]
        wheels = settings.get("find-links", "")
        if Path(wheels).is_dir() and wheels.startswith("/"):
            settings["find-links"] = WHEELS
            volumes += ["--volume", f"{wheels}:{WHEELS}:ro"]
        with tempfile.NamedTemporaryFile("w", dir=self._store, suffix=".conf") as config:
            config.write("[global]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))
            config.flush()
            yield [*volumes, "--volume", f"{config.name}:/etc/pip.conf:ro"]


def _absent_strays() -> list[str]:
    """What is not there of the strays and their folders, innermost first."""
    chains = [(path, path.parent, path.parent.parent) for path in map(Path, STRAYS)]
    return [str(p) for chain in chains for p in chain if not p.exists()]


def _remove_if_unused(path: Path) -> None:
    with contextlib.suppress(OSError):  # not made, or somebody else's folder by now
        path.rmdir() if path.is_dir() else path.unlink()


def _pip_settings() -> dict[str, str]:
    """This machine's pip settings, from files and environment; the later one wins."""
    listed = run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
    pairs = (line.partition("=") for line in listed.splitlines() if "=" in line)
    return {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in pairs}
