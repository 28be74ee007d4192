"""Keys: made, derived, and kept in Secrets. Pure but for the randomness it is handed.

``keyring`` and ``rotation`` build on it, the stories of keys and ``reconcile`` call it. The gateway
computes an engine's key by the same rule; a contract test compares the two. Plain keys appear in
the Secrets that are made here and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Container
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final

from endpoint_operator import names
from endpoint_operator.api import values
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.errors import RootKeyError

Object = dict[str, Any]

KEY_BYTES: Final = 32

_PASSING: Final = {
    names.PREVIOUS_API_KEY_FIELD,
    names.PREVIOUS_UNTIL,
    names.NEXT_API_KEY_FIELD,
    names.NEXT_FROM,
}
"""What is in a Secret only while a rotation is under way."""


@dataclass(frozen=True)
class Held:
    """The keys in the Secret of an ApiKey, and how far a rotation of them is; empty is none.

    ``current`` is the one that clients are given. ``previous`` is the one before it, which ends at
    ``previous_until``; ``upcoming`` the one after it, which takes its place at ``upcoming_from``,
    or later: that is set once it is listed. ``rotation`` is the id that ``current`` was made for,
    None where nothing says it. Times are in seconds since 1970.
    """

    current: str = field(default="", repr=False)
    previous: str = field(default="", repr=False)
    previous_until: float = inf
    upcoming: str = field(default="", repr=False)
    upcoming_from: float = inf
    rotation: str | None = None

    @property
    def ends(self) -> dict[str, float]:
        """The keys that there are, and when each ends at the latest."""
        found = {self.previous: self.previous_until, self.upcoming: inf, self.current: inf}
        return {key: end for key, end in found.items() if key}

    def only(self, digests: Container[str]) -> Held:
        """Return this without the keys that have other digests."""

        def kept(key: str) -> str:
            return key if digest(key) in digests else ""

        return replace(
            self,
            current=kept(self.current),
            previous=kept(self.previous),
            upcoming=kept(self.upcoming),
        )


@dataclass(frozen=True)
class RootKey:
    """The key from which those of engines derive, and the one before it while they change."""

    newest: bytes = field(repr=False)
    before: bytes = field(default=b"", repr=False)


def engine_key(root_key: bytes, uid: str, generation: int) -> str:
    """Return the key of an endpoint's engines; another generation has another one."""
    text = f"engine-key/{uid}/{generation}"
    return "sk-engine-" + hmac.digest(root_key, text.encode(), "sha256").hex()


def api_key(entropy: bytes) -> str:
    """Return the text of a key for clients, from 32 random bytes."""
    return "sk-" + base64.urlsafe_b64encode(entropy).decode().rstrip("=")


def digest(key: str) -> str:
    """Return the SHA-256 of a key, by which the gateway knows it."""
    return hashlib.sha256(key.encode()).hexdigest()


def api_key_secret(owner: ApiKey, held: Held) -> Object:
    """Return the Secret that holds the keys of an ApiKey, and is deleted with it."""
    texts = {
        names.API_KEY_FIELD: held.current,
        names.PREVIOUS_API_KEY_FIELD: held.previous,
        names.NEXT_API_KEY_FIELD: held.upcoming,
    }
    annotations = {
        names.ROTATION: held.rotation or "",
        names.PREVIOUS_UNTIL: _text(held.previous_until) if held.previous else None,
        names.NEXT_FROM: _text(held.upcoming_from) if held.upcoming else None,
    }
    secret = secret_of(owner.namespace, owner.secret_name, {k: v for k, v in texts.items() if v})
    secret["metadata"] |= {
        "annotations": {name: text for name, text in annotations.items() if text is not None},
        "ownerReferences": [names.owner_reference("ApiKey", owner.name, owner.uid)],
    }
    return secret


def read_held(secret: Object) -> Held:
    """Return the keys in a Secret, as far as it has some."""
    annotations = secret["metadata"].get("annotations", {})
    return Held(
        current=read_field(secret, names.API_KEY_FIELD),
        previous=read_field(secret, names.PREVIOUS_API_KEY_FIELD),
        previous_until=_time(annotations.get(names.PREVIOUS_UNTIL)),
        upcoming=read_field(secret, names.NEXT_API_KEY_FIELD),
        upcoming_from=_time(annotations.get(names.NEXT_FROM)),
        rotation=annotations.get(names.ROTATION),
    )


def leftovers(seen: Object, wanted: Object) -> set[str]:
    """Return the fields and annotations of a rotation that a Secret should no longer have."""
    return _of_a_rotation(seen) - _of_a_rotation(wanted)


def _of_a_rotation(secret: Object) -> set[str]:
    return _PASSING & {*secret.get("data", {}), *secret["metadata"].get("annotations", {})}


def root_key_secret(namespace: str, name: str, root_key: RootKey) -> Object:
    """Return the Secret with a root key, and with the one before it if there is one."""
    fields = {names.ROOT_KEY_FIELD: root_key.newest, names.PREVIOUS_ROOT_KEY_FIELD: root_key.before}
    data = {name: base64.b64encode(key).decode() for name, key in fields.items() if key}
    return secret_of(namespace, name, {}) | {"data": data}


def read_root_key(secret: Object) -> RootKey:
    """Return the root key. Raises RootKeyError if the Secret has no usable one.

    A key before it that is not usable is none; the gateway reads both by the same rule.
    """
    data = secret.get("data") or {}
    newest = _root_key(data.get(names.ROOT_KEY_FIELD))
    if not newest:
        where = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
        raise RootKeyError(
            f"Secret {where}: data.{names.ROOT_KEY_FIELD} must hold {KEY_BYTES} random bytes;"
            " restore it from a backup, or delete the Secret: a new key is made at the next start"
            " and every engine restarts with it"
        )
    return RootKey(newest, _root_key(data.get(names.PREVIOUS_ROOT_KEY_FIELD)))


def read_field(secret: Object | None, name: str) -> str:
    """Return a field of a Secret as text; empty where it is missing or no text.

    Without the white space around it: no client can send that.
    """
    try:
        return base64.b64decode((secret or {})["data"][name]).decode().strip()
    except (KeyError, TypeError, ValueError):
        return ""


def secret_of(namespace: str, name: str, texts: dict[str, str]) -> Object:
    """Return a Secret of ours with these fields."""
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


def _root_key(text: Any) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return b""
    return key if len(key) >= KEY_BYTES else b""


def _time(text: str | None) -> float:
    try:
        return values.since_1970(text) if text else inf
    except ValueError:
        return inf


def _text(time: float) -> str | None:
    return None if time == inf else values.time_text(time)
