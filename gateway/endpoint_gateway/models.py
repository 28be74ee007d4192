"""The answers of `/v1/models`, in vLLM's shape.

Called by the pipeline. Pure: they come from the catalog, so that asking wakes no engine.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .catalog import Endpoint
from .errors import BadAnswer


def of_endpoint(endpoint: Endpoint) -> Iterator[tuple[str, Endpoint]]:
    """Yield the models of one endpoint, the adapters last."""
    return ((name, endpoint) for name in endpoint.models)


def render_list(listed: Iterable[tuple[str, Endpoint]]) -> bytes:
    """Return the list of these models."""
    data = [_describe(name, endpoint) for name, endpoint in listed]
    return msgspec.json.encode({"object": "list", "data": data})


def render(name: str, endpoint: Endpoint) -> bytes:
    """Return the description of one model."""
    return msgspec.json.encode(_describe(name, endpoint))


def parse_list(body: bytes) -> dict[str, dict[str, Any]]:
    """Return the models of an engine's own list, by id. Raises BadAnswer."""
    try:
        content = msgspec.json.decode(body, type=dict[str, Any])
        return {model["id"]: model for model in content["data"]}
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise BadAnswer("The model's engine did not list its models.") from error


def _describe(name: str, endpoint: Endpoint) -> dict[str, Any]:
    adapter = next((each for each in endpoint.adapters if each.name == name), None)
    return {
        "id": name,
        "object": "model",
        "created": endpoint.created,
        "owned_by": "vllm",
        "root": (adapter or endpoint).source or name,
        "parent": endpoint.served_names[0] if adapter else None,
        # only the engine knows, and it need not be running
        "max_model_len": None,
        "permission": [_permission(name, endpoint)],
    }


def _permission(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": f"modelperm-{endpoint.namespace}-{endpoint.name}-{name}",
        "object": "model_permission",
        "created": endpoint.created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
