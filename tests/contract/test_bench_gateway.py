"""What the benchmark of the gateway says of what it counts; `make bench-gateway` runs it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from bench.gateway import contestants, peers, report
from bench.gateway.comparison import Results
from bench.gateway.phases import Measured, Streams
from hack.cluster.processes import run
from hack.cluster.toolchain import Cache

NAMES = ["gateway", "nginx", "go", "vllm-router", "litellm"]


def measured(unary: float, *, streams: int = 1000, errors: int = 0) -> Measured:
    return Measured(
        unary=unary,
        unary_64k=unary * 2,
        p50_ms=1.5,
        rss_mib=40,
        errors=errors,
        streams={streams: Streams(sse=30, rss_mib=60, delay_p50_ms=0.2)},
    )


def results(**rounds: list[Measured]) -> Results:
    return Results(rounds, direct_ms=[0.5], busy=[1.25], notes={"nginx": "looks into no body"})


def test_everybody_is_in_the_line_of_json_with_the_agreed_keys() -> None:
    assert list(contestants.MAKERS) == NAMES
    figures = json.loads(report.json_line(results(gateway=[measured(100)], go=[measured(150)])))
    assert list(figures) == ["gateway", "go"]
    for each in figures.values():
        assert {"unary", "unary_64k", "sse"} <= each.keys()
    assert (figures["gateway"]["unary"], figures["gateway"]["unary_64k"]) == (100, 200)


def test_rounds_count_by_their_median_and_errors_together() -> None:
    rounds = [measured(100, errors=1), measured(300, errors=2), measured(120)]
    ours = report.figures(results(gateway=rounds))["gateway"]
    assert (ours["unary"], ours["errors"]) == (120, 3)


def test_latency_is_what_a_gateway_adds() -> None:
    assert report.figures(results(gateway=[measured(1)]))["gateway"]["added_p50_ms"] == 1


def test_one_with_fewer_streams_has_its_events_but_not_the_memory_of_many() -> None:
    its = report.figures(results(litellm=[measured(1, streams=50)]))["litellm"]
    assert its["sse"] == 30
    assert not {"rss_1000_mib", "rss_5000_mib"} & its.keys()


def test_the_table_has_a_row_for_each_figure_with_ratios_to_ours_and_the_notes() -> None:
    lines = report.table(results(gateway=[measured(100)], nginx=[measured(50)])).splitlines()
    assert [line[:35].strip() for line in lines[1 : len(report.FIGURES) + 1]] == [
        figure.title.strip() for figure in report.FIGURES
    ]
    assert re.search(r"100\.0 \(1\.00\) +50\.0 \(0\.50\)", lines[1])
    assert "nginx: looks into no body" in lines


def test_without_ours_there_are_no_ratios() -> None:
    (row,) = [
        line for line in report.table(results(go=[measured(7)])).splitlines() if "1 KB" in line
    ]
    assert row.endswith(" 7.0")


def test_who_cannot_be_had_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    site = contestants.Site(engine=1, gateway=2, metrics=3, dir=tmp_path)
    found = contestants.contestants(Cache(tmp_path), site, ["gateway", "go"])
    assert [each.name for each in found] == ["gateway"]
    assert "go can't be had on this machine and is LEFT OUT" in capsys.readouterr().out


def test_the_python_that_ours_gets_finds_our_packages(tmp_path: Path) -> None:
    site = contestants.Site(engine=1, gateway=2, metrics=3, dir=tmp_path)
    (ours,) = contestants.contestants(Cache(tmp_path), site, ["gateway"])
    run([*ours.command, "--help"], env={**os.environ, **ours.environment})


def test_configurations_have_no_value_left_open(tmp_path: Path) -> None:
    site = contestants.Site(engine=8001, gateway=8002, metrics=8003, dir=tmp_path)
    for template in ("nginx.conf", "litellm.yaml"):
        text = site.fill(template).read_text()
        assert "@" not in text
        assert "127.0.0.1:8001" in text


def test_the_others_are_locked_with_hashes_and_without_addresses() -> None:
    text = peers.REQUIREMENTS.read_text()
    assert "://" not in text
    packages = re.findall(r"^[a-z].*", text, re.MULTILINE)
    assert all(line.endswith("\\") for line in packages)
    wanted = (peers.HERE / "requirements.in").read_text()
    for pinned in re.findall(r"^([\w-]+)\S*==(\S+)", wanted, re.MULTILINE):
        assert any(line.startswith("==".join(pinned)) for line in packages)
