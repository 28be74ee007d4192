"""What requests have in common that a replica may have cached: how their prompts begin.

Called by the pipeline for endpoints that balance by prefix. Pure. Turns of one conversation have
the same first question, and questions about one text often begin with it; a system prompt is what
all users of a model have in common, so that it tells nobody apart.
"""

from zlib import crc32

import msgspec

from .peek import after_space, value_at
from .shapes import NONE

MESSAGE_BYTES = 1024
"""So much of a conversation's first question counts; what comes after may differ."""

PROMPT_BYTES = 256
"""So much of a prompt counts that is one text: less, since it grows with each turn."""


_MOST_MESSAGES = 100
"""So many are looked through for a user's."""

_USER = msgspec.Raw(b'"user"')


class _Message(msgspec.Struct, gc=False):
    role: msgspec.Raw = NONE
    content: msgspec.Raw = NONE


class _Prompts(msgspec.Struct, gc=False):
    messages: msgspec.Raw = NONE
    prompt: msgspec.Raw = NONE
    input: msgspec.Raw = NONE


_prompts = msgspec.json.Decoder(_Prompts)
_decode = msgspec.json.Decoder(_Message).decode


def affinity_of(body: bytes, model: str | None) -> int | None:
    """Return a number that requests share whose prompts begin alike; None where there is no prompt.

    `body` is valid JSON. `model` keeps adapters apart, which do not share what is cached.
    """
    try:
        begin = _beginning(_prompts.decode(body))
    except msgspec.DecodeError:
        return None  # its engine will say what is wrong with it
    return crc32(begin, crc32((model or "").encode())) if begin else None


def _beginning(prompts: _Prompts) -> bytes:
    if prompts.messages:
        return _first_question(bytes(prompts.messages))
    text = bytes(prompts.input or prompts.prompt)
    if text == b"null":
        return b""
    return _first_question(text) if text.startswith(b"[{") else text[:PROMPT_BYTES]


def _first_question(messages: bytes) -> bytes:
    """Return what a user says first; the first of all where no user says anything.

    They are looked at one by one: a conversation has many, and code in it many more objects.
    """
    if messages[:1] != b"[" or messages[after_space(messages, 1)] == ord("]"):
        return b""
    first, follows = None, 0
    for _ in range(_MOST_MESSAGES):
        start, follows = value_at(messages, follows + 1)
        message = _decode(messages[start:follows])
        if message.role == _USER:
            return bytes(message.content)[:MESSAGE_BYTES]
        first = first or message
        if messages[follows] == ord("]"):
            break
    return bytes(first.content)[:MESSAGE_BYTES] if first else b""
