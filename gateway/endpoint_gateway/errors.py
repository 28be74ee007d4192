"""What can end a request, and how each end looks to the client.

    GatewayError                 an answer of our own; everything below is one
    ├── InvalidRequest           400
    │   ├── BodyTooLarge         413
    │   ├── HeadTooLarge         431
    │   └── TooSlow              408
    ├── InvalidApiKey            401
    ├── ModelNotFound            404 model_not_found
    ├── EndpointNotFound         404 endpoint_not_found
    ├── UnknownUrl               404 unknown_url
    ├── MethodNotAllowed         405
    ├── RateLimited              429 with Retry-After
    ├── Unsupported              501
    ├── NoReplica                503 with Retry-After
    ├── NotReady                 503 with Retry-After
    ├── ShuttingDown             503 with Retry-After
    ├── Overloaded               503 with Retry-After
    ├── Internal                 500
    ├── BackendFailed            502
    │   ├── ConnectFailed        nothing was sent, so another replica may be tried
    │   ├── ConnectionLost       the connection ended before the answer did
    │   │   └── EngineGone       and the engine with it
    │   ├── BadAnswer            what came was not HTTP, or over a limit
    │   ├── BackendRefusedUs     the engine did not take the key that we sent
    │   └── AnswerAborted        the engine gave up on the answer
    └── BackendTimeout           504
    ClientGone                   nobody is left to answer
    SharedLimitsAway             nobody can say what other gateways have let through
    SettingsError                the process cannot start like this
    ClusterError                 nor with an API server that refuses it
    CannotListen                 nor where its port is not to be had

Policy: whoever does I/O turns the library's exception into one of these with `raise ... from`; the
pipeline answers a GatewayError, and only the two outermost shells catch anything wider. Texts of
5xx errors name no host and no exception: they are read by the callers of an endpoint, not by the
people who run it.
"""

# ruff: noqa: N818 - each is named as what happened, which its type and code say to the client too

from collections.abc import Iterable

import msgspec

Headers = list[tuple[bytes, bytes]]


class GatewayError(Exception):
    """A request that ends with an answer of our own.

    `status`, `type` and `code` are the contract's; `param` names the offending field of the body.
    """

    status = 500
    type = "internal"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def headers(self) -> Headers:
        """Headers that belong to this kind of answer."""
        return []


class InvalidRequest(GatewayError):
    """The body is not what the route takes."""

    status = 400
    type = "invalid_request"


class BodyTooLarge(InvalidRequest):
    """The body is over the limit."""

    status = 413
    code = "request_too_large"


class HeadTooLarge(InvalidRequest):
    """The request's head, or what else of it is not body, is over the limit."""

    status = 431
    code = "headers_too_large"

    def __init__(self) -> None:
        super().__init__("The request's headers are larger than this gateway takes.")


class TooSlow(InvalidRequest):
    """The request was begun and not completed in time."""

    status = 408
    code = "request_timeout"


class InvalidApiKey(GatewayError):
    """No key, or one that is not in the keyring."""

    status = 401
    type = "authentication"
    code = "invalid_api_key"

    @property
    def headers(self) -> Headers:
        """The challenge that RFC 9110 asks for beside a 401."""
        return [(b"www-authenticate", b'Bearer realm="vllm-endpoints"')]


class ModelNotFound(GatewayError):
    """No endpoint that the key may use serves this model."""

    status = 404
    type = "not_found"
    code = "model_not_found"

    def __init__(self, model: str, *, usable: Iterable[str]) -> None:
        names = ", ".join(f"`{name}`" for name in usable) or "none"
        super().__init__(
            f"The model `{model}` does not exist or is not available to this key. "
            f"Available models: {names}.",
            param="model",
        )


class EndpointNotFound(GatewayError):
    """The URL names an endpoint that the key may not use, or that is not there."""

    status = 404
    type = "not_found"
    code = "endpoint_not_found"

    def __init__(self, name: str, *, usable: Iterable[str]) -> None:
        names = ", ".join(f"`{name}`" for name in usable) or "none"
        super().__init__(
            f"The endpoint `{name}` does not exist or is not available to this key. "
            f"Available endpoints: {names}."
        )


class UnknownUrl(GatewayError):
    """A path that is not in our table."""

    status = 404
    type = "not_found"
    code = "unknown_url"


