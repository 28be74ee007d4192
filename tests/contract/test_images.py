"""The images of the two parts can run as the chart runs them."""

from __future__ import annotations

import re

import pytest

from helpers.tree import ROOT


@pytest.mark.parametrize("part", ["operator", "gateway"])
def test_the_user_is_a_number_and_not_root(part: str) -> None:
    # the kubelet can't tell whether a named user is root, and then refuses runAsNonRoot
    users = re.findall(r"^USER (\S+)$", (ROOT / part / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert re.fullmatch(r"[1-9]\d*(:\d+)?", users[-1])


@pytest.mark.parametrize("part", ["operator", "gateway"])
def test_packages_are_installed_from_the_locked_set_with_their_hashes(part: str) -> None:
    text = (ROOT / part / "Dockerfile").read_text()
    assert f"requirements/{part}.txt" in text
    assert "--require-hashes" in text


@pytest.mark.parametrize("part", ["operator", "gateway"])
def test_the_image_starts_the_part_without_the_charts_help(part: str) -> None:
    assert re.search(r"^ENTRYPOINT \[", (ROOT / part / "Dockerfile").read_text(), re.MULTILINE)
