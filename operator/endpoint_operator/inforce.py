"""Which keys an ApiKey has, and what of them is to be in force; decides and writes nothing.

``apikeys`` and ``listing`` call it, so that what a condition says of a key and what the keyring
lists are one decision. A key in force stays so until its ApiKey is deleted, or its Secret
has another one (ADR 0007): a spec that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import inf

import orjson

from endpoint_operator import keyring, keys, names
from endpoint_operator.api import rules
from endpoint_operator.api.v1alpha1 import ApiKey, parse_api_key
from endpoint_operator.context import Context
from endpoint_operator.errors import InvalidObjectError, ScopeNotAllowedError
from endpoint_operator.keyring import NOTHING, Entries, Keyring
from endpoint_operator.keys import Held
from endpoint_operator.kinds import SECRET
from endpoint_operator.live import Live, Ref
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


@lru_cache(maxsize=1)  # each look at an ApiKey asks several times
def named_secret(live: Live) -> Ref:
    """Return the address of the Secret that an ApiKey names, also if its spec is refused."""
    given = live.object["spec"].get("secretName")
    usable = isinstance(given, str) and rules.OBJECT_NAME.holds(given)
    name = given if usable else names.api_key_secret_name(live.ref.name)
    return Ref(SECRET, live.ref.namespace, name)


@dataclass(frozen=True)
class View:
    """What is known of keys at one moment, ``now`` in seconds since 1970.

    ``asked`` is what the API server said of Secrets that are not in the cache, which has only those
    with our label: that anybody can take away.
    """

    context: Context
    ring: Keyring
    now: float
    asked: Mapping[Ref, Live | None] = field(default_factory=dict)

    def listed(self, live: Live) -> Entries:
        """Return what the keyring has of an ApiKey."""
        return self.ring.of(live.ref.namespace, live.ref.name)

    def held(self, live: Live) -> Held | None:
        """Return the keys of an ApiKey: those in the Secret of its ``secretName``, if it has any.

        Another name makes another Secret with the same keys: clients don't notice.
        """
        named = named_secret(live)
        found = sorted(self._secrets(live, named), key=lambda secret: secret.ref != named)
        readings = (self._read(live, secret) for secret in found)
        return next((held for held in readings if held.ends), None)

    def due(self, live: Live) -> Entries:
        """Return what the keyring should have of an ApiKey."""
        before, held = self.listed(live), self.held(live)
        if before and held is None and self.is_unseen(named_secret(live)):
            return before  # which is not gone
        try:
            owner = accepted(self.context, live)
        except (InvalidObjectError, ScopeNotAllowedError):
            return self._kept(before, held or Held())
        if held is None or owner.spec.suspended:
            return NOTHING
        return keyring.entries(owner, held, self.now)

    def secret(self, ref: Ref) -> Live | None:
        """Return a Secret, if it is known that there is one."""
        return self.context.cluster.get(ref) or self.asked.get(ref)

    def is_unseen(self, ref: Ref) -> bool:
        """Return whether nothing is known of a Secret, not even that there is none."""
        return self.secret(ref) is None and ref not in self.asked

    def is_ours(self, live: Live, secret: Live) -> bool:
        """Return whether we made a Secret for an ApiKey, which can have lost its reference to it.

        A reference is not enough but under the name that the spec gives: anybody who may write
        Secrets can write one.
        """
        is_named = secret.ref == named_secret(live)
        lost = is_named and secret.applied and secret.controller is None
        if lost:
            return not secret.endpoint and not self._is_of_another(live, secret)
        return live.controls(secret) and (secret.applied or is_named)

    def _is_of_another(self, live: Live, secret: Live) -> bool:
        """Return whether a key of a Secret is listed for another ApiKey."""
        me, owners = (live.ref.namespace, live.ref.name), self.ring.owners
        return any(
            owners.get(keys.digest(key), me) != me for key in keys.read_held(secret.object).ends
        )

    def _kept(self, before: Entries, held: Held) -> Entries:
        ends = {keys.digest(key): end for key, end in held.ends.items() if end > self.now}
        kept = (e.ending_by(ends[e.sha256]) for e in before if e.sha256 in ends)
        return frozenset(entry for entry in kept if not entry.has_ended(self.now))

    def _secrets(self, live: Live, named: Ref) -> Iterator[Live]:
        owned = [known for known in self.context.cluster.owned_by(live) if known.ref.kind == SECRET]
        yield from owned
        by_name = self.secret(named)
        if by_name is not None and named not in {known.ref for known in owned}:
            yield by_name

    def _read(self, live: Live, secret: Live) -> Held:
        """Return the keys of a Secret, as far as they are the ApiKey's."""
        held = keys.read_held(secret.object)
        if secret.ref == named_secret(live) and is_adopted(secret):
            return Held(held.current, held.previous)
        ends = {entry.sha256: entry.expires for entry in self.listed(live)}
        if not self.is_ours(live, secret):
            return held.only(ends)
        if held.previous_until == inf:  # somebody took the annotation away
            return replace(held, previous_until=ends.get(keys.digest(held.previous), 0))
        return held


def is_adopted(secret: Live) -> bool:
    """Return whether a Secret is somebody's who put our label on it: it is read, never written."""
    ours = secret.controller is not None and secret.controller.group == names.GROUP
    labels = secret.object["metadata"].get("labels", {})
    return not ours and not secret.applied and labels.get(names.MANAGED_BY) == names.MANAGER


def view(context: Context) -> View:
    """Return what is known now."""
    ring = ring_of(context.cluster.get(keyring_ref(context.settings)))
    return View(context, ring, context.clock())


def ring_of(live: Live | None) -> Keyring:
    """Return what a keyring's Secret lists."""
    return _ring(live.wanted) if live else Keyring()


def keyring_ref(settings: Settings) -> Ref:
    """Return the address of the keyring's Secret."""
    return Ref(SECRET, settings.release_namespace, settings.keyring_secret)


@lru_cache(maxsize=2)
def _ring(text: bytes) -> Keyring:
    """Parse a keyring once: every ApiKey looks itself up in it, and there may be thousands."""
    return keyring.read_keyring(orjson.loads(text))
