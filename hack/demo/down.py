"""``python3 -m hack.demo.down``: remove what the demo made. Standard library only."""

from __future__ import annotations

import sys

from hack.cluster import lifecycle
from hack.cluster.shell import exit_status
from hack.cluster.toolchain import default_root
from hack.demo.runtimes import KindRuntime, LocalRuntime


def main() -> int:
    """Remove both kinds of cluster; the exit status."""
    return exit_status(_remove, interrupted="`make demo-down` goes on from here")


def _remove() -> None:
    LocalRuntime().remove()
    lifecycle.free_machine()  # the tests' node too, and one that is kept in another cache
    KindRuntime().remove()
    print(f"Nothing of the cluster is left. Compiled programs and images stay in {default_root()}")
    print("for the next time; remove them with `python3 -m hack.cluster purge`.")


if __name__ == "__main__":
    sys.exit(main())
