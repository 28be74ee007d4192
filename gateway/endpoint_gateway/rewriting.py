"""The few changes that are made to a request's body on its way; every other byte stays as it came.

Called by the pipeline. Pure. A change is spliced in where the value lies. Refuses what it can't
read of a value that it must change.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from .errors import InvalidRequest
from .peek import Peeked, members

_COUNTED = b'"stream_options":{"include_usage":true},'
# it is the one member that is built, as whatever a client makes of it
_MOST_OPTIONS_BYTES = 4096


class Rules(NamedTuple):
    """What a route changes.

    `counts`: a stream is made to tell its usage. `drops_suffix`: `suffix`, which vLLM refuses, is
    taken for absent.
    """

    counts: bool = False
    drops_suffix: bool = False


NO_RULES = Rules()


class Rewritten(NamedTuple):
    """A body for an engine. `uninvited` says that it asks for a usage that its client did not."""

    body: bytes
    uninvited: bool


_Edit = tuple[int, int, bytes]


def rewrite(body: bytes, peeked: Peeked, rules: Rules, *, model: str | None) -> Rewritten:
    """Return the body with this model in place of its own (None: as it is), and by these rules.

    Raises InvalidRequest.
    """
    edits: list[_Edit] = []
    if model is not None and peeked.model_span is not None:
        edits.append((*peeked.model_span, msgspec.json.encode(model)))
    counting = list(_made_to_count(body, peeked)) if rules.counts and peeked.stream else []
    edits += counting
    if rules.drops_suffix and peeked.has_suffix:
        edits += [(start, end, b"null") for key, start, end in members(body) if key == "suffix"]
    return Rewritten(_spliced(body, edits) if edits else body, uninvited=bool(counting))


def _made_to_count(body: bytes, peeked: Peeked) -> Iterator[_Edit]:
    """Yield the change after which the stream tells its usage; none where it was asked for."""
    if not peeked.has_stream_options:
        begin = body.index(b"{") + 1
        yield begin, begin, _COUNTED
        return
    for key, start, end in members(body):
        if key == "stream_options":
            if end - start > _MOST_OPTIONS_BYTES:
                raise InvalidRequest("`stream_options` is too large.", param=key)
            options = _decoded(body[start:end])
            if options is None or (isinstance(options, dict) and not options.get("include_usage")):
                # usage in every event is for who asked for it, too
                counting = (options or {}) | {"include_usage": True}
                counting.pop("continuous_usage_stats", None)
                yield start, end, msgspec.json.encode(counting)


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # what was looked for before passes over what is in strings and numbers
        message = "`stream_options` is not valid JSON."
        raise InvalidRequest(message, param="stream_options") from error


def _spliced(body: bytes, edits: list[_Edit]) -> bytes:
    pieces, done = [], 0
    for start, end, text in sorted(edits):
        pieces += [body[done:start], text]
        done = end
    return b"".join([*pieces, body[done:]])
