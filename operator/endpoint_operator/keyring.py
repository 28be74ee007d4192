"""The keyring: what the gateway is told of every key that it is to accept. Pure.

``listing``, ``inforce`` and ``standing`` call it. The gateway reads the document in the same form,
as a contract test shows. It has digests of keys and no key.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any, Final, NamedTuple

import orjson

from endpoint_operator import names
from endpoint_operator.api import values
from endpoint_operator.api.access import LimitsSpec
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.keys import Held, digest, secret_of

Object = dict[str, Any]
Identity = tuple[str, str]

EVERYTHING: Final = "*/*"
VERSION: Final = 1

LARGEST_BYTES: Final = 900 * 1024
"""How long the keyring's text may get: the API server refuses a Secret of more than 1 MiB, and
with it every later change, also a revocation."""

NEVER: Final = 0
UNLIMITED: Final = 0


class Limits(NamedTuple):
    """How much may be asked for with the keys of one ApiKey; UNLIMITED is what is not set."""

    requests_per_minute: int = UNLIMITED
    tokens_per_minute: int = UNLIMITED
    max_in_flight: int = UNLIMITED


NO_LIMITS: Final = Limits()
_LIMITS: Final = ("requestsPerMinute", "tokensPerMinute", "maxInFlight")


@dataclass(frozen=True, order=True)
class Entry:
    """A key that the gateway accepts: its digest, whose it is, where, how long and how much.

    ``expires`` is in seconds since 1970, or NEVER. All keys of an ApiKey share its ``limits``.
    """

    namespace: str
    name: str
    sha256: str
    endpoints: tuple[str, ...]
    expires: int = NEVER
    limits: Limits = NO_LIMITS

    @property
    def owner(self) -> Identity:
        """Namespace and name of the ApiKey."""
        return self.namespace, self.name

    def ending_by(self, until: float) -> Entry:
        """Return it with this end, if it has no earlier one."""
        end = min(self.expires or inf, until)
        return replace(self, expires=NEVER if end == inf else int(end))

    def has_ended(self, now: float) -> bool:
        """Return whether its time is over."""
        return NEVER != self.expires <= now


Entries = frozenset[Entry]
NOTHING: Final[Entries] = frozenset()


@dataclass(frozen=True)
class Keyring:
    """What a keyring's Secret lists, by ApiKey."""

    by_owner: Mapping[Identity, Entries] = field(default_factory=dict)

    def of(self, namespace: str, name: str) -> Entries:
        """Return the entries of an ApiKey."""
        return self.by_owner.get((namespace, name), NOTHING)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for entries in self.by_owner.values() for entry in entries)

    @cached_property
    def owners(self) -> Mapping[str, Identity]:
        """Whose each digest is."""
        return {entry.sha256: entry.owner for entry in self}

    @cached_property
    def size(self) -> int:
        """How much of LARGEST_BYTES is taken."""
        return _EMPTY_BYTES + _size(self)

    def is_of_another(self, new: Entry) -> bool:
        """Return whether a key is listed for another ApiKey."""
        return self.owners.get(new.sha256, new.owner) != new.owner

    def has_room(self, new: Entries) -> bool:
        """Return whether the entries of one ApiKey fit in beside what others have."""
        growth = _size(new) - _size({old for entry in new for old in self.of(*entry.owner)})
        return growth <= max(LARGEST_BYTES - self.size, 0)


def entries(owner: ApiKey, held: Held, now: float) -> Entries:
    """Return what the gateway is to know of an ApiKey with these keys."""
    end = inf if owner.spec.expires is None else owner.spec.expires
    scope, limits = tuple(owner.spec.endpoints), _limits(owner.spec.limits)
    return frozenset(
        Entry(owner.namespace, owner.name, digest(key), scope, limits=limits).ending_by(
            min(end, until)
        )
        for key, until in held.ends.items()
        if min(end, until) > now
    )


def may_have_scope(owner: ApiKey, release_namespace: str) -> bool:
    """Return whether an ApiKey may have the scope it asks for."""
    return EVERYTHING not in owner.spec.endpoints or owner.namespace == release_namespace


def keyring_secret(namespace: str, name: str, listed: Iterable[Entry]) -> Object:
    """Return the Secret that tells the gateway which keys it accepts; sorted, so stable."""
    keys = [_as_json(known) for known in sorted(listed)]
    text = orjson.dumps({"version": VERSION, "keys": keys}).decode()
    return secret_of(namespace, name, {names.KEYRING_FIELD: text})


