"""Random specs of endpoints, of parts that are good or bad by themselves or together."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from endpoint_operator.api.v1alpha1 import parse_endpoint
from endpoint_operator.errors import InvalidObjectError
from helpers import builders

Object = dict[str, Any]

CACHES: list[Object] = [
    {"size": "1Gi"},
    {"size": 5, "accessMode": "ReadWriteMany", "storageClassName": "a.b"},
    {"size": "1.5Ti", "accessMode": "ReadWriteOncePod", "onDelete": "Delete"},
    {"claimName": "a"},
    {"claimName": "a", "size": "1Gi"},
    {"claimName": "a", "accessMode": "ReadWriteMany"},
    {"size": "1GB"},
]
ADAPTERS = [
    {"name": "a", "source": "hf://org/a"},
    {"name": "b", "source": "pvc://claim/b"},
    {"name": "name", "source": "file:///b"},
    {"name": "org/name", "source": "hf://org/a"},
    {"name": "good", "source": "hf://org/a"},
]
ENV: list[Object] = [
    {"name": "A"},
    {"name": "B", "value": ""},
    {"name": "HF_TOKEN", "value": "x"},
    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
    {"name": "D", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
    {"name": "E", "valueFrom": {}},
]
TEMPLATES: list[Object] = [
    {},
    {"metadata": {"labels": {"a": "b"}}},
    {"spec": {}},
    {"spec": {"volumes": [{"name": "a"}], "containers": []}},
    {"spec": {"containers": [{"name": "engine", "env": [{"name": "HF_TOKEN", "value": "x"}]}]}},
    {"spec": {"containers": [{"name": "engine", "command": []}]}},
    {"spec": {"restartPolicy": "Always"}},
]
SOURCES = ["hf://org/name", "pvc://claim/", "pvc://a/b/name", "s3://bucket/a//b/", "oci://a/b:1"]
ACCESSES: list[Object] = [
    {},
    {"aliases": ["a"], "limits": {"maxInFlight": 8}},
    {"aliases": ["c", "good"], "modelField": "Match", "timeouts": {"total": "1h"}},
    {"hosts": ["a.example.com"], "routes": ["score"], "loadBalancing": {"strategy": "PrefixHash"}},
    {"hosts": ["a", "a"], "limits": {}},
    {"timeouts": {"idle": "0s"}},
    {"limits": {"tokensPerMinute": 0}},
]
OPTIONS: Object = {"tensor-parallel-size": 2, "data_parallel_size": 2, "seed": 1, "port": 1}
ARGUMENTS = ["-tp", "2", "-O3", "--data-parallel-size=2", "--enforce-eager", "--uds=x", "x"]


class Generator:
    """Makes specs of parts that are good or bad by themselves or together."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - for tests

    def some(self, choices: list[Any], most: int = 2) -> list[Any]:
        return self.random.sample(choices, self.random.randint(1, most))

    def part(self, **choices: list[Any]) -> Object:
        """Return some of the fields, each with one of its values."""
        chosen = {key for key in choices if self.random.random() < 0.3}
        return {key: self.random.choice(choices[key]) for key in sorted(chosen)}

    def spec(self) -> Object:
        """Return the spec of an endpoint."""
        model = self.part(
            revision=["main", "refs/pr/1", "a b"],
            servedNames=[["a"], ["x", "y"], ["x", "x"]],
            tokenSecretRef=[{"name": "a"}, {"key": "b"}],
            cache=CACHES,
            chatTemplate=[{"inline": "x"}, {}, {"configMapRef": {"name": "a", "key": "b"}}],
            adapters=[self.some(ADAPTERS)],
        )
        engine = self.part(
            image=["a:b", "a", "a.b:5000/c@sha256:" + "0" * 64],
            config=[dict(self.some(list(OPTIONS.items())))],
            args=[self.some(ARGUMENTS)],
            env=[self.some(ENV)],
            keyGeneration=[0, 1, 7],
            drainTimeout=["0s", "1h30m", "1d"],
        )
        gpu = self.part(
            count=[0, 1, 2, 4, 65],
            resource=["amd.com/gpu", "x.y/z", "gpu"],
            products=[[], ["a"], ["a b"]],
        )
        rest = self.part(
            gpu=[gpu],
            engine=[engine],
            replicas=[0, 1, 2],
            rollout=[{}, {"strategy": "Surge"}, {"strategy": "Replace"}],
            podTemplate=TEMPLATES,
            suspended=[True],
            access=ACCESSES,
        )
        return {"model": {"source": self.random.choice(SOURCES), **model}, **rest}

    def good_spec(self) -> Object:
        """Return a spec that the model takes."""
        while True:
            spec = self.spec()
            body = builders.endpoint() | {"spec": spec}
            with contextlib.suppress(InvalidObjectError):
                parse_endpoint(body)
                return spec
