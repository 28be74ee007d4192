"""Who reaches whom in a cluster, found out by connecting: from inside pods that stand there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hack.demo.session import JsonObject, Session
from hack.images.catalog import GATEWAY

PYTHON = "/opt/venv/bin/python"  # in each of our images, the engine's included
NOTHING: Mapping[str, str] = MappingProxyType({})
PATIENCE_SECONDS = 3  # a packet that is dropped is never answered

CONNECT = f"""
import concurrent.futures, socket, sys
def answers(goal):
    host, port = goal.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout={PATIENCE_SECONDS}).close()
    except OSError:
        return False
    return True
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(*(g for g, ok in zip(sys.argv[1:], pool.map(answers, sys.argv[1:])) if ok))
"""
LISTEN = """
import select, socket, sys
listeners = [socket.create_server(("", int(port))) for port in sys.argv[1:]]
while True:
    for ready in select.select(listeners, [], [])[0]:
        ready.accept()[0].close()
"""


def standing_pod(
    name: str,
    namespace: str,
    *,
    labels: Mapping[str, str] = NOTHING,
    ports: Iterable[int] = (9,),
    limits: Mapping[str, str] = NOTHING,
) -> JsonObject:
    """A pod that stands there, accepts connections on these ports and ends at once when told."""
    numbers = [str(port) for port in ports]
    container = {
        "name": "main",
        "image": GATEWAY.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": [PYTHON, "-c", LISTEN, *numbers],
        "resources": {"limits": dict(limits)},
        "readinessProbe": {"tcpSocket": {"port": int(numbers[-1])}, "periodSeconds": 1},
        "ports": [{"name": f"port-{n}", "containerPort": int(n)} for n in numbers],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def reached(session: Session, pod: str, goals: Iterable[str], *, namespace: str) -> set[str]:
    """Those of the goals (``HOST:PORT``) to which a connection from the pod comes about."""
    script = [PYTHON, "-c", CONNECT, *goals]
    return set(session.call_kubectl("exec", "-n", namespace, pod, "--", *script).split())


def addresses(session: Session, *, namespace: str) -> dict[str, str]:
    """The address of each pod of a namespace by its name, once all are ready."""
    wait = ["wait", "-n", namespace, "--for=condition=Ready", "pods", "--all", "--timeout=90s"]
    session.call_kubectl(*wait)
    pods = session.items("pods", namespace=namespace)
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
