"""The repository as the contract tests see it: its root, its packages, its files."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "vllm-endpoints"

# source root -> the one package in it
PACKAGES = {
    "operator": "endpoint_operator",
    "gateway": "endpoint_gateway",
    "kube": "kube_api",
}


def modules(source_root: str) -> set[str]:
    """Return the names of modules and sub-packages of the package in a source root."""
    folder = ROOT / source_root / PACKAGES[source_root]
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


def tracked_files() -> list[Path]:
    """Return the files of the tree, those to be committed included, those ignored not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # git refuses a clone of another user's and says what to do about it
    assert listed.returncode == 0, f"`{' '.join(command)}`: {listed.stderr}"
    names = listed.stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]
