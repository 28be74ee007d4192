"""Modules import downwards, parts meet in documents: the rules of .importlinter hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.tree import PACKAGES, ROOT, modules


def test_the_import_rules_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    path = os.pathsep.join(str(ROOT / source) for source in PACKAGES)
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source_root", PACKAGES)
def test_every_module_has_its_layer(source_root: str) -> None:
    # a module that no layer names could import whatever it likes
    rules = (ROOT / ".importlinter").read_text()
    layers = rf"containers = {PACKAGES[source_root]}\nlayers =\n((?:    .+\n)+)"
    found = re.search(layers, rules)
    assert found
    assert set(re.findall(r"\w+", found[1])) == modules(source_root)
