"""The root key: made once, kept, and watched, since the key of every engine derives from it.

``controller`` calls both functions: the first before anything else, the second whenever the Secret
changed. What is deleted comes back from memory. Another key is taken up at once: engines follow one
after the other, as with every upgrade, and until the last has, gateways need the key before it as
well. An administrator leaves that in the Secret, and it is put there if not (ADR 0011).
"""

from __future__ import annotations

import logging
import secrets

from endpoint_operator import keys
from endpoint_operator.cluster import ApiCluster
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.keys import RootKey
from endpoint_operator.kinds import INFERENCE_ENDPOINT, SECRET
from endpoint_operator.live import Live, Ref, at_version_of
from endpoint_operator.settings import Settings
from kube_api import Conflict

logger = logging.getLogger(__name__)

ROOT_KEY = Ref("RootKey")
"""The queue's key for the root key."""


def root_key_ref(settings: Settings) -> Ref:
    """Return the address of the root key's Secret."""
    return Ref(SECRET, settings.release_namespace, settings.root_key_secret)


async def ensure_root_key(cluster: ApiCluster, settings: Settings) -> RootKey:
    """Return the root key; make it if there is none. Raises RootKeyError and ApiErrors."""
    at = root_key_ref(settings)
    live = await cluster.read(at)
    if live is None:
        if await cluster.read(Ref(SECRET, at.namespace, settings.keyring_secret)):
            logger.warning("%s is gone: a new key is made and every engine restarts with it", at)
        made = RootKey(secrets.token_bytes(keys.KEY_BYTES))
        try:
            live = await cluster.create(keys.root_key_secret(at.namespace, at.name, made))
        except Conflict:  # another operator was faster
            return await ensure_root_key(cluster, settings)
    return keys.read_root_key(live.object)


async def reconcile_root_key(context: Context, ref: Ref) -> Outcome:  # noqa: ARG001 - there is one
    """Take up another root key; put the Secret back if it, or its label, is gone.

    Raises RootKeyError where it holds nothing that could be one; and ApiErrors.
    """
    at = root_key_ref(context.settings)
    live = context.cluster.get(at) or await context.cluster.read(at)
    used = context.in_use.root_key
    if live is None:
        logger.warning("%s is gone: it is made again with the same key", at)
        await _keep(context, used, over=None)
        return DONE
    given = keys.read_root_key(live.object)
    if given.newest == used.newest:
        await _keep(context, given, over=live)
        context.in_use.root_key = given
        return DONE
    given = RootKey(given.newest, given.before or used.newest)
    if used.before not in (b"", given.newest, given.before):
        logger.error(
            "%s was changed twice: engines that have not got the key between can't be reached until"
            " they have the newest; unless every endpoint said Complete, put the two keys before"
            " this one back",
            at,
        )
    await _keep(context, given, over=live)
    context.in_use.root_key = given
    logger.warning("%s has another key: engines get theirs anew, one endpoint after the other", at)
    return Outcome(then=tuple(each.ref for each in context.cluster.of_kind(INFERENCE_ENDPOINT)))


async def _keep(context: Context, root_key: RootKey, *, over: Live | None) -> None:
    at = root_key_ref(context.settings)
    wanted = keys.root_key_secret(at.namespace, at.name, root_key)
    if over is None or not covers(over.object, wanted):
        await context.cluster.apply(at_version_of(over, wanted), over=over)