class MethodNotAllowed(GatewayError):
    """A path of ours, with a method that it does not have."""

    status = 405
    type = "invalid_request"
    code = "method_not_allowed"

    def __init__(self, method: str, *, allowed: str) -> None:
        super().__init__(f"This URL does not take {method}; it takes {allowed}.")
        self._allowed = allowed

    @property
    def headers(self) -> Headers:
        """The methods that there are."""
        return [(b"allow", self._allowed.encode())]


class RateLimited(GatewayError):
    """A limit of the key or the endpoint has no room; `pacing` are headers that tell of limits."""

    status = 429
    type = "rate_limit_exceeded"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_milliseconds: int, pacing: Headers) -> None:
        super().__init__(message)
        self._retry_milliseconds = retry_milliseconds
        self._pacing = pacing

    @property
    def headers(self) -> Headers:
        """When to try again, in whole seconds as HTTP has it and exactly as OpenAI's clients do."""
        return [
            (b"retry-after", b"%d" % -(-self._retry_milliseconds // 1000)),
            (b"retry-after-ms", b"%d" % self._retry_milliseconds),
            *self._pacing,
        ]


class Unsupported(GatewayError):
    """A route of OpenAI's that we know, and that is not served here."""

    status = 501
    type = "unsupported"
    code = "unsupported"


class NoReplica(GatewayError):
    """The endpoint is there, but none of its replicas is ready."""

    status = 503
    type = "backend_unreachable"
    code = "no_ready_replica"

    @property
    def headers(self) -> Headers:
        """When to try again; a fixed guess, since nothing has measured a start here."""
        return [(b"retry-after", b"5")]


class NotReady(NoReplica):
    """This gateway has not heard yet which keys and endpoints there are."""

    code = "gateway_not_ready"


class ShuttingDown(NoReplica):
    """This gateway ends before the answer has; another replica of it will take the next try."""

    code = "shutting_down"


class Overloaded(GatewayError):
    """There is no room for the request's body, and there was none for a while."""

    status = 503
    code = "gateway_overloaded"

    def __init__(self) -> None:
        super().__init__(
            "The gateway holds as many large requests as it can, or this key and those that share "
            "with it have their half of them. Try again later."
        )

    @property
    def headers(self) -> Headers:
        """When to try again."""
        return [(b"retry-after", b"1")]


class Internal(GatewayError):
    """A fault of ours."""


class BackendFailed(GatewayError):
    """The engine could not be reached, or what it sent was no answer."""

    status = 502
    type = "backend_unreachable"
    code = "backend_unreachable"


class ConnectFailed(BackendFailed):
    """No connection to the replica: nothing was sent, so another one may be tried."""


class ConnectionLost(BackendFailed):
    """The connection ended before the answer did.

    `untouched` is true where not one byte of an answer had come.
    """

    def __init__(self, message: str, *, untouched: bool) -> None:
        super().__init__(message)
        self.untouched = untouched


class EngineGone(ConnectionLost):
    """The engine ended while it had the request, which may be why: no other may get it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, untouched=True)


class BadAnswer(BackendFailed):
    """What came was not HTTP/1.1, or was over one of our limits."""


class BackendRefusedUs(BackendFailed):
    """The engine did not take the key that we sent: our fault, not the caller's."""


class AnswerAborted(BackendFailed):
    """The engine ended the answer before it was complete."""

    code = "answer_aborted"


class BackendTimeout(GatewayError):
    """The engine took longer than one of the limits on time."""

    status = 504
    type = "backend_timeout"
    code = "backend_timeout"


class ClientGone(Exception):
    """The client closed its connection before it had sent its request or got its answer."""


class SharedLimitsAway(Exception):
    """The server on which gateways count together is not to be had at the moment."""


class SettingsError(Exception):
    """Environment or file describe no gateway; the message names what is wrong, and remedies."""


class CannotListen(Exception):
    """A port that is taken, or not ours to take."""

    def __init__(self, port: int, *, reason: str) -> None:
        super().__init__(f"port {port} can't be listened on: {reason}")


class ClusterError(Exception):
    """The API server lets us watch nothing; the message says what is missing."""


def envelope(
    message: str, *, kind: str, code: str | None = None, param: str | None = None
) -> bytes:
    """Return OpenAI's error object as JSON."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error})


def render(error: GatewayError) -> bytes:
    """Return the body of an error answer of ours."""
    return envelope(error.message, kind=error.type, code=error.code, param=error.param)
