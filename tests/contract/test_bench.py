"""What the benchmark counts, compares and says; that it runs is seen by `make bench-operator`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.operator import audit, likeness, report
from bench.operator.endpoints import GROUP
from bench.operator.meter import Spent
from bench.operator.phases import Edits, Load, Measured, Plan, Restart

KEYS = [
    "endpoints",
    "cpu_ms_per_endpoint",
    "writes_per_endpoint",
    "idle_writes_per_minute",
    "restart_writes",
    "restart_cpu_s",
    "edit_ms_p50",
    "edit_ms_p99",
    "rss_mib",
]


def spent(*, cpu: float = 1, seconds: float = 30, writes: int = 0, leases: int = 0) -> Spent:
    requests = Counter({("patch", "services"): writes, ("patch", "leases"): leases})
    return Spent(seconds=seconds, cpu=cpu, server_cpu=1, requests=requests)


def measured(cpu: float, milliseconds: Sequence[float]) -> Measured:
    return Measured(
        plan=Plan(endpoints=100, idle_seconds=30, edits=2),
        load=Load(spent(cpu=cpu, writes=700, leases=15), children_seconds=9),
        idle=spent(writes=1, leases=15),
        rss_mib=70,
        edits=Edits(spent(), milliseconds),
        restart=Restart(spent(cpu=1.234), stop_seconds=0.1, rss_mib=71),
    )


def test_the_line_of_json_has_the_agreed_keys_for_both() -> None:
    runs = [measured(1, [20, 30])]
    figures = json.loads(report.json_line(100, runs, runs))
    assert list(figures) == [*KEYS, "go"]
    assert list(figures["go"]) == KEYS


def test_runs_count_by_their_median_and_edits_together() -> None:
    runs = [measured(1, [10, 20]), measured(2, [30, 40])]
    figures = json.loads(report.json_line(100, runs, runs))
    assert figures["cpu_ms_per_endpoint"] == 15
    assert (figures["edit_ms_p50"], figures["edit_ms_p99"]) == (20, 40)


def test_the_lease_is_not_among_the_writes() -> None:
    figures = json.loads(report.json_line(100, [measured(1, [1])], [measured(1, [1])]))
    assert figures["writes_per_endpoint"] == 7
    assert figures["idle_writes_per_minute"] == 2


def test_the_table_has_a_row_for_each_figure() -> None:
    text = report.table(100, [measured(1, [1])], [measured(2, [1])])
    assert len(text.splitlines()) == len(report.FIGURES) + 1
    assert "0.50" in text.splitlines()[1]


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(200, 0, -1)]
    assert report.percentile(values, 50) == 100
    assert report.percentile(values, 99) == 198
    assert report.percentile([7.0], 99) == 7


def event(verb: str, resource: str, stage: str = "ResponseComplete", **ref: str) -> str:
    return json.dumps({"verb": verb, "stage": stage, "objectRef": {"resource": resource, **ref}})


def test_each_request_counts_once() -> None:
    lines = [
        event("patch", "deployments"),
        event("patch", "deployments", subresource="scale"),
        event("watch", "secrets", "ResponseStarted"),
        event("watch", "secrets", "ResponseComplete"),
        event("patch", "leases"),
        json.dumps({"verb": "get", "stage": "ResponseComplete"}),
    ]
    found = audit.count(lines)
    assert found["patch", "deployments/scale"] == found["watch", "secrets"] == 1
    assert (audit.writes(found), audit.lease_writes(found), audit.reads(found)) == (2, 1, 2)
    assert audit.signs_of_work(found) == {"secrets", "leases"}


def child(uid: str, digest: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": f"a-engine-{digest}", "uid": uid, "annotations": {f"{GROUP}/h": uid}}
    return {"kind": "ConfigMap", "metadata": meta, "spec": spec}


def test_children_of_two_operators_are_alike_but_for_identities_and_digests() -> None:
    ours, others = child("1", "0" * 16, a=[1]), child("2", "f" * 16, a=[1])
    assert likeness.differences([ours], [others]) == []


def test_what_differs_is_named_with_both_values() -> None:
    (line,) = likeness.differences([child("1", "0" * 16, a=[1])], [child("2", "1" * 16, a=[2])])
    assert line == "  ConfigMap a-engine-DIGEST.spec.a[0]: ours 1, the peer's 2"
