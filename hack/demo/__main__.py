"""``python -m hack.demo [--runtime local|kind]``: tell the demo's story."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hack.cluster.shell import exit_status
from hack.demo import story
from hack.demo.runtimes import RUNTIMES


def main(argv: Sequence[str]) -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description=__doc__)
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="local")
    args = parser.parse_args(argv)
    return exit_status(
        lambda: story.tell(RUNTIMES[args.runtime]()), interrupted="`make demo` goes on from here"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
