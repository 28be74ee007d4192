"""``make bench-gateway``: the command line of the comparison; the last line it prints is JSON."""

from __future__ import annotations

import argparse
import signal
import sys

from bench.gateway import report
from bench.gateway.comparison import comparison
from bench.gateway.contestants import MAKERS
from bench.gateway.phases import Plan
from hack.cluster.processes import ClusterError
from hack.cluster.shell import exit_status
from hack.cluster.state import locked
from hack.cluster.toolchain import Cache, default_root

QUICK = Plan(rounds=1, seconds=2)


def main() -> int:
    """Compare, and print the results; the exit status."""
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: cleaning up
    return exit_status(lambda: _compare(args), interrupted="nothing that it started is left")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-gateway", description=__doc__)
    everybody = ",".join(MAKERS)
    parser.add_argument("--only", default=everybody, metavar="NAMES", help=f"some of {everybody}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=5, help="for which each thing is measured (default 5)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of 2 seconds each")
    return parser.parse_args()


def _compare(args: argparse.Namespace) -> None:
    names = args.only.split(",")
    if unknown := set(names) - MAKERS.keys():
        raise ClusterError(f"--only {', '.join(sorted(unknown))}: known are {', '.join(MAKERS)}")
    plan = QUICK if args.quick else Plan(args.rounds, args.seconds)
    cache = Cache(default_root())
    cache.root.mkdir(parents=True, exist_ok=True)
    with locked(cache.root / "bench.lock", "the benchmark"), comparison(cache, names) as running:
        results = running.run(plan)
    print(report.table(results))
    print(report.json_line(results))


if __name__ == "__main__":
    sys.exit(main())
