"""Modules import downwards, parts meet in documents: the rules of .importlinter hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ["operator", "gateway", "kube"]


def test_the_import_rules_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    path = os.pathsep.join(str(ROOT / source) for source in SOURCES)
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_layer() -> None:
    # a module that no layer names could import whatever it likes
    rules = (ROOT / ".importlinter").read_text()
    for source in ("operator/endpoint_operator", "gateway/endpoint_gateway"):
        names = {
            path.stem if path.is_file() else path.name
            for path in (ROOT / source).iterdir()
            if path.suffix == ".py" or (path / "__init__.py").exists()
        } - {"__init__"}
        container = re.search(
            rf"containers = {Path(source).name}\nlayers =\n((?:    .+\n)+)", rules
        )
        assert container
        assert set(re.findall(r"\w+", container[1])) == names
