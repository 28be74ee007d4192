"""The keyring: what it says of keys, and that it stays within the size of a Secret."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from endpoint_operator import keyring, keys
from endpoint_operator.api import values
from endpoint_operator.api.v1alpha1 import ApiKey, parse_api_key
from endpoint_operator.keyring import NOTHING, Entry, Keyring, Limits
from endpoint_operator.keys import Held
from helpers import builders

Object = dict[str, Any]

NOW = 1795262400.0


def owner(name: str = "ci", **spec: Any) -> ApiKey:
    return parse_api_key(builders.api_key(name, **spec))


def ring_of(*listed: Entry) -> Keyring:
    return keyring.read_keyring(keyring.keyring_secret("ns", "ring", listed))


def only(listed: Iterable[Entry]) -> Entry:
    (entry,) = listed
    return entry


def test_the_keyring_has_digests_and_scopes_and_no_key() -> None:
    spec: dict[str, Any] = {"endpoints": ["qwen", "other"], "expiresAt": "2027-01-01T00:00:00Z"}
    held = Held("sk-secret", "sk-before", previous_until=NOW + 60)
    secret = keyring.keyring_secret("ns", "ring", keyring.entries(owner(**spec), held, NOW))
    text = base64.b64decode(secret["data"]["keyring.json"]).decode()
    whose = {"namespace": "team-a", "name": "ci", "endpoints": ["qwen", "other"]}
    assert json.loads(text) == {
        "version": 1,
        "keys": [
            {"sha256": hashlib.sha256(key).hexdigest(), **whose, "expires": expires}
            for key, expires in [(b"sk-before", 1795262460), (b"sk-secret", 1798761600)]
        ],
    }


@pytest.mark.parametrize(
    ("spec", "held", "expected"),
    [
        pytest.param({}, Held("a"), {"a": 0}, id="one key"),
        pytest.param({}, Held(), {}, id="no key"),
        pytest.param({}, Held("a", "b"), {"a": 0, "b": 0}, id="an adopted one and the one before"),
        pytest.param({}, Held("a", "a", previous_until=NOW + 9), {"a": 0}, id="twice the same"),
        pytest.param({}, Held("a", "b", NOW + 9), {"a": 0, "b": NOW + 9}, id="an overlap"),
        pytest.param({}, Held("a", "b", NOW), {"a": 0}, id="an overlap that has ended"),
        pytest.param({}, Held("a", upcoming="c"), {"a": 0, "c": 0}, id="one that is to come"),
        pytest.param(
            {"expiresAt": "2026-11-21T12:00:05.5Z"},
            Held("a", "b", NOW + 9, upcoming="c"),
            {"a": NOW + 5, "b": NOW + 5, "c": NOW + 5},
            id="an end of all",
        ),
        pytest.param(
            {"expiresAt": "2026-11-21T12:00:05Z"},
            Held("a", "b", NOW + 3),
            {"a": NOW + 5, "b": NOW + 3},
            id="an overlap before the end",
        ),
        pytest.param({"expiresAt": "2026-11-21T13:00:00+01:00"}, Held("a", "b"), {}, id="ended"),
        pytest.param({"expiresAt": "1970-01-01T00:00:00Z"}, Held("a"), {}, id="ended in 1970"),
        pytest.param({"expiresAt": "1960-01-01T00:00:00Z"}, Held("a"), {}, id="and before it"),
    ],
)
def test_each_key_is_listed_with_its_end(
    spec: dict[str, Any], held: Held, expected: dict[str, float]
) -> None:
    found = keyring.entries(owner(**spec), held, NOW)
    assert {entry.sha256: entry.expires for entry in found} == {
        keys.digest(key): end for key, end in expected.items()
    }


def test_all_keys_of_an_api_key_have_its_limits_as_the_object_names_them() -> None:
    limits = {"requestsPerMinute": 60, "tokensPerMinute": 50000, "maxInFlight": 8}
    listed = keyring.entries(owner(limits=limits), Held("sk-1", "sk-2", NOW + 9), NOW)
    told = json.loads(text_of(listed))["keys"]
    assert [key["limits"] for key in told] == [limits, limits]
    assert ring_of(*listed).of("team-a", "ci") == listed


@pytest.mark.parametrize("limit", ["requestsPerMinute", "tokensPerMinute", "maxInFlight"])
def test_what_is_not_limited_is_not_told(limit: str) -> None:
    listed = keyring.entries(owner(limits={limit: 7}), Held("sk"), NOW)
    assert json.loads(text_of(listed))["keys"][0]["limits"] == {limit: 7}
    assert ring_of(*listed).of("team-a", "ci") == listed
    unlimited = keyring.entries(owner(limits={}), Held("sk"), NOW)
    assert "limits" not in text_of(unlimited)


def test_the_order_of_keys_changes_nothing() -> None:
    listed = [only(keyring.entries(owner(name), Held(f"sk-{name}"), NOW)) for name in "cab"]
    forwards = keyring.keyring_secret("ns", "ring", listed)
    assert forwards == keyring.keyring_secret("ns", "ring", reversed(listed))
    assert set(keyring.read_keyring(forwards)) == set(listed)


ENTRY: Object = {"namespace": "a", "name": "b", "sha256": "c", "endpoints": ["*"]}
DAMAGED = [
    *("x", {}, ENTRY | {"namespace": 1}, ENTRY | {"sha256": None}, ENTRY | {"endpoints": [1]}),
    *(ENTRY | {"endpoints": None}, ENTRY | {"expires": "soon"}),
    *(ENTRY | {"limits": 1}, ENTRY | {"limits": "x"}, ENTRY | {"limits": {"maxInFlight": "1"}}),
]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"version": 1}'),
        json.dumps({"version": 2, "keys": [ENTRY]}),
        *(json.dumps({"version": 1, "keys": [key]}) for key in DAMAGED),
    ],
)
def test_a_damaged_keyring_is_an_empty_one(text: str) -> None:
    data = {"keyring.json": base64.b64encode(text.encode()).decode()}
    assert list(keyring.read_keyring(builders.secret("ring", "ns", data))) == []
    assert list(keyring.read_keyring(None)) == []


def test_an_api_key_finds_all_of_its_entries() -> None:
    two = keyring.entries(owner("a"), Held("sk-1", "sk-2", NOW + 9), NOW)
    ring = ring_of(*two, *keyring.entries(owner("b"), Held("sk-3"), NOW))
    assert ring.of("team-a", "a") == two
    assert ring.of("team-b", "a") == NOTHING


def test_a_key_that_two_have_is_the_ones_for_whom_it_is_listed() -> None:
    first, second, other = (
        only(keyring.entries(owner(name), Held(key), NOW))
        for name, key in [("b", "sk"), ("a", "sk"), ("c", "sk-c")]
    )
    assert keyring.undisputed({first, second, other}, ring_of(first)) == {first, other}
    assert keyring.undisputed({first, second, other}, ring_of()) == {second, other}
    assert keyring.undisputed({second, other}, ring_of(first)) == {second, other}


def long_entry(number: int, *, key: str = "sk", scope: int = 64) -> Entry:
    """Return an entry of some 2.9 KiB, so that 310 fill a keyring."""
    endpoints = tuple(f"{name:04d}".rjust(40, "e") for name in range(scope))
    return Entry("team-a", f"k{number:04d}", keys.digest(f"{key}{number}"), endpoints)


def text_of(entries: Iterable[Entry]) -> str:
    return keys.read_field(keyring.keyring_secret("ns", "ring", entries), "keyring.json")


@pytest.fixture(scope="module")
def full() -> set[Entry]:
    """A keyring in which there is no room for another long entry."""
    entries = keyring.fitting(map(long_entry, range(400, 800)), ())
    assert len(entries) < 400
    return entries


def test_a_keyring_stays_under_the_size_of_a_secret(full: set[Entry]) -> None:
    ending = [replace(entry, expires=values.LATEST) for entry in full]
    assert keyring.LARGEST_BYTES - 3000 < len(text_of(ending)) <= keyring.LARGEST_BYTES


def test_keys_in_a_full_keyring_stay_before_new_ones(full: set[Entry]) -> None:
    new = long_entry(0)
    assert keyring.fitting({*full, new}, full) == full
    ring = ring_of(*full)
    assert not ring.has_room(frozenset({new}))
    assert ring.has_room(frozenset({next(iter(full))}))


def test_a_removal_from_a_full_keyring_counts_and_makes_room(full: set[Entry]) -> None:
    wanted = {*full, long_entry(0), long_entry(1)} - {min(full)}
    kept = keyring.fitting(wanted, full)
    assert min(full) not in kept
    assert kept == {*full, long_entry(0)} - {min(full)}


def test_a_replaced_key_of_a_full_keyring_stays_before_new_ones(full: set[Entry]) -> None:
    old = max(full)
    replaced = Entry(old.namespace, old.name, keys.digest("new"), old.endpoints)
    kept = keyring.fitting({*full, replaced, long_entry(0)} - {old}, full)
    assert kept == {*full, replaced} - {old}


def test_a_scope_that_no_longer_fits_stays_as_it_was() -> None:
    small = long_entry(0, scope=1)
    others = [*map(long_entry, range(1000, 1400)), *(long_entry(n, scope=1) for n in range(20))]
    before = keyring.fitting([small, *others], [small])
    assert keyring.fitting({*before, long_entry(0)} - {small}, before) == before


def test_limits_that_no_longer_fit_stay_as_they_were(full: set[Entry]) -> None:
    listed = {replace(entry, limits=Limits(max_in_flight=1)) for entry in full}
    fits = keyring.fitting(listed, ())
    more = {replace(entry, limits=Limits(1, 1, 1)) for entry in fits}
    kept = keyring.fitting(more, fits)
    assert {entry.sha256 for entry in kept} == {entry.sha256 for entry in fits}
    assert kept & more
    assert kept & fits
    assert kept <= more | fits


def test_an_end_always_fits(full: set[Entry]) -> None:
    ending = {replace(entry, expires=values.LATEST) for entry in full}
    assert keyring.fitting({*ending, long_entry(0)}, full) == ending


def test_a_second_key_of_a_full_keyring_waits_and_the_first_stays(full: set[Entry]) -> None:
    some = max(full)
    second = replace(some, sha256=keys.digest("second"))
    assert keyring.fitting({*full, second}, full) == full
    assert not ring_of(*full).has_room(frozenset({some, second}))


def test_a_narrower_scope_counts_while_a_second_key_waits(full: set[Entry]) -> None:
    old = max(full)
    narrowed = replace(old, endpoints=old.endpoints[:60])
    second = replace(narrowed, sha256=keys.digest("second"))
    kept = keyring.fitting({*full, narrowed, second} - {old}, full)
    assert kept == {*full, narrowed} - {old}


def test_a_keyring_that_is_too_long_already_still_shrinks(full: set[Entry]) -> None:
    before = {*full, *map(long_entry, range(20))}
    narrowed = {long_entry(number, scope=1) for number in range(20)}
    assert narrowed <= keyring.fitting({*full, *narrowed}, before)


@pytest.mark.parametrize(
    ("endpoints", "namespace", "expected"),
    [
        (["*"], "team-a", True),
        (["*/*"], "team-a", False),
        (["qwen", "*/*"], "team-a", False),
        (["*/*"], "vllm-system", True),
    ],
)
def test_every_endpoint_of_the_cluster_is_for_the_release_namespace(
    endpoints: list[str], namespace: str, *, expected: bool
) -> None:
    key = owner(namespace=namespace, endpoints=endpoints)
    assert keyring.may_have_scope(key, "vllm-system") is expected
