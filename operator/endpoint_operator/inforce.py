"""Which key an ApiKey has, and what of it is to be in force; decides and writes nothing.

``apikeys`` calls it in both of its stories, so that what a condition says of a key and what the
keyring lists are one decision. A key in force stays so until its ApiKey is deleted or its Secret
has another one (ADR 0007): a spec that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from endpoint_operator import keyring, names
from endpoint_operator.api import rules
from endpoint_operator.api.v1alpha1 import ApiKey, parse_api_key
from endpoint_operator.cache import Live, Object, Ref
from endpoint_operator.cluster import SECRET
from endpoint_operator.context import Context
from endpoint_operator.errors import InvalidObjectError, ScopeNotAllowedError
from endpoint_operator.settings import Settings


def accepted(context: Context, live: Live) -> ApiKey:
    """Return an ApiKey. Raises InvalidObjectError and ScopeNotAllowedError."""
    owner = parse_api_key(live.object)
    namespace = context.settings.release_namespace
    if not keyring.may_have_scope(owner, namespace):
        raise ScopeNotAllowedError(
            f"spec.endpoints: */* is for ApiKeys in namespace {namespace} only; use * for every"
            " endpoint of this namespace"
        )
    return owner


def named_secret(live: Live) -> Ref:
    """Return the address of the Secret that an ApiKey names, also if its spec is refused."""
    given = live.object["spec"].get("secretName")
    usable = isinstance(given, str) and rules.OBJECT_NAME.holds(given)
    name = given if usable else names.api_key_secret_name(live.ref.name)
    return Ref(SECRET, live.ref.namespace, name)


@dataclass(frozen=True)
class View:
    """What is known of keys at one moment.

    ``ring`` is the keyring's Secret. ``asked`` is what the API server said of Secrets that are not
    in the cache, which has only those with our label: that anybody can take away.
    """

    context: Context
    ring: Object | None
    asked: Mapping[Ref, Live | None] = field(default_factory=dict)

    def listed(self, live: Live) -> keyring.Entry | None:
        """Return what the keyring has of an ApiKey."""
        return keyring.listed(self.ring, live.ref.namespace, live.ref.name)

    def keys(self, live: Live) -> list[str]:
        """Return the keys in the Secrets of an ApiKey, the one of its ``secretName`` first.

        Another name makes another Secret with the same key: clients don't notice.
        """
        named = named_secret(live)
        found = sorted(self._secrets(live), key=lambda secret: secret.ref != named)
        return [_key(secret) for secret in found if self._is_trusted(live, secret)]

    def due(self, live: Live) -> keyring.Entry | None:
        """Return what the keyring should have of an ApiKey, if anything."""
        before, keys = self.listed(live), self.keys(live)
        if before and not keys and self._is_unseen(live):
            return before  # which is not gone
        try:
            owner = accepted(self.context, live)
        except (InvalidObjectError, ScopeNotAllowedError):
            return before if before and any(map(before.is_of, keys)) else None
        return keyring.entry(owner, keys[0]) if keys else None

    def unowned(self, live: Live) -> set[Ref]:
        """Return the Secret that has lost its owner, if it holds the key that is in force."""
        secret, before = self._named(live), self.listed(live)
        lost = secret is not None and secret.controller is None
        return {secret.ref} if secret and lost and before and before.is_of(_key(secret)) else set()

    def _is_unseen(self, live: Live) -> bool:
        return self._named(live) is None and named_secret(live) not in self.asked

    def _named(self, live: Live) -> Live | None:
        named = named_secret(live)
        return self.context.cluster.get(named) or self.asked.get(named)

    def _secrets(self, live: Live) -> Iterator[Live]:
        owned = [known for known in self.context.cluster.owned_by(live) if known.ref.kind == SECRET]
        yield from owned
        named = self._named(live)
        if named is not None and named.ref not in {known.ref for known in owned}:
            yield named

    def _is_trusted(self, live: Live, secret: Live) -> bool:
        """Return whether a Secret says what an ApiKey's key is.

        A reference to the owner is not enough but under the name that the spec gives: anybody who
        may write Secrets can write one.
        """
        key, before = _key(secret), self.listed(live)
        if before and before.is_of(key):
            return True
        ours = secret.applied or secret.ref == named_secret(live)
        return bool(key) and ours and live.controls(secret)


def view(context: Context, asked: Mapping[Ref, Live | None] | None = None) -> View:
    """Return what is known now."""
    ring = context.cluster.get(keyring_ref(context.settings))
    return View(context, ring.object if ring else None, asked or {})


def keyring_ref(settings: Settings) -> Ref:
    """Return the address of the keyring's Secret."""
    return Ref(SECRET, settings.release_namespace, settings.keyring_secret)


def _key(secret: Live) -> str:
    return keyring.read_field(secret.object, names.API_KEY_FIELD)
