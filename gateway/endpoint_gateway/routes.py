"""The URL table, and the application that reads it.

Called by the server for each request. A path is `/v1/...`, or `/<endpoint>/v1/...`, whose `/v1` may
be missing; what follows is looked up in one table. What is not in the table does not exist: a path
of a client is never sent to an engine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .errors import GatewayError, MethodNotAllowed, UnknownUrl
from .exchange import Exchange
from .headers import request_id
from .pipeline import Action, Call, Pipeline

# OpenAI's routes that are not served here: each answers 501, with everything under it
_UNSUPPORTED = (
    "assistants",
    "audio",
    "batches",
    "conversations",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "moderations",
    "realtime",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
)


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the table. `method` is the only one it takes; None means any."""

    name: str
    method: str | None
    action: Action


@dataclass(frozen=True, slots=True)
class Target:
    """What a path means: a route, the engine's path for it, and whom or what the path names."""

    route: Route
    path: str
    segment: str | None = None
    model: str | None = None


class Table:
    """The routes, by what follows `/v1`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._exact: Mapping[str, Route] = {
            "/chat/completions": Route("chat.completions", "POST", pipeline.infer),
            "/completions": Route("completions", "POST", pipeline.infer),
            "/models": Route("models", "GET", pipeline.models),
        }
        self._model = Route("model", "GET", pipeline.model)
        self._unsupported = Route("unsupported", None, pipeline.unsupported)

    def find(self, path: str) -> Target:
        """Return what this path means. Raises UnknownUrl."""
        if path.startswith("/v1/"):
            target = self._below_v1(path[3:])
        else:
            segment, slash, rest = path[1:].partition("/")
            target = self._below_v1("/" + rest.removeprefix("v1/")) if slash and segment else None
            target = target and replace(target, segment=segment)
        if target is None:
            raise UnknownUrl(f"There is nothing at {path[:200]}. See GET /v1/models for a start.")
        return target

    def _below_v1(self, path: str) -> Target | None:
        route = self._exact.get(path)
        if route is not None:
            return Target(route, path="/v1" + path)
        first, _, rest = path[1:].partition("/")
        if first == "models" and rest:
            return Target(self._model, path="/v1/models", model=rest)
        return Target(self._unsupported, path="") if first in _UNSUPPORTED else None


class Application:
    """The gateway's face: open health pages, and the table's routes through the pipeline."""

    def __init__(self, pipeline: Pipeline, *, is_ready: Callable[[], bool]) -> None:
        self._pipeline = pipeline
        self._table = Table(pipeline)
        self._is_ready = is_ready

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        path = exchange.path
        if path == "/healthz":
            _say(exchange, 200, text=b"ok\n")
        elif path == "/readyz":
            ready = self._is_ready()
            text = b"ready\n" if ready else b"not ready\n"
            _say(exchange, 200 if ready else 503, text=text)
        else:
            call = self._pipeline.call(exchange)
            await self._pipeline.run(self._action(path, exchange.method, call), call)

    def _action(self, path: str, method: str, call: Call) -> Action:
        try:
            target = self._table.find(path)
            _check_method(target.route, method)
        except GatewayError as error:
            return _refusing(error)
        call.record.route = target.route.name
        call.segment, call.model, call.upstream = target.segment, target.model, target.path
        return target.route.action


def _check_method(route: Route, method: str) -> None:
    if route.method is not None and method != route.method:
        raise MethodNotAllowed(method, allowed=route.method)


def _refusing(error: GatewayError) -> Action:
    async def refuse(call: Call) -> None:  # noqa: ARG001 - it is an Action
        raise error

    return refuse


def _say(exchange: Exchange, status: int, *, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"x-request-id", request_id(exchange.headers))]
    exchange.start(status, headers, length=len(text))
    exchange.end(text)
