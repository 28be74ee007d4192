"""From what was decided and seen to an object's status; pure.

``reconcile`` and ``apikeys`` call it and write the result only if it differs. Reasons are stable:
users and tools match on them. No value here changes unless something else did, or a status write
would cause the next one for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from endpoint_operator import names

Object = dict[str, Any]

ACCEPTED, PROGRESSING, READY = "Accepted", "Progressing", "Ready"

VALID: Final = "Valid"
INVALID_SPEC: Final = "InvalidSpec"
NAME_CONFLICT: Final = "NameConflict"
REFUSED_BY_CLUSTER: Final = "RefusedByCluster"
OPERATOR_FAULT: Final = "OperatorFault"

COMPLETE: Final = "Complete"
ROLLING_OUT: Final = "RollingOut"
DEADLINE_EXCEEDED: Final = "ProgressDeadlineExceeded"
REPLICA_FAILURE: Final = "ReplicaFailure"

SERVING: Final = "Serving"
NO_REPLICAS: Final = "NoReplicas"
NOT_READY: Final = "NoReadyReplica"

IN_FORCE: Final = "InForce"
PENDING: Final = "Pending"
SCOPE_NOT_ALLOWED: Final = "ScopeNotAllowed"
KEYRING_FULL: Final = "KeyringFull"

LONGEST_MESSAGE: Final = 4096


@dataclass(frozen=True)
class Finding:
    """What is to be said about one aspect; becomes a condition."""

    holds: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Facts:
    """What an accepted spec says to clients and to the gateway."""

    url: str
    served_names: Sequence[str]
    image: str


def yes(reason: str, message: str) -> Finding:
    """Return that an aspect holds."""
    return Finding(holds=True, reason=reason, message=message)


def no(reason: str, message: str) -> Finding:
    """Return that an aspect does not hold."""
    return Finding(holds=False, reason=reason, message=message)


ACCEPTANCE: Final = yes(VALID, "The spec is valid.")


def endpoint_status(
    body: Object,
    deployment: Object | None,
    *,
    accepted: Finding,
    facts: Facts | None,
    now: str,
) -> Object:
    """Return the status of an endpoint.

    ``facts`` is None for a spec that was not accepted: what the last accepted one said stays.
    ``now`` is used only where a condition changed.
    """
    rollout = (deployment or {}).get("status", {})
    findings = {
        ACCEPTED: accepted,
        PROGRESSING: _progress(accepted, deployment),
        READY: _readiness(accepted, deployment),
    }
    said = (
        {"url": facts.url, "servedNames": list(facts.served_names), "image": facts.image}
        if facts
        else {}
    )
    return {
        **body.get("status", {}),
        **said,
        "observedGeneration": body["metadata"]["generation"],
        "conditions": conditions(body, findings, now),
        "replicas": rollout.get("replicas", 0),
        "readyReplicas": rollout.get("readyReplicas", 0),
        "selector": names.selector_text(body["metadata"]["name"]),
    }


def api_key_status(body: Object, finding: Finding, now: str) -> Object:
    """Return the status of an ApiKey."""
    return {
        **body.get("status", {}),
        "observedGeneration": body["metadata"]["generation"],
        "conditions": conditions(body, {READY: finding}, now),
    }


def conditions(body: Object, findings: Mapping[str, Finding], now: str) -> list[Object]:
    """Return the conditions; the time of one whose status stays the same stays too."""
    previous = {known["type"]: known for known in body.get("status", {}).get("conditions", ())}
    generation = body["metadata"]["generation"]
    made = []
    for kind, finding in findings.items():
        value = "True" if finding.holds else "False"
        before = previous.pop(kind, {})
        same = before.get("status") == value
        made.append(
            {
                "type": kind,
                "status": value,
                "reason": finding.reason,
                "message": finding.message[:LONGEST_MESSAGE],
                "lastTransitionTime": before["lastTransitionTime"] if same else now,
                "observedGeneration": generation,
            }
        )
    return [*made, *previous.values()]


def changes(body: Object, status: Object) -> Object:
    """Return the fields of a status that differ from the object's; empty if none does."""
    previous = body.get("status", {})
    return {key: value for key, value in status.items() if previous.get(key) != value}


def _progress(accepted: Finding, deployment: Object | None) -> Finding:
    if deployment is None:
        return no(accepted.reason, "Nothing runs: see condition Accepted.")
    rollout, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    causes = {cause["type"]: cause for cause in rollout.get("conditions", ())}
    if is_complete(deployment):
        return no(COMPLETE, "All replicas run the current spec.")
    if failure := causes.get("ReplicaFailure"):
        return no(REPLICA_FAILURE, failure.get("message", ""))
    if causes.get("Progressing", {}).get("reason") == DEADLINE_EXCEEDED:
        message = "The rollout took longer than startupTimeout; replicas of the last one stay."
        return no(DEADLINE_EXCEEDED, message)
    return yes(ROLLING_OUT, f"Waiting for {wanted} ready replicas of the current spec.")


def is_complete(deployment: Object) -> bool:
    """Return whether every pod of a Deployment is of its current template, and available."""
    rollout, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    if rollout.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    return all(rollout.get(count, 0) == wanted for count in counts)


def _readiness(accepted: Finding, deployment: Object | None) -> Finding:
    if deployment is None:
        return no(accepted.reason, "Nothing runs: see condition Accepted.")
    if deployment.get("status", {}).get("readyReplicas", 0):
        return yes(SERVING, "At least one replica answers requests.")
    if not accepted.holds:
        return no(accepted.reason, accepted.message)
    if not deployment["spec"]["replicas"]:
        return no(NO_REPLICAS, "spec.replicas is 0; raise it to serve requests.")
    return no(NOT_READY, "No replica is ready yet.")
