"""The locked requirements: hashed, without addresses, and what pyproject.toml asks for."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from helpers.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ["operator", "gateway", "compile", "dev"]


def direct(extra: str) -> list[Requirement]:
    """Return what an extra asks for, the extras that it names included."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    found: list[Requirement] = []
    for requirement in map(Requirement, wanted):
        if requirement.name == PROJECT["name"]:
            found += [r for name in sorted(requirement.extras) for r in direct(name)]
        else:
            found.append(requirement)
    return found


def locked(extra: str) -> dict[str, tuple[Version, str]]:
    """Return version and the rest of the entry of every locked package."""
    text = (ROOT / "requirements" / f"{extra}.txt").read_text()
    entries = re.findall(r"^([a-zA-Z0-9._-]+)==([^ ;]+)([^=]*(?:\n    .*)*)", text, re.MULTILINE)
    return {canonicalize_name(name): (Version(v), rest) for name, v, rest in entries}


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_direct_dependency_is_locked_to_a_version_that_fits(extra: str) -> None:
    versions = locked(extra)
    for requirement in direct(extra):
        version, _ = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_has_hashes(extra: str) -> None:
    lines = (ROOT / "requirements" / f"{extra}.txt").read_text().splitlines()
    packages = [line for line in lines if not line.startswith(" ")]
    assert len(packages) == len(locked(extra))
    assert [line for line in packages if not line.endswith("\\")] == []
    hashes = [line for line in lines if line.startswith(" ")]
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


@pytest.mark.parametrize("extra", EXTRAS)
def test_no_address_is_locked(extra: str) -> None:
    assert "://" not in (ROOT / "requirements" / f"{extra}.txt").read_text()


@pytest.mark.parametrize("extra", ["operator", "gateway", "compile"])
def test_the_images_and_the_developers_get_the_same_versions(extra: str) -> None:
    everything = {name: version for name, (version, _) in locked("dev").items()}
    ours = {name: version for name, (version, _) in locked(extra).items()}
    assert ours.items() <= everything.items()


def test_the_packages_for_node_have_hashes_and_no_address() -> None:
    text = (ROOT / "tests" / "dataplane" / "node" / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    ours = packages.pop("")
    assert [name for name, locked in packages.items() if "integrity" not in locked] == []
    asked = json.loads((ROOT / "tests" / "dataplane" / "node" / "package.json").read_text())
    assert ours["dependencies"] == asked["dependencies"]
