"""A real Redis or Valkey: the system's, else Debian's package, unpacked and not installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.cluster.processes import run
from hack.cluster.toolchain import default_root
from helpers.gateway_process import free_port
from helpers.mortal import ending_with_us

# redis-server is a link to a program of redis-tools; the libraries are those that a small system
# may lack
PACKAGES = ("redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
PROGRAM = "usr/bin/redis-check-rdb"
CERTIFICATE, KEY = "server.crt", "server.key"


class RedisServer:
    """A server on a port of its own, with nothing in it whenever it starts."""

    def __init__(self, folder: Path, *, host: str, password: str, user: str, tls: bool) -> None:
        self._folder = folder
        self._host = host
        self._password = password
        self._user = user
        self._tls = tls
        self.port = free_port()
        if tls:
            _make_certificate(folder, host)
        self.start()

    @property
    def url(self) -> str:
        scheme, user = "rediss" if self._tls else "redis", f"{self._user}@" if self._user else ""
        return f"{scheme}://{user}{self._host}:{self.port}/0"

    @property
    def ca_file(self) -> str:
        """The authority behind its certificate."""
        return str(self._folder / CERTIFICATE)

    def start(self) -> None:
        """Run it, and wait until it answers."""
        program, libraries = _program()
        # the program is one of several by the name that it is called by
        link = self._folder / "redis-server"
        link.unlink(missing_ok=True)
        link.symlink_to(program)
        command = ending_with_us([str(link), *self._options()])
        environment = {"LD_LIBRARY_PATH": libraries, "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("the server did not start")

    def _options(self) -> Iterator[str]:
        # a protected one refuses strangers where there is no password
        yield from ("--bind", self._host, "--save", "", "--protected-mode", "no")
        if self._user:
            yield from ("--user", self._user, "on", f">{self._password}", "~*", "&*", "+@all")
            yield from ("--user", "default", "off")
        elif self._password:
            yield from ("--requirepass", self._password)
        yield from ("--tls-port" if self._tls else "--port", str(self.port))
        if self._tls:
            yield from ("--port", "0", "--tls-auth-clients", "no", "--tls-ca-cert-file")
            yield from (CERTIFICATE, "--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it answer nothing, though its connections are open."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(
    *, host: str = "127.0.0.1", password: str = "", user: str = "", tls: bool = False
) -> Iterator[RedisServer]:
    """Run a server on an address of this machine until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), host=host, password=password, user=user, tls=tls)
        try:
            yield server
        finally:
            server.kill()


def _make_certificate(folder: Path, host: str) -> None:
    """Write a certificate that is signed by itself, and its key."""
    names = ["-subj", "/CN=redis", "-addext", f"subjectAltName=IP:{host}"]
    files: list[str | Path] = ["-keyout", folder / KEY, "-out", folder / CERTIFICATE]
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files])


def _program() -> tuple[Path, str]:
    """Return the program, and where else its libraries are."""
    for name in ("redis-server", "valkey-server"):
        if installed := shutil.which(name):
            return Path(installed), ""
    kept = default_root() / "programs" / "redis"
    if not kept.exists():
        _unpack(kept)
    return kept / PROGRAM, str(kept / "usr/lib" / os.uname().machine) + "-linux-gnu"


def _unpack(kept: Path) -> None:
    assert shutil.which("apt-get"), "install redis-server or valkey-server"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        run(["apt-get", "download", *PACKAGES], cwd=Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        for package in Path(scratch).glob("*.deb"):
            run(["dpkg-deb", "--extract", package, unpacked])
        unpacked.rename(kept)
