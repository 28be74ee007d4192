"""The deployment steps: chart, example, waiting, key. Called by the demo and the e2e tests.

Each one is safe to repeat on a cluster where it was done before.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hack.cluster.processes import ClusterError
from hack.demo.session import JsonObject, Session
from hack.images.catalog import ENGINE, GATEWAY, OPERATOR, REPOSITORY, Image

RELEASE = "vllm-endpoints"
NAMESPACE = "vllm-endpoints"
ENDPOINT_LABEL = "serving.vllm-endpoints.dev/endpoint"
CHART = REPOSITORY / "charts/vllm-endpoints"
EXAMPLE = REPOSITORY / "examples/tiny.yaml"

# reasons of a waiting container that waiting alone does not cure
HOPELESS = ("CrashLoopBackOff", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")

Report = Callable[[str], None]


def chart_values(url: str) -> dict[str, str]:
    """Values for a cluster whose images were loaded by hand and whose ingress is Traefik."""
    values = {
        "ingress.enabled": "true",
        "ingress.className": "traefik",
        "gateway.externalUrl": url,
        "gateway.hostDomains[0].domain": "example.com",
        "engine.image": ENGINE.reference,
    }
    for part, image in (("operator", OPERATOR), ("gateway", GATEWAY)):
        values |= _image_values(part, image)
    return values


def _image_values(part: str, image: Image) -> dict[str, str]:
    repository, tag = image.reference.rsplit(":", 1)
    return {
        f"{part}.image.repository": repository,
        f"{part}.image.tag": tag,
        f"{part}.image.pullPolicy": "IfNotPresent",
        # the tag never changes, so without this a new image would not replace running pods
        f"{part}.podAnnotations.image-key": image.key(),
    }


def install_chart(session: Session, values: Mapping[str, str]) -> None:
    """Install the chart, or upgrade it to these values; does not wait for its pods."""
    settings = [f"--set-string={k}={v}" for k, v in values.items() if v not in ("true", "false")]
    settings += [f"--set={k}={v}" for k, v in values.items() if v in ("true", "false")]
    session.call_helm(
        "upgrade", "--install", RELEASE, str(CHART), f"--namespace={NAMESPACE}",
        "--create-namespace", *settings,
    )  # fmt: skip


def wait_installed(session: Session, *, timeout_seconds: float = 180) -> None:
    """Wait until operator and gateway are ready; ClusterError at once when one keeps failing."""
    end = time.monotonic() + timeout_seconds
    while waiting := _not_available(session):
        _refuse_hopeless(session, NAMESPACE, selector=f"app.kubernetes.io/instance={RELEASE}")
        if time.monotonic() > end:
            raise ClusterError(f"{', '.join(waiting)}: not ready after {timeout_seconds:.0f} s")
        time.sleep(0.5)


def _not_available(session: Session) -> list[str]:
    found = session.items("deployments", namespace=NAMESPACE)
    return [d["metadata"]["name"] for d in found if not _is_rolled_out(d)]


def _is_rolled_out(deployment: JsonObject) -> bool:
    wanted, status = deployment["spec"]["replicas"], deployment.get("status", {})
    counts = ("replicas", "updatedReplicas", "readyReplicas")
    return bool(status.get("observedGeneration") == deployment["metadata"]["generation"]) and all(
        status.get(count, 0) == wanted for count in counts
    )


def _refuse_hopeless(session: Session, namespace: str, *, selector: str) -> None:
    for pod in session.items("pods", namespace=namespace, selector=selector):
        for container in pod["status"].get("containerStatuses", ()):
            reason = container["state"].get("waiting", {}).get("reason")
            if reason in HOPELESS:
                raise ClusterError(f"pod {pod['metadata']['name']} does not start: {reason}")


def apply_file(session: Session, path: Path) -> None:
    """Apply the objects in a file as a user does."""
    session.call_kubectl("apply", "-f", str(path))


def wait_ready(
    session: Session,
    name: str,
    *,
    namespace: str = "default",
    kind: str = "inferenceendpoint",
    timeout_seconds: float = 600,
    report: Report = lambda _: None,
) -> JsonObject:
    """Wait for the condition Ready; reports every change of a condition's message meanwhile.

    ClusterError when time is over, or at once when a pod of the endpoint keeps failing.
    """
    end = time.monotonic() + timeout_seconds
    seen: set[str] = set()
    while True:
        found = session.get(kind, name, namespace=namespace)
        for line in _condition_lines(found):
            if line not in seen:
                report(line)
                seen.add(line)
        if is_ready(found):
            return found
        _refuse_hopeless(session, namespace, selector=f"{ENDPOINT_LABEL}={name}")
        if time.monotonic() > end:
            raise ClusterError(
                f"{kind}/{name} is not ready after {timeout_seconds:.0f} s:\n"
                + "\n".join(_condition_lines(found))
            )
        time.sleep(0.5)


def is_ready(found: JsonObject) -> bool:
    """Whether status says that the object as it is now is ready."""
    status = found.get("status", {})
    return bool(status.get("observedGeneration") == found["metadata"]["generation"]) and any(
        c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ())
    )


def read_key(session: Session, secret: str, *, namespace: str = "default") -> str:
    """The API key in a Secret that the operator made."""
    found = session.get("secret", secret, namespace=namespace)
    return base64.b64decode(found["data"]["api-key"]).decode()


def _condition_lines(found: JsonObject) -> list[str]:
    return [
        f"{c['type']}={c['status']} {c.get('reason', '')}: {c.get('message', '')}".rstrip(": ")
        for c in found.get("status", {}).get("conditions", ())
    ]
