"""What can go wrong between us and the API server.

    KubeError
    ├── ConfigError      no usable credentials; the message says what to set
    └── ApiError         the API server answered with a failure, or not at all
        ├── Unauthorized    401
        ├── Forbidden       403: a missing RBAC rule
        ├── NotFound        404
        ├── Conflict        409: somebody else was faster, or owns the field
        ├── Gone            410: a watch or a list continuation that is too old
        ├── Invalid         400, 422: the object breaks a rule of its schema; 500 for some such
        └── Unavailable     429, 5xx, time-outs and lost connections: try again later

Only the statuses that some caller treats differently have a class.
"""

from __future__ import annotations


class KubeError(Exception):
    """Base of every error of this package."""


class ConfigError(KubeError):
    """No credentials, or credentials of a kind that this client does not support."""


class ApiError(KubeError):
    """A failed request.

    ``status`` is the HTTP status (0: no answer), ``reason`` the machine-readable reason of the
    API server's Status object, ``retry_after`` the seconds it asked to wait (0: did not say).
    """

    def __init__(
        self, status: int, message: str, *, reason: str = "", retry_after: float = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after = retry_after


class Unauthorized(ApiError):
    """The credentials are not accepted (any more)."""


class Forbidden(ApiError):
    """The identity lacks a permission; the message names it."""


class NotFound(ApiError):
    """The object, or its whole kind, does not exist."""


class Conflict(ApiError):
    """The object exists already, has changed meanwhile, or a field belongs to somebody else."""


class Gone(ApiError):
    """The requested resource version has been compacted: list again."""


class Invalid(ApiError):
    """The object was refused: the message names the field."""


class Unavailable(ApiError):
    """No answer, or one that asks to come back later."""


NO_TYPED_OBJECT = "failed to create typed patch object"
"""How the API server says, with status 500, that an applied field is not in the schema."""

_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unavailable,
}


def from_status(status: int, message: str, *, reason: str = "", retry_after: float = 0) -> ApiError:
    """Return the error class that belongs to an HTTP status."""
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else ApiError)
    if message.startswith(NO_TYPED_OBJECT):
        kind = Invalid
    return kind(status, message, reason=reason, retry_after=retry_after)
