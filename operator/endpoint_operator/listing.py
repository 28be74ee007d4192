"""The story of the keyring: what gateways are told of all keys, written as a whole.

``controller`` calls it, and only after every ApiKey and Secret has been listed: a keyring that is
written from half of them would revoke the other half. Many keys that change at once cost one write.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from endpoint_operator import inforce, keyring
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.keyring import Entry, Keyring
from endpoint_operator.kinds import API_KEY
from endpoint_operator.live import Live, Object, Ref

logger = logging.getLogger(__name__)

KEYRING = Ref("Keyring")
"""The queue's key for the keyring as a whole."""

LOOK_AGAIN: Final = Outcome(again_after=30.0)
"""For what stands in the way and is not watched."""


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
    before = inforce.ring_of(live)
    due = await _due(context, before)
    wanted = keyring.fitting(keyring.undisputed(due, before), before)
    secret = keyring.keyring_secret(at.namespace, at.name, wanted)
    if seen is not None and covers(seen.object, secret):
        return DONE
    await context.cluster.apply(_at_the_version_of(live, secret), over=live)
    known = set(inforce.ring_of(seen))
    changed = {_api_key(entry) for entry in (due ^ wanted) | (wanted ^ known)}
    return Outcome(then=tuple(sorted(changed)))


async def _due(context: Context, before: Keyring) -> set[Entry]:
    """Return an entry for every key that should be in force.

    Those that are, and whose Secret is not in the cache, are asked for first.
    """
    cluster = context.cluster
    known = inforce.View(context, before, context.clock())
    held = [live for live in cluster.of_kind(API_KEY) if not live.deleting]
    unseen = [
        secret
        for live in held
        if known.listed(live)
        and known.is_unseen(secret := inforce.named_secret(live))
        and known.held(live) is None
    ]
    asked = dict(zip(unseen, await asyncio.gather(*map(cluster.read, unseen)), strict=True))
    view = inforce.View(context, before, context.clock(), asked)
    return {entry for live in held for entry in view.due(live)}


def _at_the_version_of(live: Live | None, secret: Object) -> Object:
    """Return what to send: what was decided without knowing of a change must not undo it."""
    version = {"resourceVersion": str(live.version)} if live else {}
    return secret | {"metadata": secret["metadata"] | version}


def _api_key(entry: Entry) -> Ref:
    return Ref(API_KEY, entry.namespace, entry.name)
