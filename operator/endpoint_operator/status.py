"""From what was decided and seen to an object's status; pure.

``reconcile`` and ``apikeys`` call it and write the result only if it differs. Reasons are stable:
users and tools match on them. No value here changes unless something else did, or a status write
would cause the next one for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from endpoint_operator import names
from endpoint_operator.conditions import Finding, conditions, no, yes
from endpoint_operator.diagnosis import Cause, Diagnosis, causes, refusal

Object = dict[str, Any]

ACCEPTED, ROUTED, PROGRESSING, READY = "Accepted", "Routed", "Progressing", "Ready"

PENDING_PHASE: Final = "Pending"
STARTING_PHASE: Final = "Starting"
READY_PHASE: Final = "Ready"
IDLE_PHASE: Final = "Idle"
DEGRADED_PHASE: Final = "Degraded"
SUSPENDED_PHASE: Final = "Suspended"
INVALID_PHASE: Final = "Invalid"
FAILED_PHASE: Final = "Failed"

VALID: Final = "Valid"
UNPINNED_IMAGE: Final = "UnpinnedImage"
INVALID_SPEC: Final = "InvalidSpec"
NAME_CONFLICT: Final = "NameConflict"
PREDECESSOR_GOING: Final = "PredecessorGoing"
REFERENCE_NOT_FOUND: Final = "ReferenceNotFound"
REFUSED_BY_CLUSTER: Final = causes.REFUSED_BY_CLUSTER
OPERATOR_FAULT: Final = "OperatorFault"

IN_CATALOG: Final = "InCatalog"
NAME_TAKEN: Final = "NameTaken"
HOST_TAKEN: Final = "HostTaken"
HOST_NOT_ALLOWED: Final = "HostNotAllowed"

COMPLETE: Final = "Complete"
ROLLING_OUT: Final = "RollingOut"
UPGRADE_WAITING: Final = "UpgradeWaiting"

SERVING: Final = "Serving"
STARTING: Final = "Starting"
NO_REPLICAS: Final = "NoReplicas"
SUSPENDED: Final = "Suspended"

IN_FORCE: Final = "InForce"
PENDING: Final = "Pending"
EXPIRED: Final = "Expired"
SCOPE_NOT_ALLOWED: Final = "ScopeNotAllowed"
KEY_MISSING: Final = "KeyMissing"
KEY_IN_USE: Final = "KeyInUse"
KEYRING_FULL: Final = "KeyringFull"

MOST_KEYS: Final = 16
NOTHING_RUNS: Final = "Nothing runs: see condition Accepted."
RUNS_BEFORE: Final = "What runs is of the spec that was accepted last: see condition Accepted."


@dataclass(frozen=True)
class Facts:
    """What an accepted spec says to clients and to the gateway.

    ``access`` is what the gateway goes by besides names, ``refused_hosts`` what it is not told.
    """

    url: str
    served_names: Sequence[str]
    image: str
    adapters: Sequence[str] = ()
    key_generation: int = 1
    suspended: bool = False
    access: Mapping[str, Any] = field(default_factory=dict)
    refused_hosts: Sequence[str] = ()


ACCEPTANCE: Final = yes(VALID, "The spec is valid.")
SERVES: Final = yes(SERVING, "At least one replica answers requests.")
NOTHING_WRONG: Final = Diagnosis()
ROUTE: Final = yes(IN_CATALOG, "The gateway routes every name of the endpoint to it.")


@dataclass(frozen=True)
class Observation:
    """What was seen of an endpoint's workload and of its place among the others.

    ``diagnosis`` is needed only for a Deployment that is not complete.
    """

    deployment: Object | None = None
    diagnosis: Diagnosis = NOTHING_WRONG
    routed: Finding = ROUTE
    upgrade_waiting: bool = False

    @property
    def wanted(self) -> int:
        """How many replicas the Deployment is to have."""
        return int(self.deployment["spec"]["replicas"]) if self.deployment else 0

    @property
    def ready(self) -> int:
        """How many replicas answer."""
        return self.count("readyReplicas")

    @property
    def complete(self) -> bool:
        """Whether every pod is of the current template, and available."""
        return self.deployment is not None and is_complete(self.deployment)

    def count(self, field: str) -> int:
        """Return a number of the Deployment's status."""
        return int((self.deployment or {}).get("status", {}).get(field, 0))


def refused(message: str) -> Finding:
    """Return what to say of a spec whose objects the API server refuses, with its message."""
    return _caused(refusal(message))


def _caused(cause: Cause) -> Finding:
    return replace(no(cause.reason, cause.message), measured=True)


