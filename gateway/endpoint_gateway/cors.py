"""Which web pages' scripts may call the gateway (CORS, the Fetch standard).

Called by the application for every request that names its page's `Origin`; off unless configured.
It protects nobody from anything but a browser's user from pages: keys are checked regardless.
"""

from collections.abc import Collection

from .errors import Headers
from .headers import find

_METHODS = b"GET, POST, OPTIONS"
_EXPOSED = (
    b"x-request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
_MAX_AGE_SECONDS = b"86400"


class Cors:
    """The origins that are allowed, such as `https://chat.example.com`; `*` is all of them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, request: Headers) -> Headers:
        """Return what an answer to a request with these headers tells the browser."""
        origin = self._allowed(request)
        if origin is not None:
            return [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            ]
        return [(b"vary", b"origin")] if self._origins else []

    def preflight(self, method: str, request: Headers) -> Headers | None:
        """Return the answer to a browser that asks whether it may ask; None if it does not."""
        asked = find(request, b"access-control-request-method")
        if method != "OPTIONS" or asked is None or self._allowed(request) is None:
            return None
        wanted = find(request, b"access-control-request-headers")
        return [
            (b"access-control-allow-methods", _METHODS),
            *([(b"access-control-allow-headers", wanted)] if wanted else []),
            (b"access-control-max-age", _MAX_AGE_SECONDS),
        ]

    def _allowed(self, request: Headers) -> bytes | None:
        origin = find(request, b"origin") if self._origins else None
        return origin if self._any or origin in self._origins else None
