"""The volume for downloads and compiled code: the pod's own, a claim that we make, or a given one.

What is in it is executed by the engine, so a claim serves one endpoint and no other tenant.
"""

from __future__ import annotations

from typing import Any, Final

from endpoint_operator import names
from endpoint_operator.api import values
from endpoint_operator.api.v1alpha1 import InferenceEndpoint
from endpoint_operator.desired.render import render

CACHE_VOLUME: Final = "cache"

Object = dict[str, Any]


def cache_claims(endpoint: InferenceEndpoint) -> list[Object]:
    """Return the claim for the cache, where the endpoint has one of its own."""
    cache = endpoint.spec.model.cache
    if cache is None or cache.size is None:
        return []
    claim = render(
        "cache-claim",
        name=names.cache_name(endpoint.name),
        namespace=endpoint.namespace,
        access_mode=cache.access_mode,
        storage_class=cache.storage_class_name,
        size=values.canonical_quantity(cache.size),
    )
    return [claim]


def outlives(child: Object, endpoint: InferenceEndpoint) -> bool:
    """Return whether a child stays when its endpoint is deleted, and so has no owner."""
    cache = endpoint.spec.model.cache
    is_claim = child["kind"] == "PersistentVolumeClaim"
    return is_claim and cache is not None and cache.on_delete == "Retain"


def cache_volume(endpoint: InferenceEndpoint) -> Object:
    """Return the pod's volume for the cache."""
    claim = claim_name(endpoint)
    source = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    return {"name": CACHE_VOLUME, **source}


def claim_name(endpoint: InferenceEndpoint) -> str | None:
    """Return the name of the claim that keeps the cache; None if it goes with the pod."""
    cache = endpoint.spec.model.cache
    if cache is None:
        return None
    return cache.claim_name or names.cache_name(endpoint.name)
