"""The gateway's face: open health pages, browsers' questions, all else through the pipeline.

Called by the server for each request.
"""

from collections.abc import Callable

from .cors import Cors
from .exchange import Exchange
from .headers import request_id
from .pipeline import Pipeline


class Application:
    """Answers every request, and raises nothing."""

    def __init__(self, pipeline: Pipeline, *, cors: Cors, is_ready: Callable[[], bool]) -> None:
        self._pipeline = pipeline
        self._cors = cors
        self._is_ready = is_ready

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        exchange.always = self._cors.headers(exchange.headers)
        if exchange.path == "/healthz":
            _say(exchange, 200, text=b"ok\n")
        elif exchange.path == "/readyz":
            ready = self._is_ready()
            _say(exchange, 200 if ready else 503, text=b"ready\n" if ready else b"not ready\n")
        elif allowed := self._cors.preflight(exchange.method, exchange.headers):
            exchange.start(204, [*allowed, (b"x-request-id", request_id(exchange.headers))])
            exchange.end()
        else:
            await self._pipeline.run(exchange)


def _say(exchange: Exchange, status: int, *, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"x-request-id", request_id(exchange.headers))]
    exchange.start(status, headers, length=len(text))
    exchange.end(text)
