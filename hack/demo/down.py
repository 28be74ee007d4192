"""``python3 -m hack.demo.down``: remove what the demo made. Standard library only."""

from __future__ import annotations

import sys

from hack.cluster.processes import ClusterError
from hack.cluster.toolchain import default_root
from hack.demo.runtimes import KindRuntime, LocalRuntime


def main() -> int:
    """Remove both kinds of cluster; the exit status."""
    try:
        LocalRuntime().remove()
        KindRuntime().remove()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Nothing of the cluster is left. Compiled programs and images stay in {default_root()}")
    print("for the next time; remove them with `python3 -m hack.cluster purge`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
