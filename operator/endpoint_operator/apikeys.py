"""The story of an ApiKey: validate, make its Secret, list it in the keyring, status.

``controller`` calls both functions, and only after every ApiKey and Secret has been listed: a
keyring that is written from half of them would revoke the other half. The keyring is written as a
whole; many keys that change at once cost one write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from endpoint_operator import keyring, names, status
from endpoint_operator.api.v1alpha1 import ApiKey, parse_api_key
from endpoint_operator.cache import Live, Ref
from endpoint_operator.children import converge
from endpoint_operator.cluster import API_KEY, SECRET
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.errors import InvalidObjectError, NameTakenError, OwnerGoneError
from kube_api import Forbidden, Invalid

KEYRING = Ref("Keyring")
"""The queue's key for the keyring as a whole."""

_NEXT: Final = {
    status.PENDING: Outcome(then=(KEYRING,)),
    # what stands in the way is not watched, so it is looked at again
    status.NAME_CONFLICT: Outcome(again_after=30.0),
    status.REFUSED_BY_CLUSTER: Outcome(again_after=30.0),
}
"""What is left to be done for an ApiKey, by the reason of its condition."""


async def reconcile_api_key(context: Context, ref: Ref) -> Outcome:
    """Bring an ApiKey's Secret and status to what its spec says. Raises ApiErrors."""
    live = context.cluster.get(ref)
    if live is None or live.deleting:
        return DONE
    try:
        finding = await _enforce(context, live)
    except OwnerGoneError:
        return DONE
    computed = status.api_key_status(live.object, finding, context.now())
    if changed := status.changes(live.object, computed):
        await context.cluster.write_status(ref, changed)
    return _NEXT.get(finding.reason, DONE)


async def reconcile_keyring(context: Context, ref: Ref) -> Outcome:  # noqa: ARG001 - there is one
    """Write the keyring if it differs; the ApiKeys that came or went have their status renewed."""
    cluster, settings = context.cluster, context.settings
    wanted = set(_entries(context))
    secret = keyring.keyring_secret(settings.release_namespace, settings.keyring_secret, wanted)
    live = cluster.get(_keyring_ref(context))
    if live is not None and covers(live.object, secret):
        return DONE
    before = keyring.read_keyring(live.object if live else None)
    await cluster.apply(secret)
    changed = {Ref(API_KEY, entry.namespace, entry.name) for entry in wanted ^ before}
    return Outcome(then=tuple(sorted(changed)))


async def _enforce(context: Context, live: Live) -> status.Finding:
    try:
        owner = parse_api_key(live.object)
        if not keyring.may_have_scope(owner, context.settings.release_namespace):
            return _scope_not_allowed(context.settings.release_namespace)
        key = await _existing_or_new_key(context, owner)
        await converge(context.cluster, live, [keyring.api_key_secret(owner, key)])
    except InvalidObjectError as error:
        return status.no(status.INVALID_SPEC, str(error))
    except NameTakenError as error:
        return status.no(status.NAME_CONFLICT, str(error))
    except (Invalid, Forbidden) as error:
        return status.no(status.REFUSED_BY_CLUSTER, error.message)
    return _force(context, owner, key)


def _scope_not_allowed(release_namespace: str) -> status.Finding:
    return status.no(
        status.SCOPE_NOT_ALLOWED,
        f"spec.endpoints: */* is for ApiKeys in namespace {release_namespace} only; use * for every"
        " endpoint of this namespace",
    )


def _force(context: Context, owner: ApiKey, key: str) -> status.Finding:
    live = context.cluster.get(_keyring_ref(context))
    listed = keyring.read_keyring(live.object if live else None)
    if keyring.entry(owner, key) in listed:
        message = f"The key in Secret {owner.secret_name} is in force."
        return status.yes(status.IN_FORCE, message)
    return status.no(status.PENDING, "The key is about to be listed for the gateway.")


def _entries(context: Context) -> Iterator[keyring.Entry]:
    """Yield an entry for every key that should be in force."""
    for live in context.cluster.of_kind(API_KEY):
        if live.deleting:
            continue
        try:
            owner = parse_api_key(live.object)
        except InvalidObjectError:
            continue  # its own reconcile says so
        allowed = keyring.may_have_scope(owner, context.settings.release_namespace)
        if allowed and (key := _known_key(context, owner)):
            yield keyring.entry(owner, key)


async def _existing_or_new_key(context: Context, owner: ApiKey) -> str:
    """Return the key that an ApiKey has; only one that has none anywhere gets a new one.

    A Secret from which somebody took our label is not in the cache, but it has the key.
    """
    if known := _known_key(context, owner):
        return known
    unseen = await context.cluster.read(Ref(SECRET, owner.namespace, owner.secret_name))
    ours = unseen is not None and unseen.owner().get("uid") == owner.uid
    found = keyring.read_field(unseen.object, names.API_KEY_FIELD) if unseen and ours else ""
    return found or keyring.api_key(context.entropy(keyring.KEY_BYTES))


def _known_key(context: Context, owner: ApiKey) -> str:
    """Return the key in a cached Secret of an ApiKey, or nothing.

    Another secretName makes another Secret with the same key: clients don't notice.
    """
    secrets = [live for live in context.cluster.owned_by(owner.uid) if live.ref.kind == SECRET]
    keys = (keyring.read_field(live.object, names.API_KEY_FIELD) for live in secrets)
    return next((key for key in keys if key), "")


def _keyring_ref(context: Context) -> Ref:
    return Ref(SECRET, context.settings.release_namespace, context.settings.keyring_secret)
