"""Debian packages: installed where that is possible, after saying so, and named elsewhere.

Called by ``prerequisites`` and nobody else. Never removes or upgrades what is installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

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
    "mount": "mount",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
FILES = {"debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg"}
# a header to include and how to link: pause is static, runc is not
LINKED = {
    "libc6-dev": ("stdlib.h", "-static"),
    "libseccomp-dev": ("seccomp.h", "-lseccomp"),
}


def faults(packages: Iterable[str]) -> Iterator[str]:
    """What is missing and may not be installed by us, and what to do about it."""
    missing = " ".join(_missing(packages))
    if missing and not shutil.which("apt-get"):
        yield f"programs and libraries, by their names in Debian: {missing}"
    elif missing and os.geteuid() != 0:
        yield f"Debian packages: install them with `sudo apt-get install {missing}`"


def provide(packages: Iterable[str]) -> bool:
    """Install what is missing; whether anything was. Nothing may be at fault with these."""
    missing = _missing(packages)
    if missing:
        say(f"Debian packages are missing and will be installed now: {' '.join(missing)}")
        with step(f"apt-get install {' '.join(missing)}"):
            _install(missing)
    return bool(missing)


def _missing(packages: Iterable[str]) -> list[str]:
    return [name for name in packages if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    if not shutil.which("dpkg-query"):
        return _is_provided(package)
    found = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], check=False)
    return found.returncode == 0 and found.stdout.strip() == "installed"


def _is_provided(package: str) -> bool:
    """Whether a system without dpkg has what the package is for."""
    if package in FILES:
        return Path(FILES[package]).exists()
    if package in LINKED:
        return _compiles(*LINKED[package])
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return bool(shutil.which(PROGRAMS[package], path=path))


def _compiles(header: str, *flags: str) -> bool:
    source = f"#include <{header}>\nint main(void) {{ return 0; }}\n"
    if not shutil.which("cc"):
        return False
    command = ["cc", "-x", "c", "-", "-o", os.devnull, *flags]
    return run(command, stdin=source, check=False).returncode == 0


def _install(packages: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], env=environment, check=False)  # old lists may still do
    flags = ["-y", "-q", "--no-install-recommends"]
    run(["apt-get", "install", *flags, *packages], env=environment)
