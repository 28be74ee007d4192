"""Pods, containers and the Deployment's template as the other modules read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from endpoint_operator import names
from endpoint_operator.diagnosis.causes import Object

NO_STATUS: Final[Object] = {}


@dataclass(frozen=True)
class Template:
    """The pod template of a Deployment: what its pods ask for."""

    deployment: Object

    @cached_property
    def _template(self) -> Object:
        template: Object = self.deployment["spec"]["template"]
        return template

    @cached_property
    def engine(self) -> Object:
        """The engine's container; an empty one if somebody has renamed it."""
        return self._container(names.ENGINE_CONTAINER)

    @property
    def revision(self) -> str | None:
        """What tells its pods from those of another template."""
        return _revision(self._template)

    @property
    def accelerators(self) -> dict[str, str]:
        """The extended resources that an engine asks for, and how many of each."""
        return {name: count for name, count in _limits(self.engine).items() if "/" in name}

    def memory_limit(self, container: str) -> str | None:
        """Return the memory that a container must not exceed, /dev/shm included."""
        return _limits(self._container(container)).get("memory")

    @property
    def expands(self) -> bool:
        """Whether options of the engine have variables in them, which may be Secrets."""
        return any("$(" in option for option in self.engine.get("args", ()))

    @property
    def paused(self) -> bool:
        """Whether somebody has stopped the rollout before every replica is of this template."""
        spec, status = self.deployment["spec"], self.deployment.get("status", NO_STATUS)
        current: int = status.get("updatedReplicas", 0)
        return bool(spec.get("paused")) and current < spec["replicas"]

    @property
    def surges(self) -> bool:
        """Whether a new replica must be ready before one of the spec before goes."""
        rolling = self.deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
        return rolling.get("maxSurge") not in (0, "0%")

    @property
    def startup_seconds(self) -> int:
        """After how many seconds the kubelet may have ended a container that is not up."""
        probe = self.engine.get("startupProbe", {})
        return int(probe.get("periodSeconds", 10) * (probe.get("failureThreshold", 3) - 1))

    def condition(self, kind: str) -> Object:
        """Return one of the Deployment's conditions; an empty one if it has none of that type."""
        return _condition(self.deployment, kind)

    def made(self, pod: Pod) -> bool:
        """Return whether a pod is of this template, and to stay."""
        return pod.revision == self.revision and not pod.deleting

    def _container(self, name: str) -> Object:
        spec = self._template["spec"]
        containers = (*spec.get("initContainers", ()), *spec["containers"])
        return next((each for each in containers if each["name"] == name), NO_STATUS)


@dataclass(frozen=True)
class Container:
    """A container's status; ``pod_unready_since`` is when the pod last stopped being ready."""

    status: Object
    pod_unready_since: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.status["name"])

    @property
    def is_engine(self) -> bool:
        """Whether it is the engine's, and not one of spec.podTemplate."""
        return self.name == names.ENGINE_CONTAINER

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return "running" in self.status.get("state", {})

    @property
    def waiting(self) -> Object:
        """Why it does not run, as reason and message; empty if it does or did."""
        waiting: Object = self.status.get("state", {}).get("waiting", NO_STATUS)
        return waiting

    @property
    def ended(self) -> Object:
        """How its last run ended; empty if none has."""
        for state in (self.status.get("state", {}), self.status.get("lastState", {})):
            if ended := state.get("terminated"):
                return dict(ended)
        return NO_STATUS

    @property
    def was_ready(self) -> bool:
        """Whether it had become ready in the run that ended.

        The pod's condition Ready turned False after that run had begun: then it was True in it.
        Both in one second means no: no engine is up within a second.
        """
        began: str = self.ended.get("startedAt", "")
        return self.pod_unready_since > began

    @property
    def ran_seconds(self) -> float:
        """How long the run took that ended."""
        return seconds_between(self.ended.get("startedAt"), self.ended.get("finishedAt"))


@dataclass(frozen=True)
class Pod:
    """A pod, with metadata, status and spec.nodeName."""

    object: Object

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def age_key(self) -> tuple[str, str]:
        """Sorts pods by age."""
        return self.object["metadata"].get("creationTimestamp", ""), self.name

    @property
    def revision(self) -> str | None:
        """Of which template it is."""
        return _revision(self.object)

    @property
    def deleting(self) -> bool:
        """Whether it is about to go."""
        return "deletionTimestamp" in self.object["metadata"]

    @property
    def status(self) -> Object:
        """Its status."""
        status: Object = self.object.get("status", NO_STATUS)
        return status

    @property
    def over(self) -> bool:
        """Whether none of its containers will run again."""
        return self.status.get("phase") in ("Failed", "Succeeded")

    @property
    def holds_node(self) -> bool:
        """Whether it has resources of a node."""
        return bool(self.object.get("spec", {}).get("nodeName")) and not self.over

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return self.condition("Ready").get("status") == "True"

    def condition(self, kind: str) -> Object:
        """Return one of its conditions; an empty one if it has none of that type."""
        return _condition(self.object, kind)

    @property
    def lost(self) -> bool:
        """Whether its node is silent: not ready, though its containers last said that they are."""
        return (
            self.condition("Ready").get("status") == "False"
            and self.condition("ContainersReady").get("status") == "True"
            and self.condition("Ready").get("reason") != "ReadinessGatesNotReady"
        )

    @property
    def containers(self) -> Iterator[Container]:
        """Its containers, in the order in which they start."""
        since = self.condition("Ready").get("lastTransitionTime", "")
        for kind in ("initContainerStatuses", "containerStatuses"):
            for status in self.status.get(kind, ()):
                yield Container(status, since)

    @property
    def engine_started(self) -> bool:
        """Whether the engine's process runs, or has run and is about to again."""
        return any((each.running or each.ended) and each.is_engine for each in self.containers)


def seconds_between(begin: str | None, end: str | None) -> float:
    """Return the seconds between two times of Kubernetes; 0 where one is missing."""
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _limits(container: Object) -> dict[str, str]:
    limits: dict[str, str] = container.get("resources", {}).get("limits", {})
    return limits


def _condition(obj: Object, kind: str) -> Object:
    known = obj.get("status", NO_STATUS).get("conditions", ())
    return next((each for each in known if each["type"] == kind), NO_STATUS)


def _revision(obj: Object) -> str | None:
    revision: str | None = obj["metadata"].get("annotations", {}).get(names.REVISION)
    return revision
