"""What of a configuration is good by itself, but not beside the rest of it.

Called by static. Pure.
"""

from collections.abc import Iterable, Iterator

from .config import EVERYWHERE, Config, EndpointEntry, KeyEntry


def contradictions(config: Config) -> Iterator[str]:
    """Yield a line for each field that is good by itself, but not beside the others."""
    yield from _claimed_twice(config.endpoints)
    for number, endpoint in enumerate(config.endpoints):
        if not endpoint.models:
            yield from _wants_models(f"endpoints[{number}]", endpoint, len(config.endpoints))
    names = [(key.namespace, key.name) for key in config.keys]
    for number, key in enumerate(config.keys):
        if names.index((key.namespace, key.name)) < number:
            yield f"keys[{number}].name: another key has it; choose one for each"
        yield from _opens_nothing(f"keys[{number}].endpoints", key, config.endpoints)


def _claimed_twice(endpoints: Iterable[EndpointEntry]) -> Iterator[str]:
    holders: dict[tuple[str, str], int] = {}
    for number, endpoint in enumerate(endpoints):
        for field, scope, name in _claims(endpoint):
            holder = holders.setdefault((scope, name), number)
            if holder != number:
                yield f"endpoints[{number}].{field}: endpoints[{holder}] has it; take another"


def _claims(endpoint: EndpointEntry) -> Iterator[tuple[str, str, str]]:
    """Yield each name that leads to the endpoint: its field, where it must be the only one, it."""
    yield "name", endpoint.namespace, endpoint.name
    access = endpoint.access
    for field, scope, names in (
        ("models", endpoint.namespace, endpoint.models),
        ("adapters", endpoint.namespace, endpoint.adapters),
        ("access.aliases", endpoint.namespace, access.aliases),
        ("access.hosts", "", access.hosts),
    ):
        for number, name in enumerate(names):
            yield f"{field}[{number}]", scope, name


def _wants_models(path: str, endpoint: EndpointEntry, endpoints: int) -> Iterator[str]:
    access = endpoint.access
    if endpoints > 1:
        yield f"{path}.models: is required beside other endpoints; list what its vLLM serves"
    elif endpoint.adapters or access.aliases or access.model_field == "Match":
        yield f"{path}.models: is required with adapters, aliases or modelField; list them"


def _opens_nothing(path: str, key: KeyEntry, endpoints: Iterable[EndpointEntry]) -> Iterator[str]:
    known = {each.name for each in endpoints if each.namespace == key.namespace}
    for number, name in enumerate(key.endpoints):
        if name not in known and name != EVERYWHERE and not (name == "*" and known):
            yield (
                f"{path}[{number}]: names no endpoint of namespace {key.namespace}; write the"
                ' name of one, "*" for all of them, or "*/*" for those of all namespaces'
            )
