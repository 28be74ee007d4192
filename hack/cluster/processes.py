"""Programs: those that are run to their end, and those of a cluster that stay.

Every process of a cluster carries ``MARK`` in its environment (containerd hands it down to its
shims), so that even a process whose pid was never written down is found again. A pid counts only
together with the start time the kernel gave it; nothing is ever killed by name.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

MARK = "VLLM_ENDPOINTS_CLUSTER"


class ClusterError(Exception):
    """A problem whose message is meant for the person at the terminal."""


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program, output captured in ``stdout``; a failure raises with the end of it.

    With ``check`` false a failure is the caller's to see; a program that is not there raises.
    """
    try:
        done = subprocess.run(
            [str(a) for a in argv],
            input=stdin or "",
            cwd=cwd,
            env=env,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except FileNotFoundError as missing:
        raise ClusterError(f"`{argv[0]}` is not installed") from missing
    if check and done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise ClusterError(f"{shlex.join(str(a) for a in argv)[:300]} failed:\n{tail}")
    return done


def wait_until(
    what: str, test: Callable[[], bool], *, timeout_seconds: float, every_seconds: float = 0.1
) -> None:
    """Poll ``test`` until it holds."""
    end = time.monotonic() + timeout_seconds
    while not test():
        if time.monotonic() > end:
            raise ClusterError(f"timed out after {timeout_seconds:.0f} s waiting for {what}")
        time.sleep(every_seconds)


def start_time(pid: int) -> int | None:
    """Kernel start time of a live process; None once it is dead, or a zombie to its last thread."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # a killed process whose first thread is gone may still have others, with files and mounts
    threads = int(fields[17])
    return None if fields[0] in "ZX" and threads <= 1 else int(fields[19])


def kill(pids: Iterable[int], *, with_signal: signal.Signals, grace_seconds: float) -> None:
    """Signal processes and wait for them; what outlives the grace is killed."""
    born = {p: t for p in pids if (t := start_time(p)) is not None}
    for pid in born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, with_signal)
    end = time.monotonic() + grace_seconds
    while left := {p for p, t in born.items() if start_time(p) == t}:
        if time.monotonic() > end:
            if with_signal != signal.SIGKILL:
                kill(left, with_signal=signal.SIGKILL, grace_seconds=5)
            break
        time.sleep(0.05)
    for pid in born:  # a dead child of this very process stays a zombie until it is waited for
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def marked(state_dir: Path) -> set[int]:
    """Pids of every live process that was started for the cluster in this directory."""
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    found = {pid for pid in pids if mark_of(pid) == state_dir}
    return {p for p in found if start_time(p) is not None and p != os.getpid()}


def mark_of(pid: int) -> Path | None:
    """The directory that a process was started for; None if it has no mark that may be read."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = os.fsdecode(entry).partition("=")
            if name == MARK:
                return Path(value)
    return None


def end(find: Callable[[], set[int]]) -> None:
    """Kill every process that ``find`` gives, until it gives none."""
    for _ in range(5):  # a process may have forked meanwhile
        left = {pid for pid in find() if start_time(pid) is not None}
        if not left:
            return
        kill(left, with_signal=signal.SIGKILL, grace_seconds=10)


def rooted(directory: Path) -> set[int]:
    """Pids of live processes whose root file system is at or below a directory."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/root"):
        with contextlib.suppress(OSError):
            if path.readlink().is_relative_to(directory):
                found.add(int(path.parent.name))
    return {p for p in found if start_time(p) is not None}


class Processes:
    """The background processes of one cluster, by component name."""

    def __init__(self, *, state_dir: Path, run_dir: Path, log_dir: Path, path: str) -> None:
        self._state_dir = state_dir
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._path = path

    def pid(self, name: str) -> int | None:
        """The pid of a component that is still the process we started."""
        try:
            pid, born = (int(x) for x in self._pid_file(name).read_text().split())
        except (OSError, ValueError):
            return None
        return pid if start_time(pid) == born else None

    def start(self, name: str, program: Path, *flags: str, env: dict[str, str]) -> None:
        """Start a component in the background unless it already runs."""
        if self.pid(name):
            return
        env = {k: v for k, v in env.items() if k not in ("KUBECONFIG", "NOTIFY_SOCKET")}
        env |= {"PATH": self._path, MARK: str(self._state_dir)}
        with self.log_file(name).open("ab") as log:
            child = subprocess.Popen(
                [str(program), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        child.returncode = 0  # it is meant to outlive this object, which would warn of that
        self._pid_file(name).write_text(f"{child.pid} {start_time(child.pid) or 0}")

    def names(self) -> list[str]:
        """Components that were started, alive or not."""
        return sorted(p.stem for p in self._run_dir.glob("*.pid"))

    def forget_dead(self) -> None:
        """Drop the records of components that died, so that they are started again."""
        for name in self.names():
            if not self.pid(name):
                self._pid_file(name).unlink()

    def check(self) -> bool:
        """True; raises if a component that was started has died, with the end of its log."""
        for name in self.names():
            if not self.pid(name):
                tail = self.log_file(name).read_text(errors="replace").splitlines()[-8:]
                raise ClusterError(f"{name} exited:\n" + "\n".join(tail))
        return True

    def log_file(self, name: str) -> Path:
        """Where a component's output goes."""
        return self._log_dir / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self._run_dir / f"{name}.pid"
