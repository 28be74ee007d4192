"""The protocols that clients speak here: how each tells an error, and how its answers end.

Routes have one each; client and relay go by it, and sse follows streams with it. Pure. What is not
about an answer's end or an error is the engine's business, and is not known here.

vLLM ends a stream in order, with `[DONE]` or `message_stop`, also after it gave up on it. What
tells that it did is in the event before: a `finish_reason` of "abort", a `stop_reason` that is
null, a `status` of "cancelled".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import GatewayError, envelope, render

Content = dict[str, Any]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What is known of one protocol.

    `may_tell` says whether these bytes could hold an event that says something about the answer's
    end or its usage: it is asked for every event, and must not miss one. `may_abort` is the same
    for an answer that is no stream. The others read what was decoded: `is_end` whether it is the
    last event, in order; `is_error` whether it is an error; `was_aborted` whether the engine gave
    up on the answer that this is, or is a part of. `wrap` makes an error of a text that is not one,
    with an HTTP status and one of the contract's types; `event` the event that tells an error.
    """

    may_tell: Callable[[bytes], bool]
    may_abort: Callable[[bytes], bool]
    is_end: Callable[[Content], bool]
    is_error: Callable[[Content], bool]
    was_aborted: Callable[[Content], bool]
    render: Callable[[GatewayError], bytes]
    wrap: Callable[[str, int, str], bytes]
    event: Callable[[bytes], bytes]


def is_error_object(error: object) -> bool:
    """Say whether this value of `error` is what clients expect there."""
    return isinstance(error, dict) and isinstance(error.get("message"), str)


# -- OpenAI's, but for its responses ----------------------------------------------------------


def _choice_aborted(content: Content) -> bool:
    choices = content.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") == "abort" for choice in choices
    )


def _openai_error(message: str, _status: int, kind: str) -> bytes:
    return envelope(message, kind=kind)


OPENAI = Dialect(
    may_tell=lambda data: (
        b"[DONE]" in data or b'"error"' in data or b'"abort"' in data or b'"usage"' in data
    ),
    may_abort=lambda body: b'"abort"' in body,
    is_end=lambda _content: False,  # `[DONE]` is no JSON
    is_error=lambda content: bool(content.get("error")),
    was_aborted=_choice_aborted,
    render=render,
    wrap=_openai_error,
    event=lambda body: b"data: " + body + b"\n\n",
)


# -- OpenAI's responses -----------------------------------------------------------------------

_GIVEN_UP = frozenset({"cancelled", "failed"})
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _response_aborted(content: Content) -> bool:
    response = content.get("response", content)
    return isinstance(response, dict) and response.get("status") in _GIVEN_UP


RESPONSES = Dialect(
    may_tell=lambda data: (
        b'"response.completed"' in data
        or b'"response.incomplete"' in data
        or b'"response.failed"' in data
        or b'"error"' in data
    ),
    may_abort=lambda body: b'"cancelled"' in body or b'"failed"' in body,
    is_end=lambda content: content.get("type") in _LAST_EVENTS,
    is_error=lambda content: bool(content.get("error")) or content.get("type") == "error",
    was_aborted=_response_aborted,
    render=render,
    wrap=_openai_error,
    event=lambda body: b"event: error\ndata: " + body + b"\n\n",
)


# -- Anthropic's messages ---------------------------------------------------------------------


def _anthropic_error(message: str, status: int, _kind: str = "") -> bytes:
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def _message_aborted(content: Content) -> bool:
    if content.get("type") == "message":
        return content.get("stop_reason") is None
    delta = content.get("delta")
    return (
        content.get("type") == "message_delta"
        and isinstance(delta, dict)
        and delta.get("stop_reason") is None
    )


ANTHROPIC = Dialect(
    may_tell=lambda data: b'"message_stop"' in data or b'"usage"' in data or b'"error"' in data,
    may_abort=lambda body: b'"stop_reason"' in body,
    is_end=lambda content: content.get("type") == "message_stop",
    is_error=lambda content: content.get("type") == "error",
    was_aborted=_message_aborted,
    render=lambda error: _anthropic_error(error.message, error.status),
    wrap=_anthropic_error,
    event=lambda body: b"event: error\ndata: " + body + b"\n\n",
)
