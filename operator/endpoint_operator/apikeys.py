"""The story of an ApiKey: validate, make its Secret, list it in the keyring, status.

``controller`` calls both functions, and only after every ApiKey and Secret has been listed: a
keyring that is written from half of them would revoke the other half. The keyring is written as a
whole; many keys that change at once cost one write. What is in force is for ``inforce`` to say.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from endpoint_operator import inforce, keyring, status
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.cache import Live, Ref
from endpoint_operator.children import converge
from endpoint_operator.cluster import API_KEY
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.errors import (
    InvalidObjectError,
    NameTakenError,
    OwnerGoneError,
    ScopeNotAllowedError,
)
from kube_api import Forbidden, Invalid

logger = logging.getLogger(__name__)

KEYRING = Ref("Keyring")
"""The queue's key for the keyring as a whole."""

LOOK_AGAIN: Final = Outcome(again_after=30.0)
"""For what stands in the way and is not watched."""

_NEXT: Final = {
    status.PENDING: Outcome(then=(KEYRING,)),
    status.KEYRING_FULL: Outcome(then=(KEYRING,)),
    status.NAME_CONFLICT: LOOK_AGAIN,
    status.REFUSED_BY_CLUSTER: LOOK_AGAIN,
}
"""What is left to be done for an ApiKey, by the reason of its condition."""

_REFUSALS: Final = (InvalidObjectError, ScopeNotAllowedError, NameTakenError, Invalid, Forbidden)
_REASONS: Final = {
    InvalidObjectError: status.INVALID_SPEC,
    ScopeNotAllowedError: status.SCOPE_NOT_ALLOWED,
    NameTakenError: status.NAME_CONFLICT,
}
"""Why an ApiKey's spec is not in force, by what was raised; the rest is the API server's word."""


async def reconcile_api_key(context: Context, ref: Ref) -> Outcome:
    """Bring an ApiKey's Secret and status to what its spec says. Raises ApiErrors."""
    live = context.cluster.get(ref)
    if live is None or live.deleting:
        return DONE
    try:
        finding = await _enforce(context, live)
    except OwnerGoneError:
        return DONE
    body = live.object
    computed = status.api_key_status(body, finding, context.now())
    if changed := status.changes(body, computed):
        await context.cluster.write_status(live, changed)
    return _NEXT.get(finding.reason, DONE)


async def reconcile_keyring(context: Context, ref: Ref) -> Outcome:  # noqa: ARG001 - there is one
    """Write the keyring if it differs; the ApiKeys that came or went have their status renewed.

    Raises ApiErrors, with nothing written: a Secret that can't be read revokes nobody.
    """
    at = inforce.keyring_ref(context.settings)
    seen = context.cluster.get(at)
    live = seen or await context.cluster.read(at)
    if live is not None and live.controller is not None:
        logger.error(
            "%s belongs to %s and is not written: no key comes or goes", at, live.controller
        )
        return LOOK_AGAIN
    due = await _due(context, live)
    before = keyring.read_keyring(live.object if live else None)
    wanted = keyring.fitting(due, before)
    secret = keyring.keyring_secret(at.namespace, at.name, wanted)
    if seen is not None and covers(seen.object, secret):
        return DONE
    await context.cluster.apply(secret, over=live)
    known = keyring.read_keyring(seen.object if seen else None)
    return Outcome(
        then=tuple(sorted({_api_key(entry) for entry in (due ^ wanted) | (wanted ^ known)}))
    )


async def _due(context: Context, ring: Live | None) -> set[keyring.Entry]:
    """Return an entry for every key that should be in force.

    Those that are, and whose Secret is not in the cache, are asked for first.
    """
    cluster, before = context.cluster, inforce.View(context, ring.object if ring else None)
    named = ((live, inforce.named_secret(live)) for live in cluster.of_kind(API_KEY))
    unseen = [
        secret
        for live, secret in named
        if cluster.get(secret) is None and before.listed(live) and not before.keys(live)
    ]
    asked = dict(zip(unseen, await asyncio.gather(*map(cluster.read, unseen)), strict=True))
    view = inforce.View(context, before.ring, asked)
    held = (view.due(live) for live in cluster.of_kind(API_KEY) if not live.deleting)
    return {entry for entry in held if entry is not None}


def _api_key(entry: keyring.Entry) -> Ref:
    return Ref(API_KEY, entry.namespace, entry.name)


async def _enforce(context: Context, live: Live) -> status.Finding:
    try:
        owner = inforce.accepted(context, live)
        _require_a_name_of_its_own(context, owner)
        key = await _make_secret(context, live, owner)
    except _REFUSALS as error:
        return _refusal(context, live, error)
    return _listing(context, live, keyring.entry(owner, key))


def _refusal(context: Context, live: Live, error: Exception) -> status.Finding:
    """Say why a spec is not in force, and that what was in force before still is."""
    reason = _REASONS.get(type(error), status.REFUSED_BY_CLUSTER)
    view = inforce.view(context)
    due = view.due(live) if view.listed(live) else None
    kept = f". The key stays in force, for endpoints {', '.join(due.endpoints)}" if due else ""
    return status.no(reason, f"{error}{kept}")


def _require_a_name_of_its_own(context: Context, owner: ApiKey) -> None:
    settings = context.settings
    ours = {settings.keyring_secret, settings.root_key_secret}
    if owner.namespace == settings.release_namespace and owner.secret_name in ours:
        raise NameTakenError(
            f"Secret {owner.namespace}/{owner.secret_name} is the operator's own: choose another"
            " spec.secretName"
        )


async def _make_secret(context: Context, live: Live, owner: ApiKey) -> str:
    """Bring an ApiKey's Secret to what it should be; return the key in it.

    Only an ApiKey that has no key anywhere gets a new one: a Secret from which somebody took our
    label is not in the cache, but it has the key.
    """
    view = inforce.view(context)
    if not view.keys(live):
        unseen = inforce.named_secret(live)
        view = inforce.view(context, {unseen: await context.cluster.read(unseen)})
    known = view.keys(live)
    key = known[0] if known else keyring.api_key(context.entropy(keyring.KEY_BYTES))
    secret = keyring.api_key_secret(owner, key)
    await converge(context.cluster, live, [secret], adopt=view.unowned(live))
    return key


def _listing(context: Context, live: Live, entry: keyring.Entry) -> status.Finding:
    view = inforce.view(context)
    before = view.listed(live)
    if before == entry:
        name = inforce.named_secret(live).name
        return status.yes(status.IN_FORCE, f"The key in Secret {name} is in force.")
    if keyring.has_room(view.ring, entry):
        return status.no(status.PENDING, "The key is about to be listed for the gateway.")
    kept = f" It stays in force for endpoints {', '.join(before.endpoints)}." if before else ""
    return status.no(
        status.KEYRING_FULL,
        "The gateway's keyring has no room for this key: delete ApiKeys that are not needed, or"
        f" name fewer endpoints (* is one).{kept}",
    )
