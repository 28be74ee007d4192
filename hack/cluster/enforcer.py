"""Enforces NetworkPolicies on the node: ``python -m hack.cluster.enforcer STATE_DIR``.

Kubernetes leaves that to the network plugin, and none that does it can be compiled from Go modules
alone. Started by ``node`` as one more process of the cluster. It looks every second, so a pod is
open for as long after its start; while the API server can't be asked, the rules stay as they are.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hack.cluster import host
from hack.cluster.api import AdminApi
from hack.cluster.networkpolicy import Pods, ruleset
from hack.cluster.processes import ClusterError, run
from hack.cluster.state import Layout

EVERY_SECONDS = 1.0
# from the API server's memory, which is as new as its watches are
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies?resourceVersion=0"
PODS, NAMESPACES = (f"/api/v1/{kind}?resourceVersion=0" for kind in ("pods", "namespaces"))


def main(state_dir: Path) -> None:
    """Keep the node's table as the policies say, for ever."""
    layout = Layout(state_dir)
    api = AdminApi(layout.settings().url, layout.pki)
    loaded = ""
    while True:
        try:
            loaded = _enforce(api, loaded)
        except (OSError, ClusterError) as error:
            print(f"trying again: {error}", flush=True)
        time.sleep(EVERY_SECONDS)


def _enforce(api: AdminApi, loaded: str) -> str:
    policies, pods, spaces = (api.get(path)["items"] for path in (POLICIES, PODS, NAMESPACES))
    wanted = ruleset(host.POLICIES, policies=policies, pods=Pods(pods, spaces))
    if wanted != loaded:
        run(["nft", "-f", "-"], stdin=wanted)
        print(f"{wanted.count(' return')} rules of {len(policies)} policies", flush=True)
    return wanted


if __name__ == "__main__":
    main(Path(sys.argv[1]))
