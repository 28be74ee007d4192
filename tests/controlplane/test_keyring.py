"""Keys: their form, their derivation, and the keyring that lists them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable

import pytest

from endpoint_operator import keyring
from endpoint_operator.api.v1alpha1 import parse_api_key
from endpoint_operator.errors import RootKeyError
from helpers import builders


def test_a_client_key_is_sk_and_256_bits() -> None:
    key = keyring.api_key(b"\xff" * 32)
    assert key.startswith("sk-")
    assert base64.urlsafe_b64decode(key[3:] + "=") == b"\xff" * 32


def test_an_engines_key_is_derived_from_root_key_and_uid() -> None:
    # computed with the standard library's hmac, outside of our code
    uid = "3b8c1e9a-0000-4000-8000-000000000001"
    key = keyring.engine_key(bytes(range(32)), uid, 1)
    digest = "18f4c77a3513562e6ef9c1b496a353b97a93e3f8c16ee530816e16b16ac6a42f"
    assert key == f"sk-engine-{digest}"
    assert key != keyring.engine_key(bytes(range(32)), "another", 1)
    assert key != keyring.engine_key(bytes(range(32)), uid, 2)


def test_the_keyring_has_digests_and_scopes_and_no_key() -> None:
    owner = parse_api_key(builders.api_key("ci", endpoints=["qwen", "other"]))
    secret = keyring.keyring_secret("ns", "ring", [keyring.entry(owner, "sk-secret")])
    text = base64.b64decode(secret["data"]["keyring.json"]).decode()
    assert json.loads(text) == {
        "version": 1,
        "keys": [
            {
                "sha256": hashlib.sha256(b"sk-secret").hexdigest(),
                "namespace": "team-a",
                "name": "ci",
                "endpoints": ["qwen", "other"],
            }
        ],
    }


def test_the_order_of_keys_changes_nothing() -> None:
    entries = [keyring.entry(parse_api_key(builders.api_key(name)), f"sk-{name}") for name in "cab"]
    forwards = keyring.keyring_secret("ns", "ring", entries)
    assert forwards == keyring.keyring_secret("ns", "ring", reversed(entries))
    assert keyring.read_keyring(forwards) == set(entries)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{}]}', "null"])
def test_a_damaged_keyring_is_an_empty_one(text: str) -> None:
    data = {"keyring.json": base64.b64encode(text.encode()).decode()}
    assert keyring.read_keyring(builders.secret("ring", "ns", data)) == set()
    assert keyring.read_keyring(None) == set()


def test_a_keyring_is_parsed_once_however_often_it_is_asked() -> None:
    entries = [keyring.entry(parse_api_key(builders.api_key(name)), f"sk-{name}") for name in "ab"]
    secret = keyring.keyring_secret("ns", "ring", entries)
    first = keyring.listed(secret, "team-a", "a")
    assert first == entries[0]
    assert keyring.listed(secret, "team-a", "a") is first
    assert keyring.listed(secret, "team-b", "a") is None


def long_entry(number: int, *, key: str = "sk", scope: int = 64) -> keyring.Entry:
    """Return an entry of some 2.9 KiB, so that 310 fill a keyring."""
    endpoints = tuple(f"{name:04d}".rjust(40, "e") for name in range(scope))
    return keyring.Entry("team-a", f"k{number:04d}", keyring.digest(f"{key}{number}"), endpoints)


def text_of(entries: Iterable[keyring.Entry]) -> str:
    return keyring.read_field(keyring.keyring_secret("ns", "ring", entries), "keyring.json")


@pytest.fixture(scope="module")
def full() -> set[keyring.Entry]:
    """A keyring in which there is no room for another long entry."""
    entries = keyring.fitting(map(long_entry, range(400, 800)), ())
    assert len(entries) < 400
    return entries


def test_a_keyring_stays_under_the_size_of_a_secret(full: set[keyring.Entry]) -> None:
    assert keyring.LARGEST_BYTES - 3000 < len(text_of(full)) <= keyring.LARGEST_BYTES


def test_keys_in_a_full_keyring_stay_before_new_ones(full: set[keyring.Entry]) -> None:
    new = long_entry(0)
    assert keyring.fitting({*full, new}, full) == full
    ring = keyring.keyring_secret("ns", "ring", full)
    assert not keyring.has_room(ring, new)
    assert keyring.has_room(ring, next(iter(full)))


def test_a_removal_from_a_full_keyring_counts_and_makes_room(full: set[keyring.Entry]) -> None:
    wanted = {*full, long_entry(0), long_entry(1)} - {min(full)}
    kept = keyring.fitting(wanted, full)
    assert min(full) not in kept
    assert kept == {*full, long_entry(0)} - {min(full)}


def test_a_replaced_key_of_a_full_keyring_stays_before_new_ones(full: set[keyring.Entry]) -> None:
    old = max(full)
    replaced = keyring.Entry(old.namespace, old.name, keyring.digest("new"), old.endpoints)
    kept = keyring.fitting({*full, replaced, long_entry(0)} - {old}, full)
    assert kept == {*full, replaced} - {old}


def test_a_scope_that_no_longer_fits_stays_as_it_was() -> None:
    small = long_entry(0, scope=1)
    others = [*map(long_entry, range(1000, 1400)), *(long_entry(n, scope=1) for n in range(20))]
    before = keyring.fitting([small, *others], [small])
    assert keyring.fitting({*before, long_entry(0)} - {small}, before) == before


def test_a_keyring_that_is_too_long_already_still_shrinks(full: set[keyring.Entry]) -> None:
    before = {*full, *map(long_entry, range(20))}
    narrowed = {long_entry(number, scope=1) for number in range(20)}
    assert narrowed <= keyring.fitting({*full, *narrowed}, before)


def test_a_root_key_can_be_read_back() -> None:
    secret = keyring.root_key_secret("ns", "root", b"x" * 32)
    # twice: the Secret's own encoding is around the key's bytes
    assert keyring.read_root_key(secret) == b"x" * 32


@pytest.mark.parametrize("data", [{}, {"root-key": ""}, {"root-key": "eA=="}, {"root-key": "%"}])
def test_a_root_key_that_is_none_is_refused_with_the_way_out(data: dict[str, str]) -> None:
    with pytest.raises(RootKeyError, match=r"ns/root: .* delete the Secret"):
        keyring.read_root_key(builders.secret("root", "ns", data))


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
    owner = parse_api_key(builders.api_key(namespace=namespace, endpoints=endpoints))
    assert keyring.may_have_scope(owner, "vllm-system") is expected