def endpoint_status(
    body: Object,
    observed: Observation,
    *,
    accepted: Finding,
    facts: Facts | None,
    now: str,
) -> Object:
    """Return the status of an endpoint.

    ``facts`` is None for a spec that was not accepted: what the last accepted one said stays.
    ``now`` is used only where a condition changed.
    """
    suspended = facts is not None and facts.suspended
    findings = {
        ACCEPTED: accepted,
        ROUTED: observed.routed,
        PROGRESSING: _progress(accepted, observed),
        READY: _readiness(accepted, observed, suspended=suspended),
    }
    before = body.get("status", {})
    return {
        **(_without("access", before) | _said(body, observed, facts) if facts else before),
        "observedGeneration": body["metadata"]["generation"],
        "phase": _phase(findings, observed, suspended=suspended),
        "conditions": conditions(body, findings, now),
        "replicas": observed.count("replicas"),
        "readyReplicas": observed.ready,
        "selector": names.selector_text(body["metadata"]["name"]),
    }


def _said(body: Object, observed: Observation, facts: Facts) -> Object:
    """Return what an accepted spec says, and which of it every running engine knows already."""
    before = {} if observed.complete else body.get("status", {})
    keys = sorted({facts.key_generation, *before.get("engineKeys", ())}, reverse=True)
    return {
        "url": facts.url,
        "image": facts.image,
        "servedNames": list(facts.served_names),
        "engineNames": _known(facts.served_names, before.get("engineNames")),
        "adapters": _known(facts.adapters, before.get("adapters")),
        **({"access": dict(facts.access)} if facts.access else {}),
        "engineKeys": keys if len(keys) <= MOST_KEYS else [*keys[: MOST_KEYS - 1], keys[-1]],
    }


def _without(key: str, before: Object) -> Object:
    return {known: value for known, value in before.items() if known != key}


def _known(wanted: Sequence[str], before: Sequence[str] | None) -> list[str]:
    """Return the names that engines of both specs serve; without one before, all of them."""
    return [name for name in wanted if before is None or name in before]


def api_key_status(body: Object, finding: Finding, now: str) -> Object:
    """Return the status of an ApiKey."""
    return {
        **body.get("status", {}),
        "observedGeneration": body["metadata"]["generation"],
        "conditions": conditions(body, {READY: finding}, now),
    }


def _progress(accepted: Finding, observed: Observation) -> Finding:
    if not observed.complete and (cause := observed.diagnosis.cause):
        return _caused(cause)
    if not accepted.holds:
        return no(accepted.reason, RUNS_BEFORE if observed.deployment else NOTHING_RUNS)
    if observed.upgrade_waiting:
        return no(
            UPGRADE_WAITING,
            "This version of the operator makes other pods; they are replaced when it is the"
            " endpoint's turn (upgrade.maxConcurrent of the chart). Those that run go on.",
        )
    if observed.complete:
        return no(COMPLETE, "All replicas run the current spec.")
    if observed.deployment and not observed.wanted:
        return yes(ROLLING_OUT, "Replicas are being stopped.")
    return yes(ROLLING_OUT, "Replicas of the current spec are being started.")


def is_complete(deployment: Object) -> bool:
    """Return whether every pod of a Deployment is of its current template, and available."""
    rollout, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    if rollout.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    return all(rollout.get(count, 0) == wanted for count in counts)


def _readiness(accepted: Finding, observed: Observation, *, suspended: bool) -> Finding:
    if observed.wanted and observed.ready:
        return SERVES
    if not accepted.holds:
        return accepted
    if observed.deployment and not observed.wanted:
        return _PAUSED if suspended else _EMPTY
    if cause := observed.diagnosis.cause:
        return _caused(cause)
    return no(STARTING, "No replica is ready yet.")


_PAUSED: Final = no(SUSPENDED, "spec.suspended is true; set it to false to serve requests.")
_EMPTY: Final = no(NO_REPLICAS, "spec.replicas is 0; raise it to serve requests.")


def _phase(findings: Mapping[str, Finding], observed: Observation, *, suspended: bool) -> str:
    """Return the one word that sums it up."""
    if findings[READY].holds:
        wrong = not (findings[ACCEPTED].holds and findings[ROUTED].holds)
        fewer = observed.ready < observed.wanted
        sick = not observed.complete and observed.diagnosis.cause is not None
        return DEGRADED_PHASE if wrong or fewer or sick else READY_PHASE
    if not findings[ACCEPTED].holds:
        return INVALID_PHASE
    if suspended:
        return SUSPENDED_PHASE
    if observed.deployment is not None and not observed.wanted:
        return IDLE_PHASE
    if observed.diagnosis.cause is not None and observed.diagnosis.cause.lasting:
        return FAILED_PHASE
    return STARTING_PHASE if observed.diagnosis.started else PENDING_PHASE
