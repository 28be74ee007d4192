"""Requests of which two parsers could disagree where they end, each with another one inside."""

from __future__ import annotations

from helpers.fake_vllm import LAST_CHUNK, chunk
from helpers.live_server import SECRET, raw_request

OUTER = b'{"model":"tiny","prompt":"outer"}'
INNER = raw_request({"model": "tiny", "prompt": "inner"}, "/v1/completions")
_HEAD = (
    b"POST /v1/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %s\r\n"
    b"content-type: application/json\r\n" % SECRET.encode()
)
LAST = _HEAD + b"connection: close\r\ncontent-length: 0\r\n\r\n"
"""A request that ends its connection, wherever a parser that has not given up yet finds it."""

_CHUNKED = b"transfer-encoding: chunked\r\n"
_ALL = len(OUTER + INNER)


def _by_length(length: bytes) -> bytes:
    return _HEAD + b"content-length:%s\r\n\r\n" % length + OUTER + INNER


def _coded(header: bytes) -> bytes:
    """Chunks for those who see them; a body of their length for others."""
    body = chunk(OUTER) + LAST_CHUNK
    return _HEAD + header + b"content-length: %d\r\n\r\n" % len(body) + body + INNER


def _in_chunks(begin: bytes, end: bytes = LAST_CHUNK) -> bytes:
    return _HEAD + _CHUNKED + b"\r\n" + begin + end + INNER


_SIZE = b"%x" % len(OUTER)

