"""The programs of the others: fetched or compiled on first use, and kept in the project's cache.

nginx is unpacked from Debian's package, not installed: its installation would start a service.
What can't be had on this machine is a ClusterError, which ``contestants`` says and goes on without.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from hack.cluster.processes import run
from hack.cluster.progress import step
from hack.cluster.toolchain import Cache

HERE: Final = Path(__file__).parent
REQUIREMENTS: Final = HERE / "requirements.txt"


def program(cache: Cache) -> Path:
    """Return our Go program: engine, load and the proxy in Go."""
    return cache.compile_module(HERE / "program", "bench-gateway")


def nginx(cache: Cache) -> Path:
    """Return nginx: the system's, else Debian's."""
    if installed := shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/bin"):
        return Path(installed)
    kept = cache.root / "programs" / "nginx"
    if not kept.exists():
        with step("nginx from Debian's package"), tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(f"{kept}.part")
            run(["apt-get", "download", "nginx"], cwd=Path(scratch))
            run(["dpkg-deb", "--extract", *Path(scratch).glob("nginx_*.deb"), unpacked])
            run([unpacked / "usr/sbin/nginx", "-v"])  # libraries that it needs may be missing
            unpacked.rename(kept)
    return kept / "usr/sbin/nginx"


def optimized_python() -> str:
    """Return a Python of our version that is built with optimizations, as the images' is.

    Those that developers build often aren't, which costs a fifth; Debian's is. Where there is none
    it is the one that runs this.
    """
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    ours = str(sysconfig.get_config_var("CONFIG_ARGS"))
    if "--enable-optimizations" in ours or not Path(system).exists():
        return sys.executable
    return system


def python_programs(cache: Cache) -> Path:
    """Return the folder that has vllm-router and litellm, from an environment of their own."""
    base = optimized_python()
    digest = hashlib.sha256(base.encode() + REQUIREMENTS.read_bytes()).hexdigest()[:12]
    environment = cache.root / "programs" / f"bench-peers-{digest}"
    complete = environment / ".made"
    if not complete.exists():
        with step("vllm-router and litellm", expect="up to 3 min, 800 MB"):
            # Debian's has no pip, which is another package
            run([base, "-m", "venv", "--clear", "--without-pip", environment])
            pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python")]
            pip += ["install", "-q", "--disable-pip-version-check", "--require-hashes"]
            run([*pip, "-r", REQUIREMENTS])
            complete.touch()
    return environment / "bin"
