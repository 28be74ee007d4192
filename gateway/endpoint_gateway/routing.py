"""Which endpoint a request means: by model, by path or by host, within what its key may use.

Called by the pipeline with one catalog. Pure. What a key may not use is not there, so an answer
never tells whether somebody else's endpoint exists.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from .catalog import Catalog, Endpoint, Key, age
from .errors import EndpointNotFound, InvalidRequest, ModelNotFound, UnknownUrl

_LISTED = 20
_MOST_HOST_BYTES = 262
"""A name of DNS has 253, with a dot at its end and a port 260. What is longer is none of ours."""


def by_model(catalog: Catalog, key: Key, model: str | None) -> Endpoint:
    """Return the endpoint that this key means by that model.

    Raises ModelNotFound, and InvalidRequest where there is no model to go by.
    """
    if model is not None:
        found = find_model(catalog, key, model)
        if found is not None:
            return found
    if catalog.catch_all is not None and key.may_use(catalog.catch_all):
        return catalog.catch_all
    if model is None:
        raise InvalidRequest("You must provide a `model` parameter.", param="model")
    raise ModelNotFound(model, usable=_first(name for name, _ in models(catalog, key)))


def find_model(catalog: Catalog, key: Key, model: str) -> Endpoint | None:
    """Return the endpoint that has this name for this key: `namespace/name`, served, or `name`.

    The qualified name comes first, so that no served name can take it away.
    """
    namespace, slash, name = model.partition("/")
    qualified = _by_qualified_name(catalog, key, (namespace, name)) if slash else None
    if qualified is not None:
        return qualified
    claims = [each for each in catalog.served.get(model, ()) if key.may_use(each)]
    bare = _by_bare_name(catalog, key, model)
    if bare is not None:
        claims.append(bare)
    return min(claims, key=lambda each: (each.namespace != key.namespace, age(each)), default=None)


def by_segment(catalog: Catalog, key: Key, segment: str) -> Endpoint:
    """Return the endpoint of a path's first segment, `name` or `namespace.name`.

    Raises EndpointNotFound.
    """
    namespace, dot, name = segment.partition(".")
    if dot:
        found = _by_qualified_name(catalog, key, (namespace, name))
    else:
        found = _by_bare_name(catalog, key, segment)
    if found is None:
        usable = (f"{each.namespace}.{each.name}" for each in usable_endpoints(catalog, key))
        raise EndpointNotFound(segment, usable=_first(usable))
    return found


def by_host(catalog: Catalog, key: Key, host: bytes | None) -> Endpoint | None:
    """Return the endpoint of a `Host`: `name.namespace[.svc[.DOMAIN]]`, or one of its own hosts.

    Our own Service looks just like the former; it is told from an endpoint's by what is in the
    catalog. A host of its own leads to the oldest of those that claim it, or nowhere.
    """
    name, labels = _host_name((host or b"")[:_MOST_HOST_BYTES])
    if len(labels) == 2 or (len(labels) > 2 and labels[2] == "svc"):
        found = _by_qualified_name(catalog, key, (labels[1], labels[0]))
        if found is not None:
            return found
    claims = catalog.hosts.get(name)
    return claims[0] if claims and key.may_use(claims[0]) else None


@lru_cache(maxsize=1024)
def _host_name(host: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the name in a `Host`, without its port, and the labels of it."""
    name = host.decode("latin-1").lower().partition(":")[0].rstrip(".")
    return name, tuple(name.split("."))


def _by_qualified_name(catalog: Catalog, key: Key, name: tuple[str, str]) -> Endpoint | None:
    endpoint = catalog.qualified.get(name)
    return endpoint if endpoint is not None and key.may_use(endpoint) else None


def _by_bare_name(catalog: Catalog, key: Key, name: str) -> Endpoint | None:
    """A bare name is one of the key's own namespace; for a key of all of them, if it is unique."""
    usable = [each for each in catalog.named.get(name, ()) if key.may_use(each)]
    own = [each for each in usable if each.namespace == key.namespace]
    if own:
        return own[0]
    return usable[0] if len(usable) == 1 else None


def usable_endpoints(catalog: Catalog, key: Key) -> Iterator[Endpoint]:
    """Yield the endpoints that this key may use, oldest first."""
    return (each for each in catalog.endpoints if key.may_use(each))


def models(catalog: Catalog, key: Key) -> Iterator[tuple[str, Endpoint]]:
    """Yield each model that this key may use, under a name that leads to it.

    An endpoint all of whose served names lead to others is listed as `namespace/name`.
    """
    meant: dict[str, Endpoint | None] = {}
    for endpoint in usable_endpoints(catalog, key):
        for name in endpoint.models:
            # once, however many claim it
            if name not in meant:
                meant[name] = find_model(catalog, key, name)
        names = [name for name in endpoint.models if meant[name] is endpoint]
        if not any(name in endpoint.served_names for name in names):
            yield endpoint.qualified_name, endpoint
        for name in names:
            yield name, endpoint


def _first(names: Iterable[str]) -> list[str]:
    listed: list[str] = []
    for name in names:
        if len(listed) == _LISTED:
            listed.append("...")
            break
        listed.append(name)
    return listed


def see_that_it_matches(endpoint: Endpoint, model: str | None) -> None:
    """See that a model that the request names is one of this endpoint. Raises ModelNotFound.

    To name none, or an empty one, is to mean the one there is, as it is in vLLM.
    """
    if model and endpoint.served_names and not endpoint.answers_to(model):
        raise ModelNotFound(model, usable=endpoint.models)


def see_that_it_serves(endpoint: Endpoint, route: str) -> None:
    """See that the endpoint has this route. Raises UnknownUrl."""
    if endpoint.routes and route not in endpoint.routes:
        served = ", ".join(sorted(endpoint.routes))
        raise UnknownUrl(f"This endpoint does not serve {route}. It serves: {served}.")


def engine_model(endpoint: Endpoint, model: str | None) -> str | None:
    """Return the name to send to an engine in place of this one; None where it may stay."""
    if model is None or not endpoint.common_name or model in endpoint.engine_names:
        return None
    return endpoint.common_name