def read_keyring(secret: Object | None) -> Keyring:
    """Return what a keyring's Secret lists; nothing where it is missing or damaged."""
    try:
        content = orjson.loads(base64.b64decode((secret or {})["data"][names.KEYRING_FIELD]))
        listed = content["keys"] if content["version"] == VERSION else ()
        return Keyring(_by_owner(map(_as_entry, listed)))
    except (ValueError, KeyError, TypeError):
        return Keyring()  # it is written anew


def undisputed(wanted: Collection[Entry], before: Keyring) -> set[Entry]:
    """Return the entries whose key is no other ApiKey's.

    A key that two hold, which can be one that was given and not made, is of the one for which it is
    listed already: nobody takes it away who learns it.
    """
    listed = {new for new in wanted if before.owners.get(new.sha256) == new.owner}
    owners: dict[str, Identity] = {}
    for new in [*sorted(listed), *sorted(set(wanted) - listed)]:
        owners.setdefault(new.sha256, new.owner)
    return {new for new in wanted if owners[new.sha256] == new.owner}


def fitting(wanted: Iterable[Entry], before: Iterable[Entry]) -> set[Entry]:
    """Return the entries of a keyring that is not longer than allowed.

    Where it would be, what is removed or narrowed counts; then ApiKeys that are in it already come
    before new ones, and one whose change does not fit keeps the keys that it has.
    """
    every = _by_owner(wanted)
    room = LARGEST_BYTES - _EMPTY_BYTES
    if sum(map(_size, every.values())) <= room:
        return {entry for new in every.values() for entry in new}
    known = {owner: old for owner, old in _by_owner(before).items() if owner in every}
    fits = {owner: _still_wanted(old, every[owner]) for owner, old in known.items()}
    room -= sum(map(_size, fits.values()))

    def rank(owner: Identity) -> tuple[bool, int, Identity]:
        return owner not in known, _size(every[owner]) - _size(known.get(owner, NOTHING)), owner

    for owner in sorted(every, key=rank):
        growth = _size(every[owner]) - _size(fits.get(owner, NOTHING))
        if growth <= max(room, 0):
            fits[owner] = every[owner]
            room -= growth
    return {entry for kept in fits.values() for entry in kept}


def _still_wanted(old: Entries, new: Entries) -> Entries:
    """Return what takes no more room: the keys that stay, with their end, narrowed if they are."""
    known = {entry.sha256: entry for entry in old}
    stays = frozenset(entry for entry in new if entry.sha256 in known)
    before = frozenset(replace(known[entry.sha256], expires=entry.expires) for entry in stays)
    return min(stays, before, key=_size)


def _as_json(known: Entry) -> Object:
    end = {} if known.expires == NEVER else {"expires": known.expires}
    limits = {key: limit for key, limit in zip(_LIMITS, known.limits, strict=True) if limit}
    return {
        "sha256": known.sha256,
        "namespace": known.namespace,
        "name": known.name,
        "endpoints": list(known.endpoints),
        **end,
        **({"limits": limits} if limits else {}),
    }


def _as_entry(key: Object) -> Entry:
    texts = (key["namespace"], key["name"], key["sha256"])
    scope, end = tuple(key["endpoints"]), key.get("expires", NEVER)
    given = dict(key.get("limits", {}))
    limits = Limits(*(given.get(limit, UNLIMITED) for limit in _LIMITS))
    of_text = all(isinstance(text, str) for text in (*texts, *scope))
    if not of_text or not all(isinstance(number, int) for number in (end, *limits)):
        raise TypeError("not as we write it")
    return Entry(*texts, scope, end, limits)


def _limits(given: LimitsSpec) -> Limits:
    return Limits(
        given.requests_per_minute or UNLIMITED,
        given.tokens_per_minute or UNLIMITED,
        given.max_in_flight or UNLIMITED,
    )


_EMPTY_BYTES: Final = len(orjson.dumps({"version": VERSION, "keys": []}))


def _size(listed: Iterable[Entry]) -> int:
    """Return the room that entries take: with an end each, so that one can always be given."""
    return sum(len(orjson.dumps(_as_json(replace(e, expires=values.LATEST)))) + 1 for e in listed)


def _by_owner(listed: Iterable[Entry]) -> dict[Identity, Entries]:
    found = defaultdict(set)
    for entry in listed:
        found[entry.owner].add(entry)
    return {owner: frozenset(entries) for owner, entries in found.items()}
