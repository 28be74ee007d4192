"""The root key: made once, kept, and watched, since the key of every engine derives from it.

``controller`` calls both functions: the first before anything else, the second whenever the Secret
changed. What is deleted comes back from memory. Another key is not taken up by a running process,
which would give engines and gateways different ones for a while: it ends, and its next start takes
the new key.
"""

from __future__ import annotations

import logging
import secrets

from endpoint_operator import keyring
from endpoint_operator.cache import Ref
from endpoint_operator.cluster import SECRET, ApiCluster
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.errors import RootKeyError
from endpoint_operator.settings import Settings
from kube_api import Conflict

logger = logging.getLogger(__name__)

ROOT_KEY = Ref("RootKey")
"""The queue's key for the root key."""


def root_key_ref(settings: Settings) -> Ref:
    """Return the address of the root key's Secret."""
    return Ref(SECRET, settings.release_namespace, settings.root_key_secret)


async def ensure_root_key(cluster: ApiCluster, settings: Settings) -> bytes:
    """Return the root key; make it if there is none. Raises RootKeyError and ApiErrors."""
    at = root_key_ref(settings)
    live = await cluster.read(at)
    if live is None:
        if await cluster.read(Ref(SECRET, at.namespace, settings.keyring_secret)):
            logger.warning("%s is gone: a new key is made and every engine restarts with it", at)
        entropy = secrets.token_bytes(keyring.KEY_BYTES)
        try:
            live = await cluster.create(keyring.root_key_secret(at.namespace, at.name, entropy))
        except Conflict:  # another operator was faster
            return await ensure_root_key(cluster, settings)
    return keyring.read_root_key(live.object)


async def reconcile_root_key(context: Context, ref: Ref) -> Outcome:  # noqa: ARG001 - there is one
    """Put the Secret back if it or its label is gone.

    Raises RootKeyError if it holds another key than this process works with; and ApiErrors.
    """
    at = root_key_ref(context.settings)
    live = context.cluster.get(at) or await context.cluster.read(at)
    wanted = keyring.root_key_secret(at.namespace, at.name, context.root_key)
    if live is None:
        logger.warning("%s is gone: it is made again with the same key", at)
    elif keyring.read_root_key(live.object) != context.root_key:
        raise RootKeyError(f"{at} has another key than before: the next start takes it")
    if live is None or not covers(live.object, wanted):
        await context.cluster.apply(wanted, over=live)
    return DONE
