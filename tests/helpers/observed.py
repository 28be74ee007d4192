"""What an operator writes, found out on its way to the API server.

The API server's own counts are of everybody's writes, whatever they were about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from helpers.chaos_proxy import WRITES, Sent, recorder
from helpers.live_cluster import ControlPlane
from helpers.operator_process import OperatorProcess


@asynccontextmanager
async def restarted(plane: ControlPlane, operator: OperatorProcess) -> AsyncIterator[list[Sent]]:
    """The operator stopped and another life of it begun, of which each request is written down."""
    operator.stop()
    with recorder(plane.kubeconfig) as proxy:
        again = operator.twin("operator-0", url=proxy.url)
        try:
            await again.start()
            yield proxy.sent
        finally:
            again.stop()


def written(sent: Iterable[Sent], namespace: str, name: str) -> list[str]:
    """Return the paths of writes to objects whose names begin so; Events have other names."""
    begin = f"/namespaces/{namespace}/"
    paths = [each.path.partition(begin)[2] for each in sent if each.method in WRITES]
    return [path for path in paths if path.partition("/")[2].startswith(name)]
