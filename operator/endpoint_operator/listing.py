"""The story of the keyring: what gateways are told of all keys, written as a whole.

``controller`` calls it, and only after every ApiKey and Secret has been listed: a keyring that is
written from half of them would revoke the other half. Many keys that change at once cost one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from endpoint_operator import inforce, keyring
from endpoint_operator.context import Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.inforce import View
from endpoint_operator.keyring import Entry
from endpoint_operator.kinds import API_KEY
from endpoint_operator.live import Live, Ref, at_version_of
from kube_api import Forbidden

logger = logging.getLogger(__name__)

KEYRING = Ref("Keyring")
"""The queue's key for the keyring as a whole."""

LOOK_AGAIN: Final = Outcome(again_after=30.0)
"""For what stands in the way and is not watched."""

_READS_AT_ONCE: Final = 16


async def reconcile_keyring(context: Context, ref: Ref) -> Outcome:  # noqa: ARG001 - there is one
    """Write the keyring if it differs; the ApiKeys that came or went have their status renewed.

    Raises ApiErrors, with nothing written: where no answer comes nobody is revoked. Of an ApiKey
    whose Secret may not be read the keys stay as they are.
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
    held = [live for live in context.cluster.of_kind(API_KEY) if not live.deleting]
    view = inforce.View(context, before, context.clock())
    unseen = {live.ref: inforce.named_secret(live) for live in held if _must_ask(view, live)}
    view = replace(view, asked=await _ask(context, set(unseen.values())))
    due = {entry for live in held for entry in view.due(live)}
    # of a namespace that may not be read nothing is known, also not that a key is gone
    due |= (unknown := {entry for entry in before if context.cluster.is_closed(entry.namespace)})
    wanted = keyring.fitting(keyring.undisputed(due, before), before)
    secret = keyring.keyring_secret(at.namespace, at.name, wanted)
    unsettled = unknown or any(view.asked.get(named, named) for named in unseen.values())
    again_after = LOOK_AGAIN.again_after if unsettled else None
    if seen is not None and covers(seen.object, secret):
        return Outcome(again_after, then=tuple(unseen))
    await context.cluster.apply(at_version_of(live, secret), over=live)
    known = set(inforce.ring_of(seen))
    changed = {_api_key(entry) for entry in (due ^ wanted) | (wanted ^ known)}
    return Outcome(again_after, then=tuple(sorted(changed | unseen.keys())))


def _must_ask(view: View, live: Live) -> bool:
    """Return whether a key is in force whose Secret is not in the cache, which can be its label."""
    listed = view.listed(live) and view.is_unseen(inforce.named_secret(live))
    return bool(listed) and view.held(live) is None


async def _ask(context: Context, refs: Iterable[Ref]) -> dict[Ref, Live | None]:
    """Return what there is of Secrets that the cache does not have, without those we may not read.

    Their namespace can be closed to us, as a deleted one is, before its watches have noticed.
    """
    asked: dict[Ref, Live | None] = {}
    waiting = sorted(refs)
    while waiting:
        some, waiting = waiting[:_READS_AT_ONCE], waiting[_READS_AT_ONCE:]
        for answer in await asyncio.gather(*(_read(context, ref) for ref in some)):
            asked |= answer
    return asked


async def _read(context: Context, ref: Ref) -> dict[Ref, Live | None]:
    try:
        return {ref: await context.cluster.read(ref)}
    except Forbidden:
        return {}


def _api_key(entry: Entry) -> Ref:
    return Ref(API_KEY, entry.namespace, entry.name)