BOTH_LENGTH_AND_CHUNKS = {
    "length over chunks": _HEAD
    + b"content-length: %d\r\n" % (len(chunk(OUTER) + LAST_CHUNK + INNER))
    + _CHUNKED
    + b"\r\n"
    + chunk(OUTER)
    + LAST_CHUNK
    + INNER,
    "chunks over length": _HEAD
    + _CHUNKED
    + b"content-length: 4\r\n\r\n"
    + chunk(OUTER)
    + LAST_CHUNK
    + INNER,
}
LENGTHS = {
    "two lengths": b" %d\r\ncontent-length: %d" % (len(OUTER), _ALL),
    "two lengths, the longer first": b" %d\r\ncontent-length: %d" % (_ALL, len(OUTER)),
    "a list of lengths": b" %d, %d" % (len(OUTER), _ALL),
    "a plus": b" +%d" % len(OUTER),
    "a minus": b" -%d" % len(OUTER),
    "a space within": b" %d 0" % len(OUTER),
    "hexadecimal": b" 0x%x" % len(OUTER),
    "an underscore": b" 3_3",
    "a fraction": b" %d.0" % len(OUTER),
    "nothing": b"",
    "a length that overflows": b" %d" % (len(OUTER) + 2**64),
    "a folded length": b"\r\n %d" % len(OUTER),
}
CODINGS = {
    "xchunked": b"transfer-encoding: xchunked\r\n",
    "chunked in quotes": b'transfer-encoding: "chunked"\r\n',
    "chunked twice": b"transfer-encoding: chunked, chunked\r\n",
    "two codings": _CHUNKED + b"transfer-encoding: identity\r\n",
    "chunked, then another": b"transfer-encoding: chunked, identity\r\n",
    "identity": b"transfer-encoding: identity\r\n",
    "capitals": b"Transfer-Encoding: CHUNKED\r\n",
    "a space before the colon": b"transfer-encoding : chunked\r\n",
    "a space before the name": b" transfer-encoding: chunked\r\n",
    "a tab": b"transfer-encoding:\tchunked\r\n",
    "a space after": b"transfer-encoding: chunked \r\n",
    "a vertical tab": b"transfer-encoding: \x0bchunked\r\n",
    "a zero": b"transfer-encoding: chunked\0\r\n",
    "folded": b"transfer-encoding:\r\n chunked\r\n",
    "after a bare line feed": b"x: y\ntransfer-encoding: chunked\r\n",
    "after a bare carriage return": b"x: y\rtransfer-encoding: chunked\r\n",
    "underscores": b"transfer_encoding: chunked\r\n",
    "named as one of this hop": b"connection: content-length\r\n" + _CHUNKED,
    "with an upgrade": b"connection: upgrade\r\nupgrade: h2c\r\n" + _CHUNKED,
}
CHUNKS = {
    "a size with 0x": b"0x%s\r\n%s\r\n" % (_SIZE, OUTER),
    "a size with a plus": b"+%s\r\n%s\r\n" % (_SIZE, OUTER),
    "a size with an underscore": b"0_%s\r\n%s\r\n" % (_SIZE, OUTER),
    "a size that overflows": b"1%016x\r\n%s\r\n" % (len(OUTER), OUTER),
    "a size before a space": b"%s \r\n%s\r\n" % (_SIZE, OUTER),
    "a line feed after the size": b"%s\n%s\r\n" % (_SIZE, OUTER),
    "a line feed after the chunk": b"%s\r\n%s\n" % (_SIZE, OUTER),
    "more than its size": b"%s\r\n%sxx\r\n" % (_SIZE, OUTER),
    "a line feed in an extension": b"%s;a\nb\r\n%s\r\n" % (_SIZE, OUTER),
    "a quoted extension": b'%s;a="\r\n%s\r\n' % (_SIZE, OUTER),
}
_ENDS = {
    "a line feed after the last chunk": b"0\n\r\n",
    "line feeds after the last chunk": b"0\r\n\n",
    "a trailer that frames": b"0\r\ncontent-length: %d\r\n\r\n" % len(INNER),
    "a trailer with a key": b"0\r\nauthorization: Bearer other\r\n\r\n",
}
OTHERS = {
    "line feeds alone": _HEAD.replace(b"\r\n", b"\n") + b"content-length: 0\n\n" + INNER,
    "HTTP/1.0 that stays": _HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    + b"connection: keep-alive\r\ncontent-length: %d\r\n\r\n" % len(OUTER)
    + OUTER
    + INNER,
    "HTTP/1.0 in chunks": _HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    + b"connection: keep-alive\r\n"
    + _CHUNKED
    + b"\r\n"
    + chunk(OUTER)
    + LAST_CHUNK
    + INNER,
    "HTTP/0.9": b"GET /v1/models\r\n" + INNER,
    "a body where none is": _HEAD.replace(b"POST /v1/completions", b"GET /v1/models")
    + b"content-length: %d\r\n\r\n" % len(INNER)
    + INNER,
    "a body of a HEAD": _HEAD.replace(b"POST /v1/completions", b"HEAD /healthz")
    + b"content-length: %d\r\n\r\n" % len(INNER)
    + INNER,
    "two hosts": _HEAD + b"host: other\r\ncontent-length: %d\r\n\r\n" % len(OUTER) + OUTER,
    "no host": _HEAD.replace(b"host: gateway\r\n", b"")
    + b"content-length: %d\r\n\r\n" % len(OUTER)
    + OUTER,
    "a line end in the path": _HEAD.replace(b"/v1/", b"/v1/%0d%0a%0d%0a") + b"\r\n" + INNER,
    "h2c with a body": _HEAD
    + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    + b"content-length: %d\r\n\r\n" % len(OUTER)
    + OUTER,
    "a body that was not asked for": _HEAD
    + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(OUTER)
    + OUTER
    + INNER,
    "an expectation that there is not": _HEAD
    + b"expect: 200-ok\r\ncontent-length: %d\r\n\r\n" % len(OUTER)
    + OUTER
    + INNER,
}

CORPUS: dict[str, bytes] = {
    **BOTH_LENGTH_AND_CHUNKS,
    **{f"length: {name}": _by_length(length) for name, length in LENGTHS.items()},
    **{f"coding: {name}": _coded(header) for name, header in CODINGS.items()},
    **{f"chunk: {name}": _in_chunks(begin) for name, begin in CHUNKS.items()},
    **{f"end: {name}": _in_chunks(chunk(OUTER), end) for name, end in _ENDS.items()},
    **OTHERS,
}
