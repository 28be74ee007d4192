"""The file of a gateway without a cluster takes what the objects in a cluster take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from endpoint_gateway import config, configfile, routes
from endpoint_gateway.static import known
from endpoint_operator import names
from endpoint_operator.api import access
from endpoint_operator.api.apikey import ApiKeySpec
from helpers.tree import ROOT

EXAMPLE = ROOT / "examples" / "without-kubernetes" / "gateway.yaml"
PAGE = ROOT / "docs" / "without-kubernetes.md"
MODELS = (
    config.EndpointEntry,
    config.KeyEntry,
    config.AccessEntry,
    config.TimeoutsEntry,
    config.LimitsEntry,
    config.LoadBalancingEntry,
)
# what the operator does with Secrets
NOT_IN_A_FILE = {"secretName", "rotation", "suspended"}


def names_of(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (config.AccessEntry, access.AccessSpec),
        (config.TimeoutsEntry, access.TimeoutsSpec),
        (config.LimitsEntry, access.LimitsSpec),
        (config.LoadBalancingEntry, access.LoadBalancingSpec),
    ],
)
def test_the_policy_has_the_fields_of_the_cluster(
    ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    assert names_of(ours) == names_of(theirs)


def test_a_key_has_the_fields_of_the_cluster() -> None:
    own = {"name", "namespace", "key"}
    assert names_of(config.KeyEntry) - own == names_of(ApiKeySpec) - NOT_IN_A_FILE


def test_routes_and_reserved_names_are_those_of_the_cluster() -> None:
    assert set(get_args(config.Route)) == set(get_args(access.Route)) == routes.LISTED
    assert set(names.RESERVED_NAMES) == config.RESERVED_NAMES


POLICIES: list[dict[str, Any]] = [
    *({"aliases": [name]} for name in ("a", "A/b:c@d+e-f_g.h", "", "-a", "a b", "a" * 257)),
    *({"hosts": [name]} for name in ("a.b", "a", "a.b.", "*.a.b", "A.b", "a_.b", "a." + "b" * 64)),
    *({"hosts": [f"{'a.' * 126}{end}"]} for end in ("b", "bb")),
    *({"modelField": name} for name in ("Match", "match")),
    *({"loadBalancing": {"strategy": name}} for name in ("PrefixHash", "Random")),
    *(
        {"timeouts": {"idle": text}}
        for text in ("0s", "1s", "24h", "24h1s", "1m30s", "1.5m", "30", 30, "1d", "500ms")
    ),
    *({"limits": {"maxInFlight": number}} for number in (0, 1, 10**9, 10**9 + 1, "1", 1.5, True)),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: str(policy)[:60])
def test_a_policy_is_refused_where_the_cluster_refuses_it(policy: dict[str, Any]) -> None:
    def is_taken(model: type[BaseModel]) -> bool:
        try:
            model.model_validate(policy)
        except ValidationError:
            return False
        return True

    assert is_taken(config.AccessEntry) == is_taken(access.AccessSpec)


def test_the_example_is_good_and_shows_every_field() -> None:
    text = EXAMPLE.read_text()
    found = known(configfile.parse(text), {"QWEN_KEY": "sk-engine", "CI_KEY": "sk-ci"})
    assert (len(found.catalog.endpoints), len(found.keyring)) == (2, 2)
    fields = set().union(*(names_of(model) for model in MODELS))
    assert [name for name in sorted(fields) if not re.search(rf"\b{name}:", text)] == []


def test_the_file_that_the_page_shows_is_good(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    secret = tmp_path / "alice"
    secret.write_text("sk-alice")
    content = configfile.parse(block.replace("/run/secrets/alice", str(secret)))
    known(content, {"QWEN_KEY": "sk-engine", "CI_KEY": "sk-ci"})


def test_every_field_has_a_row_on_the_page() -> None:
    text = PAGE.read_text()
    fields = set().union(*(names_of(model) for model in MODELS))
    nested = names_of(config.TimeoutsEntry) | names_of(config.LoadBalancingEntry)
    assert [name for name in sorted(fields - nested) if f"`{name}`" not in text] == []
