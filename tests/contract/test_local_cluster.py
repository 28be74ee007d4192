"""What the local cluster decides about a machine; what it does there is seen in tests/e2e."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hack.cluster import host, kernel, proxies, space
from hack.cluster.processes import MARK, ClusterError
from hack.cluster.programs import PROGRAMS, program
from hack.cluster.shell import REMEDIES, exit_status
from hack.cluster.state import Layout
from hack.cluster.toolchain import Cache
from hack.demo import story
from hack.demo.kind import parse_version
from hack.demo.session import Session
from helpers.tree import ROOT

PROXY = "http://gate.example.com:3128"
OURS = "10.99.0.1,10.96.0.0/16,10.244.0.0/16,127.0.0.1,localhost"


# -- proxies ----------------------------------------------------------------------------------


def test_components_know_of_no_proxy() -> None:
    environment = {"https_proxy": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": "x", "HOME": "/h"}
    assert proxies.without(environment) == {"HOME": "/h"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, OURS),
        ({"NO_PROXY": "a.example"}, f"a.example,{OURS}"),
        ({"no_proxy": "b.example, localhost"}, f"b.example,localhost,{OURS[:-10]}"),
        ({"NO_PROXY": "a.example", "no_proxy": "b.example"}, f"a.example,b.example,{OURS}"),
        ({"NO_PROXY": "*"}, "*"),
    ],
    ids=["none", "upper", "lower", "both", "everything"],
)
def test_clients_go_past_a_proxy_to_the_cluster(given: dict[str, str], expected: str) -> None:
    environment = {"HTTPS_PROXY": PROXY, **given}
    wanted = {"HTTPS_PROXY": PROXY, "NO_PROXY": expected, "no_proxy": expected}
    assert proxies.past(environment) == wanted
    (line,) = proxies.shell_lines(environment)
    script = f'{line}; printf %s "$NO_PROXY $no_proxy"'
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == f"{expected} {expected}"


def test_without_a_proxy_the_environment_stays_as_it_is() -> None:
    assert proxies.past({"NO_PROXY": "x"}) == {"NO_PROXY": "x"}
    assert proxies.shell_lines({"NO_PROXY": "x"}) == []


# -- the network ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "clashes"),
    [
        ("default via 192.0.2.1 dev eth0", False),
        ("10.0.0.0/8 via 192.0.2.7 dev tun0", False),
        ("10.96.0.0/12 dev eth0 proto kernel scope link src 10.100.0.5", False),
        ("172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1", False),
        ("local 10.96.3.4 dev eth0 table local proto kernel scope host src 10.96.3.4", True),
        ("default via 10.244.0.1 dev eth0", True),
        ("10.244.0.0/24 dev cni0 proto kernel scope link src 10.244.0.1", True),
        ("10.96.0.0/16 dev tun0 scope link", True),
        ("10.99.0.1 dev wg0 scope link", True),
        ("unreachable 10.244.7.0/26 proto bird", True),
    ],
)
def test_a_route_to_the_clusters_addresses_is_named(route: str, clashes: bool) -> None:
    assert kernel.clashing_routes(f"{route} \n") == ([route] if clashes else [])


RULESET = """
table ip filter {{
	chain INPUT {{
		type filter hook input priority filter; policy drop;
{rule}	}}

	chain FORWARD {{
		type filter hook forward priority filter; policy {forward};
	}}

	chain OUTPUT {{
		type filter hook output priority filter; policy drop;
	}}
}}
table inet mine {{
	chain input {{
		type filter hook input priority filter + 10; policy accept;
	}}
}}
"""


@pytest.mark.parametrize(
    ("rule", "forward", "dropping"),
    [
        ("", "accept", ["ip filter INPUT"]),
        ("", "drop", ["ip filter INPUT", "ip filter FORWARD"]),
        ("		ip saddr 10.244.0.0/16 accept\n", "drop", []),
        ("		ip saddr 10.244.0.0/16 drop\n", "accept", ["ip filter INPUT"]),
    ],
    ids=["ufw", "docker too", "pods let in", "pods refused"],
)
def test_a_firewall_that_stops_pods_is_named(rule: str, forward: str, dropping: list[str]) -> None:
    assert kernel.dropping_chains(RULESET.format(rule=rule, forward=forward)) == dropping


def test_a_table_that_was_there_before_the_node_stays() -> None:
    theirs, ours = "table inet cni_hostport", "table ip kube-proxy"
    now = [theirs, ours, "table ip filter"]
    assert host.tables_to_delete(before=[theirs], now=now) == [ours]
    assert set(host.tables_to_delete(before=[], now=now)) == {theirs, ours}


# -- space and versions -----------------------------------------------------------------------


def test_what_is_asked_for_grows_with_what_is_missing() -> None:
    clients = [program("kubectl"), program("helm")]
    assert space.compiled_share([]) == 0
    assert space.compiled_share(clients) < 0.1
    assert space.compiled_share(PROGRAMS) == 1
    sizes = [space.linker_memory_gib(missing) for missing in ([], clients, PROGRAMS)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("kind v0.30.0 go1.24.6 linux/amd64", (0, 30)),
        ("kind version 0.29.0", (0, 29)),
        ("v3.18.4+gd80839c", (3, 18)),
        ("v4.0.0", (4, 0)),
        ("unknown command", (0, 0)),
    ],
)
def test_versions_are_read_from_what_programs_print(printed: str, version: tuple[int, int]) -> None:
    assert parse_version(printed) == version


# -- commands side by side, and failures ------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start processes that carry a mark and do nothing."""
    with ExitStack() as stack:

        def start(mark: str) -> subprocess.Popen[bytes]:
            child = subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: mark})
            stack.callback(child.wait)
            stack.callback(child.kill)
            return child

        yield start


def test_compiling_ends_what_a_killed_build_left_and_no_build_of_images(
    tmp_path: Path, sleeper: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    orphan, images = sleeper(str(tmp_path)), sleeper(str(tmp_path / "buildah"))
    Cache(tmp_path).build([], jobs=1)
    assert orphan.poll() is not None
    assert images.poll() is None


def test_the_lock_of_a_cluster_leaves_the_folder_to_the_next_command(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "clusters/one")
    with layout.lock(), pytest.raises(ClusterError, match="in use"), layout.lock():
        pass
    assert list((tmp_path / "clusters").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ClusterError("Go is missing"), "error: Go is missing\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/some/file"),
            "error: /some/file: Permission denied: " + REMEDIES[PermissionError] + "\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device\n"),
    ],
    ids=["ours", "another user's file", "full disk"],
)
def test_failures_are_told_in_words(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert exit_status(fail, interrupted="") == 1
    assert capsys.readouterr().err == said


def test_the_first_failure_is_told_though_looking_further_fails_too(tmp_path: Path) -> None:
    broken = tmp_path / "program"
    broken.write_text('#!/bin/sh\necho "no $1 today" >&2; exit 1\n')
    broken.chmod(0o755)
    session = Session(kubeconfig=tmp_path / "config", kubectl=broken, helm=broken, url="")
    with pytest.raises(ClusterError, match=r"(?s)no upgrade today.*no get today.*no logs today"):
        story.deploy_everything(session)


# -- the engine's packages --------------------------------------------------------------------


def test_the_engines_locked_set_is_its_list_of_versions_with_hashes() -> None:
    folder = ROOT / "hack" / "engine"
    wanted = re.findall(r"^[^#\s]+", (folder / "requirements.in").read_text(), re.MULTILINE)
    text = (folder / "requirements.txt").read_text()
    locked = re.findall(r"^(\S+) \\\n {4}--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert locked == wanted
    assert "://" not in text
