"""Debian packages: installed where that is possible, after saying so, and named elsewhere.

Called by ``prerequisites`` and nobody else. Never removes or upgrades what is installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator

from hack.cluster.processes import run
from hack.cluster.progress import say, step

# programs that stand for a package on systems without dpkg
PROGRAMS = {
    "gcc": "cc",
    "openssl": "openssl",
    "pkg-config": "pkg-config",
    "nftables": "nft",
    "iproute2": "ip",
    "util-linux": "unshare",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}


def faults(packages: Iterable[str]) -> Iterator[str]:
    """What is missing and may not be installed by us, and what to do about it."""
    missing = " ".join(_missing(packages))
    if missing and not shutil.which("apt-get"):
        yield f"programs and libraries, by their names in Debian: {missing}"
    elif missing and os.geteuid() != 0:
        yield f"Debian packages: install them with `sudo apt-get install {missing}`"


def provide(packages: Iterable[str]) -> None:
    """Install what is missing; nothing may be at fault with these packages."""
    missing = _missing(packages)
    if missing:
        say(f"Debian packages are missing and will be installed now: {' '.join(missing)}")
        with step(f"apt-get install {' '.join(missing)}"):
            _install(missing)


def _missing(packages: Iterable[str]) -> list[str]:
    return [name for name in packages if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    if not shutil.which("dpkg-query"):
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        return package not in PROGRAMS or bool(shutil.which(PROGRAMS[package], path=path))
    found = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], check=False)
    return found.returncode == 0 and found.stdout.strip() == "installed"


def _install(packages: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], env=environment, check=False)  # old lists may still do
    flags = ["-y", "-q", "--no-install-recommends"]
    run(["apt-get", "install", *flags, *packages], env=environment)
