"""Keys: their form, their derivation, and the Secrets that hold them."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from endpoint_operator import keys, names
from endpoint_operator.api.v1alpha1 import parse_api_key
from endpoint_operator.errors import RootKeyError
from endpoint_operator.keys import Held, RootKey
from helpers import builders


def test_a_client_key_is_sk_and_256_bits() -> None:
    key = keys.api_key(b"\xff" * 32)
    assert key.startswith("sk-")
    assert base64.urlsafe_b64decode(key[3:] + "=") == b"\xff" * 32


def test_an_engines_key_is_derived_from_root_key_and_uid() -> None:
    # computed with the standard library's hmac, outside of our code
    uid = "3b8c1e9a-0000-4000-8000-000000000001"
    key = keys.engine_key(bytes(range(32)), uid, 1)
    digest = "18f4c77a3513562e6ef9c1b496a353b97a93e3f8c16ee530816e16b16ac6a42f"
    assert key == f"sk-engine-{digest}"
    assert key != keys.engine_key(bytes(range(32)), "another", 1)
    assert key != keys.engine_key(bytes(range(32)), uid, 2)


STATES = {
    "a key": Held("sk-1", rotation=""),
    "a key of a rotation": Held("sk-1", rotation="2026"),
    "before a handover": Held("sk-1", upcoming="sk-2", upcoming_from=1795262403.0, rotation=""),
    "during an overlap": Held("sk-2", "sk-1", previous_until=1795348800.0, rotation="2026"),
}


@pytest.mark.parametrize("held", STATES.values(), ids=STATES)
def test_a_secret_says_all_of_a_rotation(held: Held) -> None:
    secret = keys.api_key_secret(parse_api_key(builders.api_key()), held)
    assert keys.read_held(secret) == held


def test_what_is_not_there_is_not_in_the_secret() -> None:
    secret = keys.api_key_secret(parse_api_key(builders.api_key()), Held("sk-1"))
    assert secret["data"].keys() == {"api-key"}
    assert secret["metadata"]["annotations"] == {names.ROTATION: ""}


@pytest.mark.parametrize("until", ["soon", ""])
def test_a_time_that_is_none_is_not_known(until: str) -> None:
    secret = builders.secret("ci-api-key", "team-a", {})
    secret["metadata"]["annotations"] = {names.PREVIOUS_UNTIL: until}
    assert keys.read_held(secret) == Held()


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_that_no_calendar_has_can_be_written_again(time: str) -> None:
    secret = builders.secret("ci-api-key", "team-a", {"previous-api-key": "eA=="})
    secret["metadata"]["annotations"] = {names.PREVIOUS_UNTIL: time}
    held = keys.read_held(secret)
    assert keys.read_held(keys.api_key_secret(parse_api_key(builders.api_key()), held)) == replace(
        held, rotation=""
    )


def test_the_white_space_around_a_key_is_not_part_of_it() -> None:
    text = base64.b64encode(b" sk-mine\n").decode()
    secret = builders.secret("ci-api-key", "team-a", {"api-key": text})
    assert keys.read_held(secret).current == "sk-mine"


def test_no_key_is_in_what_is_printed_of_them() -> None:
    assert "sk-" not in repr(Held("sk-1", "sk-2", upcoming="sk-3"))
    assert "x" * 9 not in repr(RootKey(b"x" * 32, b"x" * 32))


@pytest.mark.parametrize("root_key", [RootKey(b"x" * 32), RootKey(b"x" * 32, b"y" * 32)])
def test_a_root_key_can_be_read_back(root_key: RootKey) -> None:
    secret = keys.root_key_secret("ns", "root", root_key)
    assert keys.read_root_key(secret) == root_key


@pytest.mark.parametrize("data", [{}, {"root-key": ""}, {"root-key": "eA=="}, {"root-key": "%"}])
def test_a_root_key_that_is_none_is_refused_with_the_way_out(data: dict[str, str]) -> None:
    with pytest.raises(RootKeyError, match=r"ns/root: .* delete the Secret"):
        keys.read_root_key(builders.secret("root", "ns", data))
