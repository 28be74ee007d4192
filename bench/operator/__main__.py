"""``make bench-operator``: the command line of the comparison; the last line it prints is JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from bench.operator import report
from bench.operator.comparison import GO, OURS, Comparison, contestants
from bench.operator.phases import Plan
from hack.cluster import prerequisites
from hack.cluster.shell import exit_status
from hack.cluster.state import locked
from hack.cluster.toolchain import Cache, default_root


def main() -> int:
    """Compare, and print the results; the exit status."""
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: cleaning up
    return exit_status(lambda: _compare(args), interrupted="nothing that it started is left")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-operator", description=__doc__)
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1000, 2000], metavar="N")
    parser.add_argument("--idle", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--edits", type=int, default=200, metavar="N")
    parser.add_argument("--rounds", type=int, default=2, metavar="N")
    return parser.parse_args()


def _compare(args: argparse.Namespace) -> None:
    cache = Cache(default_root())
    prerequisites.provide(cache, node=False, images=False)
    cache.build(["control-plane", "client"], jobs=os.cpu_count() or 1)
    with locked(cache.root / "bench.lock", "the benchmark"):
        asyncio.run(_run(contestants(cache), args))


async def _run(comparison: Comparison, args: argparse.Namespace) -> None:
    """Run every size and print its table; the first one's figures are the last line."""
    await comparison.rehearse()
    lines = []
    for size in args.endpoints:
        # what grows with the number of endpoints shows in one run of each as well
        rounds = args.rounds if size == args.endpoints[0] else 1
        results = await comparison.run(Plan(size, args.idle, args.edits), rounds)
        print(report.table(size, results[OURS], results[GO]))
        lines.append(report.json_line(size, results[OURS], results[GO]))
    print(report.FOOTNOTE)
    print(lines[0])


if __name__ == "__main__":
    sys.exit(main())
