"""Where an ApiKey stands: what its condition says, and when that changes by itself; pure.

``apikeys`` calls it, for a spec that was accepted. A message names times and Secrets, and no key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from endpoint_operator import keyring, names, rotation, status
from endpoint_operator.api import values
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.conditions import Finding, no, yes
from endpoint_operator.keyring import NOTHING, Entries, Keyring
from endpoint_operator.keys import Held


@dataclass(frozen=True)
class Standing:
    """An accepted ApiKey, its keys, and what gateways are told, ``now`` in seconds since 1970.

    ``adopted``: the Secret is the user's.
    """

    owner: ApiKey
    held: Held
    ring: Keyring
    now: float
    adopted: bool = False

    @property
    def due(self) -> Entries:
        """What the keyring should have of it."""
        suspended = self.owner.spec.suspended
        return NOTHING if suspended else keyring.entries(self.owner, self.held, self.now)

    @property
    def listed(self) -> Entries:
        """What the keyring has of it."""
        return self.ring.of(self.owner.namespace, self.owner.name)

    def next_change(self) -> float | None:
        """Return in how many seconds a time comes at which something is to be done."""
        expires, held = self.owner.spec.expires, self.held
        times = (
            0.0 if expires is None else expires,
            held.previous_until if held.previous else 0.0,
            held.upcoming_from if held.upcoming else 0.0,
        )
        future = [time - self.now for time in times if self.now < time < values.LATEST]
        return min(future, default=None)

    def finding(self) -> Finding:
        """Return what to say of it."""
        if not self.due:
            return self._at_rest()
        if self._in_use() <= self.listed:
            return yes(status.IN_FORCE, self._in_force())
        return self._not_yet()

    def _at_rest(self) -> Finding:
        spec = self.owner.spec
        if not all(entry.has_ended(self.now) for entry in self.listed):
            return no(
                status.PENDING,
                "The key is about to be taken from the gateway's list; until then it is accepted.",
            )
        if spec.suspended:
            return no(status.SUSPENDED, "spec.suspended is true: the gateway refuses the key.")
        message = f"The key ended at {spec.expires_at}; set a later spec.expiresAt, or none."
        return no(status.EXPIRED, message)

    def _in_use(self) -> Entries:
        return keyring.entries(self.owner, replace(self.held, upcoming=""), self.now)

    def _not_yet(self) -> Finding:
        if any(self.ring.is_of_another(entry) for entry in self.due):
            return no(
                status.KEY_IN_USE,
                "Another ApiKey has this very key: put another one into the Secret, since a key is"
                " one ApiKey's.",
            )
        if self.ring.has_room(self.due):
            return no(status.PENDING, "The key is about to be listed for the gateway.")
        kept = sorted({name for entry in self.listed for name in entry.endpoints})
        stays = f" It stays in force for endpoints {', '.join(kept)}." if kept else ""
        return no(
            status.KEYRING_FULL,
            "The gateway's keyring has no room for this key: delete ApiKeys that are not needed, or"
            f" name fewer endpoints (* is one).{stays}",
        )

    def _in_force(self) -> str:
        spec, secret = self.owner.spec, self.owner.secret_name
        until = f" until {spec.expires_at}" if spec.expires_at else ""
        return f"The key in Secret {secret} is in force{until}.{self._previous()}{self._next()}"

    def _previous(self) -> str:
        if not self.held.previous:
            return ""
        if self.adopted:
            return f" So is the one in {names.PREVIOUS_API_KEY_FIELD}."
        return f" The one before it is valid until {values.time_text(self.held.previous_until)}."

    def _next(self) -> str:
        wanted, held = self.owner.spec.rotation, self.held
        if wanted is None or wanted.id == held.rotation:
            return ""
        if self.adopted:
            return " spec.rotation does nothing here: the Secret is not the operator's to change."
        if rotation.waits(held, wanted):
            return f" Rotation {wanted.id} begins then."
        if self.due <= self.listed or self.ring.has_room(self.due):
            return f" The key of rotation {wanted.id} is about to take its place."
        return f" Rotation {wanted.id} waits: the gateway's keyring has no room for a second key."
