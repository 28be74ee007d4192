"""Keys: made, derived, and listed for the gateway. Pure but for the randomness it is handed.

``apikeys`` and ``reconcile`` call it. The gateway computes the engine's key by the same rule and
reads the keyring in the same form; contract tests compare the two. Plain keys appear in the
Secrets that are made here and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.errors import RootKeyError

Object = dict[str, Any]

KEY_BYTES: Final = 32
EVERYTHING: Final = "*/*"
VERSION: Final = 1


@dataclass(frozen=True, order=True)
class Entry:
    """A key that the gateway accepts: its digest, whose it is, and where it may be used."""

    namespace: str
    name: str
    sha256: str
    endpoints: tuple[str, ...]


def engine_key(root_key: bytes, uid: str) -> str:
    """Return the key of an endpoint's engine; the 1 is the generation of that key."""
    text = f"engine-key/{uid}/1"
    return "sk-engine-" + hmac.new(root_key, text.encode(), hashlib.sha256).hexdigest()


def api_key(entropy: bytes) -> str:
    """Return the text of a key for clients, from 32 random bytes."""
    return "sk-" + base64.urlsafe_b64encode(entropy).decode().rstrip("=")


def entry(owner: ApiKey, key: str) -> Entry:
    """Return what the gateway needs to know about a key."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Entry(owner.namespace, owner.name, digest, tuple(owner.spec.endpoints))


def may_have_scope(owner: ApiKey, release_namespace: str) -> bool:
    """Return whether an ApiKey may have the scope it asks for."""
    return EVERYTHING not in owner.spec.endpoints or owner.namespace == release_namespace


def keyring_secret(namespace: str, name: str, entries: Iterable[Entry]) -> Object:
    """Return the Secret that tells the gateway which keys it accepts; sorted, so stable."""
    keys = [
        {
            "sha256": known.sha256,
            "namespace": known.namespace,
            "name": known.name,
            "endpoints": list(known.endpoints),
        }
        for known in sorted(entries)
    ]
    text = orjson.dumps({"version": VERSION, "keys": keys}).decode()
    return _secret(namespace, name, {names.KEYRING_FIELD: text})


def read_keyring(secret: Object | None) -> set[Entry]:
    """Return the entries of a keyring Secret; none where it is missing or damaged."""
    try:
        keys = orjson.loads(read_field(secret, names.KEYRING_FIELD))["keys"]
        return {
            Entry(key["namespace"], key["name"], key["sha256"], tuple(key["endpoints"]))
            for key in keys
        }
    except (ValueError, KeyError, TypeError):
        return set()  # it is written anew


def api_key_secret(owner: ApiKey, key: str) -> Object:
    """Return the Secret that holds the key of an ApiKey, and is deleted with it."""
    secret = _secret(owner.namespace, owner.secret_name, {names.API_KEY_FIELD: key})
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": "ApiKey",
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
    }
    return secret | {"metadata": secret["metadata"] | {"ownerReferences": [reference]}}


def root_key_secret(namespace: str, name: str, entropy: bytes) -> Object:
    """Return the Secret with a new root key, from 32 random bytes."""
    text = base64.b64encode(entropy).decode()
    return _secret(namespace, name, {}) | {"data": {names.ROOT_KEY_FIELD: text}}


def read_root_key(secret: Object) -> bytes:
    """Return the root key. Raises RootKeyError if the Secret has no usable one."""
    try:
        key = base64.b64decode(secret["data"][names.ROOT_KEY_FIELD], validate=True)
    except (KeyError, TypeError, binascii.Error):
        key = b""
    if len(key) < KEY_BYTES:
        where = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
        raise RootKeyError(
            f"Secret {where}: data.{names.ROOT_KEY_FIELD} must hold {KEY_BYTES} random bytes;"
            " restore it from a backup, or delete the Secret: a new key is made at the next start"
            " and every engine restarts with it"
        )
    return key


def read_field(secret: Object | None, field: str) -> str:
    """Return a field of a Secret as text; empty where it is missing or no text."""
    try:
        return base64.b64decode((secret or {})["data"][field]).decode()
    except (KeyError, TypeError, ValueError):
        return ""


def _secret(namespace: str, name: str, texts: dict[str, str]) -> Object:
    data = {field: base64.b64encode(text.encode()).decode() for field, text in texts.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.MANAGER},
        },
        "type": "Opaque",
        "data": data,
    }
