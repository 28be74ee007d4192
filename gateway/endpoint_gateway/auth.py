"""Who is calling: a key from the request's headers, looked up in the keyring.

Called by the pipeline before anything else is read. Knows only digests; a key's text is neither
kept nor logged.
"""

from hashlib import sha256
from hmac import compare_digest

from .catalog import Key, Keyring
from .errors import Headers, InvalidApiKey

_NO_KEY = (
    "You didn't provide an API key. Send it as `Authorization: Bearer YOUR_KEY` "
    "or in the header `x-api-key`."
)
_WRONG_KEY = "Incorrect API key provided. It is unknown, has expired or is suspended."


def authenticate(headers: Headers, keyring: Keyring, *, now: float) -> Key:
    """Return the key that came with these headers. Raises InvalidApiKey.

    `now` is in seconds since 1970.
    """
    secret = presented(headers)
    if not secret:
        raise InvalidApiKey(_NO_KEY)
    digest = sha256(secret).digest()
    key = keyring.get(digest)
    if key is None or not compare_digest(digest, key.digest) or now >= key.expires:
        raise InvalidApiKey(_WRONG_KEY)
    return key


def presented(headers: Headers) -> bytes | None:
    """Return the key of `Authorization: Bearer`, else that of `x-api-key`."""
    alternative = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, secret = value.partition(b" ")
            if scheme.lower() == b"bearer" and secret.strip():
                return secret.strip()
        elif name == b"x-api-key":
            alternative = value.strip()
    return alternative
