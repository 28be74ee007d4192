"""What both parts read is what the chart sets and what the reference documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import endpoint_gateway.settings
import endpoint_operator.settings
from helpers.helm import container, pick, render
from helpers.tree import ROOT

PREFIX = "VLLM_ENDPOINTS_"
REFERENCE = ROOT / "docs" / "reference" / "settings.md"
MODELS: dict[str, type[BaseModel]] = {
    "operator": endpoint_operator.settings.Settings,
    "gateway": endpoint_gateway.settings.Settings,
}


def variables(part: str) -> set[str]:
    return {PREFIX + name.upper() for name in MODELS[part].model_fields}


def rendered(part: str, values: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What a pod gets to see; its own name is not known before it runs."""
    deployment = pick(render(values), "Deployment", f"vllm-endpoints-{part}")
    return {item["name"]: item.get("value", "") for item in container(deployment)["env"]}


@pytest.mark.parametrize("part", MODELS)
def test_the_chart_sets_every_variable_and_no_other(part: str) -> None:
    assert rendered(part).keys() == variables(part)


@pytest.mark.parametrize("part", MODELS)
def test_the_charts_defaults_are_the_models(part: str) -> None:
    fields = MODELS[part].model_fields
    chart = rendered(part)
    given = {name: chart[PREFIX + name.upper()] for name in fields}
    settings = MODELS[part].model_validate(given)
    different = {
        name: (getattr(settings, name), field.default)
        for name, field in fields.items()
        if not field.is_required() and getattr(settings, name) != field.default
    }
    assert different == {}


def test_the_variables_of_a_gateway_without_a_cluster_are_documented() -> None:
    text = Path(REFERENCE).read_text()
    fields = endpoint_gateway.settings.StaticBackend.model_fields
    assert [name for name in fields if f"`{name.upper()}`" not in text] == []


@pytest.mark.parametrize("part", MODELS)
def test_every_variable_is_documented(part: str) -> None:
    text = Path(REFERENCE).read_text()
    assert [name for name in sorted(variables(part)) if f"`{name}`" not in text] == []


def test_lists_and_objects_reach_the_operator_as_the_values_have_them() -> None:
    bundle = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
    scraper = {"namespaceSelector": {"matchLabels": {"team": "metrics"}}}
    settings = endpoint_operator.settings.load_settings(
        rendered(
            "operator",
            {
                "watchNamespaces": ["team-b", "team-a"],
                "engine.imagePullSecrets": ["registry", "mirror"],
                "engine.nodeSelector": {"gpu": "yes"},
                "engine.caBundle": bundle,
                "gateway.hostDomains": [{"domain": "a.b", "namespaces": ["x"]}, {"domain": "c.d"}],
                "networkPolicy": {"enabled": False, "scrapers": [scraper]},
                "upgrade.maxConcurrent": 3,
            },
        )
    )
    assert settings.namespaces == ("team-a", "team-b", "vllm-system")
    assert settings.engine_pull_secrets == ("registry", "mirror")
    assert settings.engine_node_selector == {"gpu": "yes"}
    assert settings.engine_ca_bundle == bundle
    hosts = endpoint_operator.settings.HostDomain
    assert settings.host_domains == (hosts(domain="a.b", namespaces=("x",)), hosts(domain="c.d"))
    assert (settings.network_policy, settings.metrics_scrapers) == (False, (scraper,))
    assert settings.upgrade_max_concurrent == 3


def test_the_operator_knows_the_labels_of_the_gateways_pods() -> None:
    deployment = pick(render(), "Deployment", "vllm-endpoints-gateway")
    settings = endpoint_operator.settings.load_settings(rendered("operator"))
    assert settings.gateway_labels == deployment["spec"]["selector"]["matchLabels"]
