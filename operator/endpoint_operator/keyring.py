"""Keys: made, derived, and listed for the gateway. Pure but for the randomness it is handed.

``apikeys``, ``inforce`` and ``reconcile`` call it. The gateway computes the engine's key by the
same rule and reads the keyring in the same form; contract tests compare the two. Plain keys appear
in the Secrets that are made here and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from endpoint_operator import names
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.errors import RootKeyError

Object = dict[str, Any]

KEY_BYTES: Final = 32
EVERYTHING: Final = "*/*"
VERSION: Final = 1

LARGEST_BYTES: Final = 900 * 1024
"""How long the keyring's text may get: the API server refuses a Secret of more than 1 MiB, and
with it every later change, also a revocation."""

_KEPT_PARSED: Final = 4


@dataclass(frozen=True, order=True)
class Entry:
    """A key that the gateway accepts: its digest, whose it is, and where it may be used."""

    namespace: str
    name: str
    sha256: str
    endpoints: tuple[str, ...]

    @property
    def owner(self) -> tuple[str, str]:
        """Namespace and name of the ApiKey, which has one entry."""
        return self.namespace, self.name

    def is_of(self, key: str) -> bool:
        """Return whether this is the digest of a key."""
        return self.sha256 == digest(key)


def engine_key(root_key: bytes, uid: str, generation: int) -> str:
    """Return the key of an endpoint's engines; another generation has another one."""
    text = f"engine-key/{uid}/{generation}"
    return "sk-engine-" + hmac.new(root_key, text.encode(), hashlib.sha256).hexdigest()


def api_key(entropy: bytes) -> str:
    """Return the text of a key for clients, from 32 random bytes."""
    return "sk-" + base64.urlsafe_b64encode(entropy).decode().rstrip("=")


def digest(key: str) -> str:
    """Return the SHA-256 of a key, by which the gateway knows it."""
    return hashlib.sha256(key.encode()).hexdigest()


def entry(owner: ApiKey, key: str) -> Entry:
    """Return what the gateway needs to know about a key."""
    return Entry(owner.namespace, owner.name, digest(key), tuple(owner.spec.endpoints))


def may_have_scope(owner: ApiKey, release_namespace: str) -> bool:
    """Return whether an ApiKey may have the scope it asks for."""
    return EVERYTHING not in owner.spec.endpoints or owner.namespace == release_namespace


def keyring_secret(namespace: str, name: str, entries: Iterable[Entry]) -> Object:
    """Return the Secret that tells the gateway which keys it accepts; sorted, so stable."""
    keys = [_as_json(known) for known in sorted(entries)]
    text = orjson.dumps({"version": VERSION, "keys": keys}).decode()
    return _secret(namespace, name, {names.KEYRING_FIELD: text})


def read_keyring(secret: Object | None) -> frozenset[Entry]:
    """Return the entries of a keyring Secret; none where it is missing or damaged."""
    return frozenset(_by_owner(secret).values())


def listed(secret: Object | None, namespace: str, name: str) -> Entry | None:
    """Return the entry that a keyring Secret has for an ApiKey."""
    return _by_owner(secret).get((namespace, name))


def fitting(wanted: Iterable[Entry], before: Iterable[Entry]) -> set[Entry]:
    """Return the entries of a keyring that is not longer than allowed.

    Where it would be, what is removed or narrowed counts; then those that are in it already come
    before new ones, and one whose scope no longer fits keeps the scope it has.
    """
    every = {new.owner: new for new in wanted}
    room = LARGEST_BYTES - _EMPTY_BYTES
    if sum(map(_size, every.values())) <= room:
        return set(every.values())
    known = {old.owner: old for old in before if old.owner in every}
    fits = {o: old for o, old in known.items() if old.sha256 == every[o].sha256}
    room -= sum(map(_size, fits.values()))

    def rank(new: Entry) -> tuple[bool, int, Entry]:
        return new.owner not in known, _growth(known.get(new.owner, new), new), new

    for new in sorted(every.values(), key=rank):
        growth = _growth(fits.get(new.owner), new)
        if growth <= max(room, 0):
            fits[new.owner] = new
            room -= growth
    return set(fits.values())


def has_room(secret: Object | None, new: Entry) -> bool:
    """Return whether an entry fits into a keyring beside what is in it."""
    text = _text(secret)
    length = len(text) // 4 * 3 - text[-2:].count("=")
    return _growth(listed(secret, *new.owner), new) <= max(LARGEST_BYTES - length, 0)


def api_key_secret(owner: ApiKey, key: str) -> Object:
    """Return the Secret that holds the key of an ApiKey, and is deleted with it."""
    secret = _secret(owner.namespace, owner.secret_name, {names.API_KEY_FIELD: key})
    reference = names.owner_reference("ApiKey", owner.name, owner.uid)
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


def _as_json(known: Entry) -> Object:
    return {
        "sha256": known.sha256,
        "namespace": known.namespace,
        "name": known.name,
        "endpoints": list(known.endpoints),
    }


def _size(known: Entry) -> int:
    return len(orjson.dumps(_as_json(known))) + 1  # the comma


_EMPTY_BYTES: Final = len(orjson.dumps({"version": VERSION, "keys": []}))


def _growth(old: Entry | None, new: Entry) -> int:
    return _size(new) - (_size(old) if old else 0)


def _by_owner(secret: Object | None) -> Mapping[tuple[str, str], Entry]:
    return _parsed(_text(secret))


def _text(secret: Object | None) -> str:
    """Return a keyring's text as the Secret has it: in base 64."""
    return str(((secret or {}).get("data") or {}).get(names.KEYRING_FIELD, ""))


@lru_cache(maxsize=_KEPT_PARSED)
def _parsed(encoded: str) -> Mapping[tuple[str, str], Entry]:
    """Parse a keyring once: every ApiKey looks itself up in it, and there may be thousands."""
    try:
        keys = [_as_entry(key) for key in orjson.loads(base64.b64decode(encoded))["keys"]]
    except (ValueError, KeyError, TypeError):
        keys = []  # it is written anew
    return {known.owner: known for known in keys}


def _as_entry(key: Object) -> Entry:
    return Entry(key["namespace"], key["name"], key["sha256"], tuple(key["endpoints"]))


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
