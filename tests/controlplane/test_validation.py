"""Validation by the model: every fault at once, each with field and remedy; and the defaults."""

from __future__ import annotations

import re
from typing import Any

import pytest

from endpoint_operator.api.v1alpha1 import parse_api_key, parse_endpoint
from endpoint_operator.errors import InvalidObjectError
from helpers import builders, verdicts

PARSERS: dict[str, Any] = {"InferenceEndpoint": parse_endpoint, "ApiKey": parse_api_key}
SERVER_SIDE = {"uid": "u", "generation": 1}


def parsed(case: verdicts.Case) -> Any:
    body = case.object | {"metadata": case.object["metadata"] | SERVER_SIDE}
    return PARSERS[body["kind"]](body)


@pytest.mark.parametrize("case", verdicts.refused("operator"))
def test_the_model_refuses_it_and_names_field_and_remedy(case: verdicts.Case) -> None:
    with pytest.raises(InvalidObjectError) as refusal:
        parsed(case)
    faults = [fault for fault in refusal.value.faults if case.field in fault.field]
    assert [fault for fault in faults if re.search(case.remedy, fault.message)], refusal.value


@pytest.mark.parametrize("case", verdicts.accepted())
def test_the_model_accepts_it(case: verdicts.Case) -> None:
    assert parsed(case).name == "good"


def test_all_faults_come_at_once() -> None:
    body = builders.endpoint(
        "v1",
        model={"source": "s3://x", "servedNames": ["-a"]},
        engine={"config": {"host": "x", "api_key": "y"}, "drainTimeout": "soon"},
        gpu={"count": -1},
        replicas=-1,
        unknown=1,
    )
    with pytest.raises(InvalidObjectError) as refusal:
        parse_endpoint(body)
    assert [fault.field for fault in refusal.value.faults] == [
        "metadata.name",
        "spec.model.source",
        "spec.model.servedNames[0]",
        "spec.engine.config.host",
        "spec.engine.config.api_key",
        "spec.engine.drainTimeout",
        "spec.gpu.count",
        "spec.replicas",
        "spec.unknown",
    ]


def test_a_minimal_endpoint_has_the_documented_defaults() -> None:
    spec = parse_endpoint(builders.endpoint()).spec
    assert (spec.replicas, spec.gpu.count) == (1, 1)
    assert (spec.engine.drain_timeout, spec.startup_timeout) == ("10m", "30m")
    assert (spec.engine.image, spec.engine.config) == (None, {})


@pytest.mark.parametrize(
    ("model", "location", "names"),
    [
        ({"source": "hf://org/name"}, "org/name", ("org/name",)),
        ({"source": "hf://org/name", "servedNames": ["a", "b"]}, "org/name", ("a", "b")),
        ({"source": "file:///models/tiny"}, "/models/tiny", ("tiny",)),
        ({"source": "file:///models/tiny/"}, "/models/tiny/", ("tiny",)),
        ({"source": "file:///models/-x", "servedNames": ["x"]}, "/models/-x", ("x",)),
    ],
)
def test_what_is_served_follows_from_the_source(
    model: dict[str, Any], location: str, names: tuple[str, ...]
) -> None:
    parsed = parse_endpoint(builders.endpoint(model=model)).spec.model
    assert (parsed.location, parsed.names) == (location, names)


def test_whole_numbers_are_quantities_too() -> None:
    body = builders.endpoint(resources={"requests": {"cpu": 4}, "limits": {"cpu": "4.5"}})
    assert parse_endpoint(body).spec.resources.requests.cpu == "4"


@pytest.mark.parametrize(
    "option",
    ["model-impl", "config-format", "api-server-count", "portal", "seed", "ssl-cert-reqs"],
)
def test_an_option_that_only_begins_like_an_owned_one_is_the_users(option: str) -> None:
    body = builders.endpoint(engine={"config": {option: 1}})
    assert parse_endpoint(body).spec.engine.config == {option: 1}


@pytest.mark.parametrize("count", [True, "1", 1.0])
def test_nothing_is_converted_into_a_number(count: object) -> None:
    with pytest.raises(InvalidObjectError, match=r"spec\.gpu\.count: must be a whole number"):
        parse_endpoint(builders.endpoint(gpu={"count": count}))


def test_an_api_keys_secret_is_named_after_it() -> None:
    assert parse_api_key(builders.api_key("ci")).secret_name == "ci-api-key"
    assert parse_api_key(builders.api_key("ci", secretName="mine")).secret_name == "mine"
