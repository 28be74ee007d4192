"""The story of an ApiKey: validate, make, rotate or adopt the keys in its Secret, status.

``controller`` calls it, and only after every ApiKey and Secret has been listed: a key that was not
seen would be made anew. What is in force is for ``inforce`` to say, and ``listing`` tells gateways.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from endpoint_operator import inforce, keyring, keys, names, rotation, status
from endpoint_operator.api.v1alpha1 import ApiKey
from endpoint_operator.children import prune, require_owner
from endpoint_operator.conditions import Finding, changes, no
from endpoint_operator.context import DONE, Context, Outcome
from endpoint_operator.drift import covers
from endpoint_operator.errors import (
    InvalidObjectError,
    KeyMissingError,
    NameTakenError,
    OwnerGoneError,
    ScopeNotAllowedError,
)
from endpoint_operator.inforce import View
from endpoint_operator.keys import Held
from endpoint_operator.listing import KEYRING, LOOK_AGAIN
from endpoint_operator.live import Live, Object, Ref
from endpoint_operator.standing import Standing
from kube_api import Forbidden, Invalid

_REASONS: Final = {
    InvalidObjectError: status.INVALID_SPEC,
    ScopeNotAllowedError: status.SCOPE_NOT_ALLOWED,
    NameTakenError: status.NAME_CONFLICT,
    KeyMissingError: status.KEY_MISSING,
    Invalid: status.REFUSED_BY_CLUSTER,
    Forbidden: status.REFUSED_BY_CLUSTER,
}
"""Why an ApiKey's spec is not in force, by what was raised."""

_REFUSALS: Final[tuple[type[Exception], ...]] = tuple(_REASONS)

_NOT_WATCHED: Final = (status.NAME_CONFLICT, status.REFUSED_BY_CLUSTER)


async def reconcile_api_key(context: Context, ref: Ref) -> Outcome:
    """Bring an ApiKey's Secret and status to what its spec says. Raises ApiErrors."""
    live = context.cluster.get(ref)
    if live is None or live.deleting:
        return DONE
    try:
        finding, outcome = await _enforce(context, live)
        body = live.object
        computed = status.api_key_status(body, finding, context.now())
        if changed := changes(body, computed):
            await context.cluster.write_status(live, changed)
    except OwnerGoneError:
        return DONE
    return outcome


async def _enforce(context: Context, live: Live) -> tuple[Finding, Outcome]:
    view = await _view(context, live)
    try:
        owner = inforce.accepted(context, live)
        _require_a_name_of_its_own(context, owner)
        held, adopted = await _bring_about(view, live, owner)
    except _REFUSALS as error:
        return _refused(view, live, error)
    standing = Standing(owner, held, view.ring, now=view.now, adopted=adopted)
    then = (KEYRING,) if standing.due != standing.listed else ()
    return standing.finding(), Outcome(again_after=standing.next_change(), then=then)


async def _view(context: Context, live: Live) -> View:
    """Return what is known of keys, and of the Secret that an ApiKey names for certain.

    Only an ApiKey that has no key anywhere gets a new one: a Secret from which somebody took our
    label is not in the cache, but it has the key.
    """
    view, ref = inforce.view(context), inforce.named_secret(live)
    asked = {ref: await context.cluster.read(ref)} if view.is_unseen(ref) else {}
    return replace(view, asked=asked)


def _refused(view: View, live: Live, error: Exception) -> tuple[Finding, Outcome]:
    """Say why a spec is not in force, and that what was in force before still is, until it ends."""
    due = view.due(live) if view.listed(live) else keyring.NOTHING
    scope = sorted({name for entry in due for name in entry.endpoints})
    kept = f". The key stays in force, for endpoints {', '.join(scope)}" if scope else ""
    finding = no(_REASONS[type(error)], f"{error}{kept}")
    if finding.reason in _NOT_WATCHED:
        return finding, LOOK_AGAIN
    ends = (entry.expires - view.now for entry in due if entry.expires != keyring.NEVER)
    return finding, Outcome(again_after=min(ends, default=None))


def _require_a_name_of_its_own(context: Context, owner: ApiKey) -> None:
    settings = context.settings
    ours = {settings.keyring_secret, settings.root_key_secret}
    if owner.namespace == settings.release_namespace and owner.secret_name in ours:
        raise NameTakenError(
            f"Secret {owner.namespace}/{owner.secret_name} is the operator's own: choose another"
            " spec.secretName"
        )


async def _bring_about(view: View, live: Live, owner: ApiKey) -> tuple[Held, bool]:
    """Bring an ApiKey's Secret to what it should be; return its keys, and whether it is adopted."""
    context, ref = view.context, inforce.named_secret(live)
    named = view.secret(ref)
    if adopted := named is not None and inforce.is_adopted(named):
        held = _adopted(named)
    else:
        _require_ours(view, live, named)
        held = _advanced(view, live, owner)
        await _write(context, live, keys.api_key_secret(owner, held), over=named)
    await prune(context.cluster, live, {ref})
    return held, adopted


def _adopted(secret: Live) -> Held:
    held = keys.read_held(secret.object)
    if not held.current:
        raise KeyMissingError(
            f"{secret.ref} is not the operator's, and has no {names.API_KEY_FIELD}: put a key there"
        )
    return Held(held.current, held.previous)


def _advanced(view: View, live: Live, owner: ApiKey) -> Held:
    """Return the keys that an ApiKey's Secret should hold now."""
    listed = {entry.sha256 for entry in view.listed(live)}
    moment = rotation.Moment(
        now=view.now,
        known=lambda key: keys.digest(key) in listed,
        used=bool(listed),
        fresh=lambda: keys.api_key(view.context.entropy(keys.KEY_BYTES)),
    )
    return rotation.advance(view.held(live) or Held(), owner.spec.rotation, moment)


def _require_ours(view: View, live: Live, secret: Live | None) -> None:
    if secret is not None and not view.is_ours(live, secret):
        raise NameTakenError(
            f"{secret.ref} exists and is not of {live.ref}: choose another spec.secretName, delete"
            f" or rename it, or label it {names.MANAGED_BY}={names.MANAGER} to have its key used"
        )


async def _write(context: Context, live: Live, secret: Object, *, over: Live | None) -> None:
    """Write a Secret, and only over the very version that its keys were read from.

    Whoever else wrote it meanwhile, such as the operator that led before, may have put a key there
    that clients have by now.
    """
    if over is None:
        if live.status:
            await require_owner(context.cluster, live)
        await context.cluster.apply(secret, over=None)
        return
    seen = over.object
    if not covers(seen, secret) or keys.leftovers(seen, secret):
        version = {"resourceVersion": str(over.version)}
        changed = secret | {"metadata": secret["metadata"] | version}
        await context.cluster.apply(changed, over=over)
