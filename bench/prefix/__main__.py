"""``make bench-prefix``: the command line of the comparison; the last line it prints is JSON."""

from __future__ import annotations

import argparse
import signal
import sys

from bench.prefix import report
from bench.prefix.comparison import compare
from bench.prefix.conversations import Plan
from hack.cluster.shell import exit_status
from hack.cluster.state import locked
from hack.cluster.toolchain import Cache, default_root


def main() -> int:
    """Compare, and print the results; the exit status."""
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: cleaning up
    return exit_status(lambda: _compare(args), interrupted="nothing that it started is left")


def _arguments() -> argparse.Namespace:
    usual = Plan()
    parser = argparse.ArgumentParser(prog="make bench-prefix", description=__doc__)
    numbers = {
        "--replicas": (3, "vLLMs, of which each takes 2.5 GB"),
        "--conversations": (usual.conversations, "of one round"),
        "--turns": (usual.turns, "of each conversation"),
        "--at-a-time": (usual.at_a_time, "turns that run side by side"),
        "--rounds": (2, "of each way"),
    }
    for name, (number, text) in numbers.items():
        parser.add_argument(
            name, type=int, default=number, metavar="N", help=f"{text} (default {number})"
        )
    return parser.parse_args()


def _compare(args: argparse.Namespace) -> None:
    plan = Plan(args.conversations, args.turns, args.at_a_time)
    cache = Cache(default_root())
    cache.root.mkdir(parents=True, exist_ok=True)
    with locked(cache.root / "bench.lock", "the benchmark"):
        results = compare(cache, plan, replicas=args.replicas, rounds=args.rounds)
    print(report.table(results))
    print(report.json_line(results))


if __name__ == "__main__":
    sys.exit(main())
