"""The file of a gateway without a cluster: what it may say, and what is said of what it may not."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint_gateway.catalog import Adapter, Limits, Replica, Timeouts
from endpoint_gateway.configfile import parse
from endpoint_gateway.errors import SettingsError
from endpoint_gateway.static import Known, known

QWEN = {"name": "qwen", "models": ["tiny"], "backends": ["http://10.0.0.5:8000"]}
EMBED = {"name": "embed", "models": ["bge"], "backends": ["http://10.0.0.7"]}
CI = {"name": "ci", "key": "sk-1"}


def read(content: Any, environ: Mapping[str, str] = {}) -> Known:
    return known(parse(yaml.safe_dump(content)), environ)


def faults(content: Any, environ: Mapping[str, str] = {}) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(content, environ)
    return str(caught.value).splitlines()


def one(endpoint: Any = None, key: Any = None) -> Any:
    """Return a file with one endpoint and one key, in which this is different."""
    return {"endpoints": [QWEN | (endpoint or {})], "keys": [CI | (key or {})]}


def two(endpoint: Any, key: Any = None) -> Any:
    """Return a file with two endpoints, in which this is different of the second."""
    return {"endpoints": [QWEN, EMBED | endpoint], "keys": [CI | (key or {})]}


def without(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


def test_all_of_an_endpoint_reaches_the_catalog() -> None:
    access = {
        "aliases": ["gpt"],
        "hosts": ["qwen.example.com"],
        "modelField": "Match",
        "routes": ["completions"],
        "timeouts": {"connect": "5s", "firstByte": "1h30m", "idle": "2m", "total": "24h"},
        "limits": {"requestsPerMinute": 1, "tokensPerMinute": 2, "maxInFlight": 3},
        "loadBalancing": {"strategy": "PrefixHash"},
    }
    backends = ["http://10.0.0.5:8000", "http://[::1]:8001/v1", "http://vllm", "http://vllm/"]
    more = {"namespace": "a", "adapters": ["sql"], "backends": backends, "apiKey": " sk-e\n"}
    found = read(one(more | {"access": access}))
    (endpoint,) = found.catalog.endpoints
    assert endpoint.qualified_name == "a/qwen"
    assert endpoint.models == ("tiny", "sql", "gpt")
    assert endpoint.adapters == (Adapter("sql", ""),)
    assert (endpoint.common_name, endpoint.engine_names) == ("tiny", frozenset(("tiny", "sql")))
    assert (endpoint.hosts, endpoint.matches_model) == (("qwen.example.com",), True)
    assert endpoint.routes == {"completions"}
    assert endpoint.by_prefix
    assert endpoint.timeouts == Timeouts(5, 5400, 120, 86400)
    assert endpoint.limits == Limits(1, 2, 3)
    assert endpoint.authorizations == (b"Bearer sk-e",)
    assert endpoint.replicas == (
        Replica("10.0.0.5", 8000),
        Replica("::1", 8001),
        Replica("vllm", 80),
    )
    assert found.catalog.catch_all is None


def test_all_of_a_key_reaches_the_keyring() -> None:
    more = {"expiresAt": "1970-01-01T00:01:00Z", "limits": {"maxInFlight": 8}}
    content = one(key=more | {"endpoints": ["qwen"]})
    (key,) = read(content).keyring.values()
    assert (key.digest, key.qualified_name) == (sha256(b"sk-1").digest(), "default/ci")
    assert (key.endpoints, key.everywhere, key.expires) == (frozenset(("qwen",)), False, 60.0)
    assert key.limits == Limits(in_flight=8)
    assert key.owner == "default/ci"


def test_a_time_may_be_without_quotes() -> None:
    text = yaml.safe_dump(one()) + "  expiresAt: 1970-01-01T01:01:00+01:00\n"
    (key,) = known(parse(text), {}).keyring.values()
    assert key.expires == 60.0


def test_a_key_opens_all_unless_it_says_what() -> None:
    other = {"namespace": "b"}
    for opened, qwen, embed in ((["*"], True, False), (["*/*"], True, True), (None, True, True)):
        more = {"endpoints": opened} if opened else {}
        found = read(two(other, more))
        (key,) = found.keyring.values()
        may_use = {each.name: key.may_use(each) for each in found.catalog.endpoints}
        assert may_use == {"qwen": qwen, "embed": embed}


def test_one_endpoint_without_models_takes_them_all() -> None:
    catalog = read({"endpoints": [without(QWEN, "models")], "keys": [CI]}).catalog
    assert catalog.catch_all is catalog.endpoints[0]


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-file\n")
    keys = [
        {"name": "a", "key": {"env": "A"}},
        {"name": "b", "key": {"file": str(path)}},
        {"name": "c", "key": {"sha256": sha256(b"sk-hash").hexdigest().upper()}},
    ]
    engines = [QWEN | {"apiKey": {"env": "E"}}, EMBED | {"apiKey": {"file": str(path)}}]
    found = read({"endpoints": engines, "keys": keys}, {"A": "sk-env", "E": "sk-engine"})
    secrets = (b"sk-env", b"sk-file", b"sk-hash")
    assert set(found.keyring) == {sha256(secret).digest() for secret in secrets}
    wanted = {each.name: each.authorizations for each in found.catalog.endpoints}
    assert wanted == {"qwen": (b"Bearer sk-engine",), "embed": (b"Bearer sk-file",)}


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "the file: must be a map"),
    "a list": ([], "the file: must be a map"),
    "no endpoints": ({"keys": [CI]}, "endpoints: is required"),
    "endpoints of nothing": ({"endpoints": [], "keys": [CI]}, "endpoints: must not be empty"),
    "no keys": ({"endpoints": [QWEN]}, "keys: is required"),
    "keys of nothing": ({"endpoints": [QWEN], "keys": []}, "keys: must not be empty"),
    "an unknown field": (one() | {"routes": []}, "routes: is not known here"),
    "no name": ({"endpoints": [without(QWEN, "name")], "keys": [CI]}, "endpoints[0].name: is"),
    "a name with capitals": (one({"name": "Qwen"}), "endpoints[0].name: must be at most 40"),
    "a long name": (one({"name": "a" * 41}), "endpoints[0].name: must be at most 40"),
    "a name of a path": (one({"name": "v1"}), "endpoints[0].name: is the first part of paths"),
    "a namespace with a dot": (one({"namespace": "a.b"}), "endpoints[0].namespace: must be"),
    "a model with a space": (one({"models": ["a b"]}), "endpoints[0].models[0]: must be letters"),
    "one model": (one({"models": "tiny"}), "endpoints[0].models: must be a list"),
    "no backends": (one({"backends": []}), "endpoints[0].backends: must not be empty"),
    "TLS": (two({"backends": ["https://x"]}), "endpoints[1].backends[0]: must be http://HOST"),
    "a dot too many": (
        one({"backends": ["http://a..b"]}),
        "endpoints[0].backends[0]: must be http",
    ),
    "a path": (one({"backends": ["http://x", "http://x/api"]}), "endpoints[0].backends[1]: must"),
    "a number as key": (one(key={"key": 12}), "keys[0].key: must be the key itself in quotes"),
    "two keys in one": (
        one(key={"key": {"env": "A", "file": "/x"}}),
        "keys[0].key: must be the key itself",
    ),
    "a key of another form": (one({"apiKey": {"sha256": "0" * 64}}), "endpoints[0].apiKey: must"),
    "no variable": (one({"apiKey": {"env": "a-b"}}), "endpoints[0].apiKey: must be the key itself"),
    "a file somewhere": (one(key={"key": {"file": "x"}}), "keys[0].key: must be the key itself"),
    "no digest": (one(key={"key": {"sha256": "abc"}}), "keys[0].key: must be the key itself"),
    "a variable that is not set": (one(key={"key": {"env": "A"}}), "keys[0].key: this environment"),
    "a file that is not there": (
        one({"apiKey": {"file": "/nowhere/key"}}),
        "endpoints[0].apiKey: this file can't be read (No such file or directory)",
    ),
    "an empty key": (one(key={"key": " "}), "keys[0].key: must be ASCII"),
    "two lines of a key": (one({"apiKey": "a\nb: c"}), "endpoints[0].apiKey: must be ASCII"),
    "no duration": (
        one({"access": {"timeouts": {"firstByte": 30}}}),
        "endpoints[0].access.timeouts.firstByte: must be a duration",
    ),
    "a long duration": (
        one({"access": {"timeouts": {"total": "25h"}}}),
        "endpoints[0].access.timeouts.total: must be a duration",
    ),
    "no limit": (
        one(key={"limits": {"maxInFlight": 0}}),
        "keys[0].limits.maxInFlight: must be greater than or equal to 1",
    ),
    "a limit in quotes": (
        one({"access": {"limits": {"requestsPerMinute": "60"}}}),
        "endpoints[0].access.limits.requestsPerMinute: must be a whole number",
    ),
    "an unknown route": (one({"access": {"routes": ["chat"]}}), "endpoints[0].access.routes[0]"),
    "a host with a port": (
        one({"access": {"hosts": ["a.b:80"]}}),
        "endpoints[0].access.hosts[0]: must be a DNS name",
    ),
    "another mode": (
        one({"access": {"modelField": "Any"}}),
        "endpoints[0].access.modelField: must",
    ),
    "a time without zone": (one(key={"expiresAt": "2027-01-01T00:00:00"}), "keys[0].expiresAt:"),
    "a date": (one(key={"expiresAt": "2027-01-01"}), "keys[0].expiresAt:"),
    "a name that is there": (two({"name": "qwen"}), "endpoints[1].name: endpoints[0] has it"),
    "a model that is there": (two({"models": ["tiny"]}), "endpoints[1].models[0]: endpoints[0]"),
    "a model like a name": (two({"models": ["qwen"]}), "endpoints[1].models[0]: endpoints[0]"),
    "an alias that is there": (
        two({"access": {"aliases": ["x", "tiny"]}}),
        "endpoints[1].access.aliases[1]: endpoints[0] has it",
    ),
    "a host that is there": (
        {
            "endpoints": [
                QWEN | {"access": {"hosts": ["a.b"]}},
                EMBED | {"namespace": "b", "access": {"hosts": ["a.b"]}},
            ],
            "keys": [CI],
        },
        "endpoints[1].access.hosts[0]: endpoints[0] has it",
    ),
    "two and no models": (two({"models": []}), "endpoints[1].models: is required beside other"),
    "adapters and no models": (
        one({"models": [], "adapters": ["sql"]}),
        "endpoints[0].models: is required with adapters",
    ),
    "aliases and no models": (
        one({"models": [], "access": {"aliases": ["a"]}}),
        "endpoints[0].models: is required with adapters, aliases",
    ),
    "Match and no models": (
        one({"models": [], "access": {"modelField": "Match"}}),
        "endpoints[0].models: is required with adapters, aliases or modelField",
    ),
    "a key of nothing": (one(key={"endpoints": []}), "keys[0].endpoints: must not be empty"),
    "a key of no endpoint": (one(key={"endpoints": ["qven"]}), "keys[0].endpoints[0]: names no"),
    "a key of another namespace": (
        one(key={"namespace": "b", "endpoints": ["*"]}),
        "keys[0].endpoints[0]: names no endpoint of namespace b",
    ),
    "two keys of a name": (
        {"endpoints": [QWEN], "keys": [CI, CI | {"key": "sk-2"}]},
        "keys[1].name: another key has it",
    ),
    "a key twice": (
        {"endpoints": [QWEN], "keys": [CI, CI | {"name": "other"}]},
        "keys[1].key: is the same as that of another",
    ),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_by_its_path(content: Any, said: str) -> None:
    (fault,) = faults(content)
    assert fault.startswith(said)


def test_all_faults_of_fields_are_told_at_once_and_so_are_all_contradictions() -> None:
    assert len(faults({"endpoints": [{"name": "A", "models": [1]}]})) == 4
    wrong = two({"models": ["tiny"], "apiKey": {"env": "E"}}, {"key": {"env": "A"}})
    assert len(faults(wrong)) == 3


NO_YAML = {
    "a mapping in a line": ("keys: a: sk-secret", "line 1, column 8"),
    "no end of quotes": ("keys: 'sk-secret", "line 1, column"),
    "an alias of nothing": ("keys: *sk-secret", "line 1, column 7"),
    "a tag": ("keys: !!python/name:sk-secret", "line 1, column 7"),
    "a name twice": ("keys: []\nendpoints: []\nkeys: [sk-secret]", "line 1, column 1"),
    "a name twice below": ("keys:\n  - {name: a, key: sk-secret, name: b}", "line 2, column 5"),
    "two documents": ("a: 1\n---\nsk: secret", "line 2, column 1"),
    "a date that is none": ("keys: 2027-13-45", "no date"),
    "what is no text": ("keys: \0sk-secret", "no text"),
    "what has no bottom": ("[" * 5000, "too deep"),
}


@pytest.mark.parametrize(("text", "said"), NO_YAML.values(), ids=NO_YAML)
def test_what_is_no_yaml_is_told_without_its_words(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


def test_a_map_can_take_over_another_and_differ_in_a_field() -> None:
    first = "&qwen {name: qwen, models: [tiny], backends: [http://x]}"
    second = "{<<: *qwen, name: other, models: [bge]}"
    text = f"endpoints: [{first}, {second}]\nkeys: [{{name: ci, key: sk-1}}]\n"
    assert [each.name for each in parse(text).endpoints] == ["qwen", "other"]


def test_no_message_holds_a_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-secret and more")
    for content in (
        one(key={"key": {"sk-secret": None}}),
        one(key={"key": "sk-secret with a space"}),
        one(key={"key": {"env": "E"}}),
        one(key={"key": {"file": str(path)}}),
        one(key={"key": ["sk-secret"]}),
        one({"apiKey": {"env": "sk-secret"}}),
        one({"backends": ["http://me:sk-secret@x"]}),
    ):
        assert "sk-secret" not in "".join(faults(content, {"E": "sk-secret and more"}))
