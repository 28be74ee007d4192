"""Debian packages: installed where that is possible, after saying so, and named elsewhere.

Called by ``prerequisites`` and nobody else. Never removes or upgrades what is installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from hack.cluster.processes import ClusterError, run
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


def provide(packages: Iterable[str]) -> None:
    """Install what is missing; ClusterError with the command where we may not do that."""
    missing = [name for name in packages if not _is_installed(name)]
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if not shutil.which("apt-get"):
        raise ClusterError(f"missing (by their names in Debian): {', '.join(missing)}")
    if os.geteuid() != 0:
        raise ClusterError(f"missing Debian packages; install them with `sudo {command}`")
    say(f"Debian packages are missing and will be installed now: {', '.join(missing)}")
    with step(command):
        _install(missing)


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
