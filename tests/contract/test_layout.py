"""Where things are: top level, source roots, tests; and what must not be in any file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.tree import PACKAGES, ROOT, tracked_files

TOP_LEVEL = {
    *(".ci", ".dockerignore", ".gitignore", ".importlinter", ".pre-commit-config.yaml"),
    *("AGENTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
    *("Makefile", "pyproject.toml", "requirements", "kind-config.yaml"),
    *("operator", "gateway", "kube", "crds", "charts", "examples"),
    *("hack", "bench", "docs", "tests"),
}
TIERS = ["controlplane", "dataplane", "contract", "cluster", "e2e"]

# What the machine of one developer looks like is nobody else's business, and a lock file with
# addresses would bind everybody to one registry.
FORBIDDEN = {
    "a link to a package": re.compile(r"https?://[^ \"'<>]+(\.whl|\.tar\.gz|\.tgz|/simple/?|/@v/)"),
    "the address of a registry of packages": re.compile(
        r"https?://([\w.-]*\.)?(pypi|proxy|registry|mirrors?|packages?|artifact\w*|nexus)[.-][\w.-]+"
        r"|(index[_-]url|find[_-]links|trusted[_-]host|GOPROXY|GOSUMDB)\W{1,4}[\w/:]+[.]\w",
        re.IGNORECASE,
    ),
    # the home of one person; the engine's own is in its container
    "a path of one machine": re.compile(r"(^|[^\w.-])/(root|(home|Users)/(?!vllm\b)\w[\w.-]*)/"),
}


@pytest.fixture(scope="module")
def files() -> list[Path]:
    return tracked_files()


def test_the_top_level_is_the_known_one(files: list[Path]) -> None:
    assert {path.relative_to(ROOT).parts[0] for path in files} == TOP_LEVEL


@pytest.mark.parametrize(("root", "package"), PACKAGES.items())
def test_a_source_root_holds_one_package_and_is_none(root: str, package: str) -> None:
    # operator/__init__.py would shadow the standard library's operator
    assert not (ROOT / root / "__init__.py").exists()
    assert [path.parent.name for path in (ROOT / root).glob("*/__init__.py")] == [package]


def test_test_folders_are_tiers_and_make_targets(files: list[Path]) -> None:
    folders = {
        path.relative_to(ROOT / "tests").parts[0]
        for path in files
        if path.is_relative_to(ROOT / "tests") and path != ROOT / "tests" / "conftest.py"
    }
    assert folders == {*TIERS, "helpers"}
    makefile = (ROOT / "Makefile").read_text()
    assert f"\nTIERS := {' '.join(TIERS)}\n" in makefile
    targets = set(re.findall(r"^(test-[a-z0-9]+):", makefile, re.MULTILINE))
    assert targets == {f"test-{tier}" for tier in TIERS} | {"test-fast"}


def test_tests_have_no_package_files(files: list[Path]) -> None:
    # pytest runs in importlib mode, in which two test files may have one name
    assert [p for p in files if p.is_relative_to(ROOT / "tests") and p.name == "__init__.py"] == []


def test_no_test_is_skipped_or_expected_to_fail(files: list[Path]) -> None:
    marks = re.compile(r"\b(skip|skipif|xfail|importorskip)\(")
    tests = [p for p in files if p.is_relative_to(ROOT / "tests") and p.suffix == ".py"]
    assert [p for p in tests if marks.search(p.read_text())] == []


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in script if line.startswith("make")] == ["make test"]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_tree_does_not_hold(what: str, files: list[Path]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []
