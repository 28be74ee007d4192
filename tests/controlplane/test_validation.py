"""Validation by the model: every fault at once, each with field and remedy; and the defaults."""

from __future__ import annotations

import re
from typing import Any

import pytest

from endpoint_operator.api import workload
from endpoint_operator.api.v1alpha1 import parse_api_key, parse_endpoint
from endpoint_operator.desired import placement
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
    (fault,) = refusal.value.faults
    assert case.field in fault.field
    assert re.search(case.remedy, fault.message), fault
    assert "after validation" not in fault.message


@pytest.mark.parametrize("case", verdicts.accepted("operator"))
def test_the_model_accepts_it(case: verdicts.Case) -> None:
    assert parsed(case).name == case.object["metadata"]["name"]


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
    ("source", "scheme", "location", "name"),
    [
        ("hf://org/name", "hf", "org/name", "org/name"),
        ("pvc://claim/a/b.c/", "pvc", "claim/a/b.c/", "b.c"),
        ("pvc://claim/", "pvc", "claim/", "claim"),
        ("s3://bucket/a//b", "s3", "bucket/a//b", "b"),
        ("gs://bucket/a", "gs", "bucket/a", "a"),
        ("oci://host:5000/org/model:v1", "oci", "host:5000/org/model:v1", "model"),
        ("file:///models/tiny/", "file", "/models/tiny/", "tiny"),
    ],
)
def test_a_source_says_how_where_and_what(
    source: str, scheme: str, location: str, name: str
) -> None:
    model = parse_endpoint(builders.endpoint(model={"source": source})).spec.model
    assert (model.scheme, model.location, model.names) == (scheme, location, (name,))


def test_served_names_replace_the_name_that_the_source_gives() -> None:
    body = builders.endpoint(model={"source": "file:///models/-x", "servedNames": ["x", "y"]})
    assert parse_endpoint(body).spec.model.names == ("x", "y")


@pytest.mark.parametrize(
    ("cache", "rollout", "strategy"),
    [
        (None, {}, "Surge"),
        ({"size": "1Gi"}, {}, "Replace"),
        ({"size": "1Gi", "accessMode": "ReadWriteOncePod"}, {}, "Replace"),
        ({"size": "1Gi", "accessMode": "ReadWriteMany"}, {}, "Surge"),
        ({"claimName": "mine"}, {}, "Replace"),
        ({"claimName": "mine"}, {"strategy": "Surge"}, "Surge"),
        (None, {"strategy": "Replace"}, "Replace"),
        ({"size": "1Gi"}, {"strategy": "Surge"}, "Surge"),
    ],
)
def test_replicas_are_replaced_as_the_cache_allows_unless_the_user_says_how(
    cache: Any, rollout: Any, strategy: str
) -> None:
    model = {"source": "hf://org/name"} | ({"cache": cache} if cache else {})
    assert parse_endpoint(builders.endpoint(model=model, rollout=rollout)).spec.strategy == strategy


@pytest.mark.parametrize(
    ("image", "warned"),
    [
        ("vllm/vllm-openai:latest", True),
        ("vllm/vllm-openai:v0.33.0", False),
        ("vllm/vllm-openai:latest@sha256:" + "0" * 64, False),
    ],
)
def test_an_image_that_is_not_pinned_is_accepted_with_a_warning(image: str, warned: bool) -> None:
    warnings = parse_endpoint(builders.endpoint(engine={"image": image})).spec.warnings
    assert [reason for reason, _ in warnings] == (["UnpinnedImage"] if warned else [])
    assert all("spec.engine.image" in message for _, message in warnings)


def test_faults_of_several_parts_come_at_once() -> None:
    body = builders.endpoint(
        model={"source": "pvc://claim/a", "revision": "x", "tokenSecretRef": {"name": "a"}},
        gpu={"resource": "x.y/z", "products": ["a"]},
    )
    with pytest.raises(InvalidObjectError) as refusal:
        parse_endpoint(body)
    assert [fault.field for fault in refusal.value.faults] == [
        "spec.model.revision",
        "spec.model.tokenSecretRef",
        "spec.gpu.products",
    ]


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


def test_every_vendor_whose_products_may_be_named_has_a_label_for_them() -> None:
    vendors = {vendor.rstrip("/") for vendor in workload.PRODUCT_VENDORS}
    assert vendors == placement.PRODUCT_LABELS.keys()
