"""The URL table: what each path means, under each of the ways to name an endpoint.

Called by the pipeline. Pure. What is not in the table does not exist: a path of a client is never
sent to an engine.

A path is `/v1/...`, `/<endpoint>/v1/...` or `/v2/<endpoint>/openai/v1/...`, and below an endpoint
the `/v1` may be missing. vLLM's own routes, which are at the root of an engine, are at ours too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Final

from .dialects import ANTHROPIC, OPENAI, RESPONSES, Dialect
from .errors import MethodNotAllowed, UnknownUrl
from .rewriting import NO_RULES, Rules

# OpenAI's routes that are not served here: each answers 501, with everything under it
_UNSUPPORTED: Final = frozenset(
    {
        "assistants",
        "audio",
        "batches",
        "chat",
        "containers",
        "conversations",
        "evals",
        "files",
        "fine_tuning",
        "images",
        "messages",
        "moderations",
        "organization",
        "realtime",
        "responses",
        "skills",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    }
)


class Kind(StrEnum):
    """What is done with a request."""

    INFER = auto()
    INFER_FROM_FORM = auto()
    LIST_MODELS = auto()
    DESCRIBE_MODEL = auto()
    REFUSE = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the table.

    `path` is the engine's. `method` is the only one it takes; None means any. `listed_as` is its
    name in an endpoint's list of routes. `keeps_state` means that it can ask for what an engine
    would have to remember.
    """

    name: str
    path: str = ""
    kind: Kind = Kind.INFER
    method: str | None = "POST"
    dialect: Dialect = OPENAI
    rules: Rules = NO_RULES
    keeps_state: bool = False
    listed_as: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a path means: a route, and whom or what the path names.

    `segment` is the endpoint's name as it stands in the path. `by_id` says that it is one of
    `/v2/<endpoint>/openai`. `model` is the rest of a path that ends in a model's name.
    """

    route: Route
    segment: str | None = None
    by_id: bool = False
    model: str | None = None


_ANSWERS = (
    Route("chat.completions", "/v1/chat/completions", rules=Rules(counts=True)),
    Route("completions", "/v1/completions", rules=Rules(counts=True, drops_suffix=True)),
    Route("embeddings", "/v1/embeddings"),
    Route("responses", "/v1/responses", dialect=RESPONSES, keeps_state=True),
    Route("messages", "/v1/messages", dialect=ANTHROPIC),
    Route(
        "messages.count_tokens",
        "/v1/messages/count_tokens",
        dialect=ANTHROPIC,
        listed_as="messages",
    ),
)
_AUDIO = tuple(
    Route(f"audio.{name}", f"/v1/audio/{name}", Kind.INFER_FROM_FORM)
    for name in ("transcriptions", "translations")
)
_VLLMS_OWN = tuple(
    Route(name, f"/{name}")
    for name in ("tokenize", "detokenize", "pooling", "classify", "score", "rerank")
)
_MODELS = Route("models", "/v1/models", Kind.LIST_MODELS, "GET")
_MODEL = Route("model", "/v1/models", Kind.DESCRIBE_MODEL, "GET")
_REFUSED = Route("unsupported", kind=Kind.REFUSE, method=None)
_REFUSED_MESSAGES = replace(_REFUSED, dialect=ANTHROPIC)

_BELOW_V1: Final[Mapping[str, Route]] = {
    route.path.removeprefix("/v1"): route for route in (*_ANSWERS, *_AUDIO, *_VLLMS_OWN, _MODELS)
}
_RERANK: Final = _BELOW_V1["/rerank"]
_SHARED: Final[Mapping[str, Target]] = {
    **{f"/v1{rest}": Target(route) for rest, route in _BELOW_V1.items()},
    **{route.path: Target(route) for route in _VLLMS_OWN},
    "/v2/rerank": Target(_RERANK),
}


LISTED: Final = frozenset(
    route.listed_as or route.name for route in _BELOW_V1.values() if route is not _MODELS
)
"""The names that an endpoint's list of routes may have."""


def find(path: str) -> Target:
    """Return what this path means. Raises UnknownUrl."""
    target = _SHARED.get(path) or _find_slowly(path)
    if target is None:
        raise UnknownUrl(f"There is nothing at {path[:200]}. {_advice(path)}")
    return target


def see_that_it_takes(route: Route, method: str) -> None:
    """Raise MethodNotAllowed if the route has another method."""
    if route.method is not None and method != route.method:
        raise MethodNotAllowed(method, allowed=route.method)


def _advice(path: str) -> str:
    # a base URL without its /v1, or with one that the client adds itself
    if path in _BELOW_V1 or "/v1/v1/" in path:
        return "OpenAI's clients need a base URL that ends in /v1, Anthropic's one that does not."
    return "See GET /v1/models for a start."


def _find_slowly(path: str) -> Target | None:
    if path.startswith("/v1/"):
        return _below_v1(path[3:])
    if path.startswith("/v2/"):
        segment, _, rest = path[4:].partition("/")
        openai, slash, rest = rest.partition("/")
        found = _below(rest) if slash and openai == "openai" and segment else None
        return found and replace(found, segment=segment, by_id=True)
    if path in _BELOW_V1:
        return None  # no endpoint has such a name
    segment, slash, rest = path[1:].partition("/")
    found = _below(rest) if slash and segment else None
    return found and replace(found, segment=segment)


def _below(rest: str) -> Target | None:
    if rest == "v2/rerank":
        return Target(_RERANK)
    return _below_v1("/" + rest.removeprefix("v1/"))


def _below_v1(path: str) -> Target | None:
    route = _BELOW_V1.get(path)
    if route is not None:
        return Target(route)
    first, _, rest = path[1:].partition("/")
    if first == "models" and rest:
        return Target(_MODEL, model=rest)
    if first in _UNSUPPORTED:
        return Target(_REFUSED_MESSAGES if first == "messages" else _REFUSED)
    return None
