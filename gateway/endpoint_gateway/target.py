"""Where a request goes, as its request line and its `Host` say; pure.

Called by inbound when a head is whole.
"""

from urllib.parse import unquote, urlsplit

from .errors import Headers, InvalidRequest

NO_HTTP = "What was sent is not an HTTP/1.1 request."


def read_target(url: bytes, headers: Headers, *, version: str) -> tuple[str, Headers]:
    """Return the path, decoded, and the headers with the `host` that counts.

    That is the target's where it is a whole URL; and there is one host and no other, so that nobody
    between the client and us can have seen another one (RFC 9112, 3.2). Raises InvalidRequest.
    """
    hosts = [name for name, _ in headers].count(b"host")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise InvalidRequest("A request must have exactly one `Host` header.")
    text = url.decode("ascii")
    if not text.startswith("/"):
        authority, text = _parts(text)
        headers = [(b"host", authority), *(each for each in headers if each[0] != b"host")]
    path = text.partition("?")[0]
    return unquote(path) if "%" in path else path, headers


def _parts(url: str) -> tuple[bytes, str]:
    """Return the host (with its port) and the path of a URL."""
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidRequest(NO_HTTP)
    parts = urlsplit(url)
    return parts.netloc.encode("ascii"), parts.path or "/"
