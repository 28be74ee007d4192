"""Keys: their form, their derivation, and the keyring that lists them."""

from __future__ import annotations

import base64
import hashlib
import json

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
    key = keyring.engine_key(bytes(range(32)), "3b8c1e9a-0000-4000-8000-000000000001")
    digest = "18f4c77a3513562e6ef9c1b496a353b97a93e3f8c16ee530816e16b16ac6a42f"
    assert key == f"sk-engine-{digest}"
    assert key != keyring.engine_key(bytes(range(32)), "another")


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
