"""Which headers cross the gateway, in which direction.

Used by request (towards the engine) and relay (towards the client). Refuses to carry anything
that frames a message: both sides of the gateway frame their own, so that no two parsers can
disagree about where a request ends.
"""

import re
from collections.abc import Iterable, Iterator
from os import urandom

from .errors import Headers

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
    }
)
# accept-encoding: an answer is looked into on its way, so it may not come compressed
_NOT_TO_ENGINE = _HOP_BY_HOP | {
    b"host",
    b"expect",
    b"authorization",
    b"x-api-key",
    b"cookie",
    b"accept-encoding",
    b"x-request-id",
}
# An engine shares its address with all others: it may not set anything for all of that address,
# nor tell the proxies between us and the client to send something else instead.
_NOT_TO_CLIENT = _HOP_BY_HOP | {
    b"server",
    b"date",
    b"x-request-id",
    b"www-authenticate",
    b"alt-svc",
    b"clear-site-data",
    b"nel",
    b"report-to",
    b"reporting-endpoints",
    b"strict-transport-security",
}
_FOR_OTHERS = (
    # of any web page, since vLLM allows all of them; here it is the gateway who decides (cors)
    b"access-control-",
    b"set-cookie",
    b"x-accel-",
    b"x-sendfile",
    b"x-lighttpd-",
    b"x-litespeed-",
    b"x-reproxy-",
)
_PACING = (b"retry-after", b"ratelimit", b"x-ratelimit-")

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def find(headers: Headers, name: bytes) -> bytes | None:
    """Return the first header of this (lower-case) name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def towards_engine(headers: Headers) -> Headers:
    """Return those headers of a client's request that the engine gets."""
    return _without(headers, _NOT_TO_ENGINE)


def towards_client(headers: Headers) -> Headers:
    """Return those headers of an engine's answer that the client gets."""
    return [
        header
        for header in _without(headers, _NOT_TO_CLIENT)
        if not header[0].startswith(_FOR_OTHERS)
    ]


def pacing(headers: Headers) -> Headers:
    """Return those headers of an engine's answer that say when to come back and how often."""
    return [header for header in towards_client(headers) if header[0].startswith(_PACING)]


def _without(headers: Headers, dropped: frozenset[bytes]) -> Headers:
    named = find(headers, b"connection")
    if named is not None:
        dropped = dropped | _tokens(value for name, value in headers if name == b"connection")
    return [(name, value) for name, value in headers if name not in dropped]


def _tokens(values: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))


def request_id(headers: Headers) -> bytes:
    """Return the client's `x-request-id` where it is one that can be logged as it is, else ours."""
    given = find(headers, b"x-request-id")
    if given is not None and _SANE_REQUEST_ID.fullmatch(given):
        return given
    return next(_request_ids)


def _random_ids() -> Iterator[bytes]:
    """Yield numbers of 16 bytes, which tell nobody how many there were before."""
    while True:
        # a call of the system for each would cost more than the rest of it
        digits = urandom(4096).hex().encode()
        yield from (digits[at : at + 32] for at in range(0, len(digits), 32))


_request_ids = _random_ids()


def media_type(headers: Headers) -> bytes:
    """Return the `content-type` without its parameters, in lower case."""
    return (find(headers, b"content-type") or b"").partition(b";")[0].strip().lower()


def is_framed(status: int, headers: Headers) -> bool:
    """Say whether this head tells where its body ends other than by closing (RFC 9112, 6.3).

    It must not be one that `is_coded`.
    """
    return status in (204, 304) or any(
        name in (b"content-length", b"transfer-encoding") for name, _ in headers
    )


def is_coded(headers: Headers) -> bool:
    """Say whether a transfer coding other than `chunked` lies over the body of this head."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    return bool(codings) and b",".join(codings).strip().lower() != b"chunked"
