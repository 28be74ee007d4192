"""What requests have in common that a replica may have cached: how their prompts begin.

Called by the pipeline for endpoints that balance by prefix. Pure. Turns of one conversation have
the same first question, and questions about one text often begin with it; a system prompt is what
all users of a model have in common, so that it tells nobody apart.
"""

from zlib import crc32

import msgspec

MESSAGE_BYTES = 1024
"""So much of a conversation's first question counts; what comes after may differ."""

PROMPT_BYTES = 256
"""So much of a prompt counts that is one text: less, since it grows with each turn."""


_MOST_OBJECTS = 10_000
"""So many are looked through; building more would stop the gateway for a while."""

_NONE = msgspec.Raw()
_USER = msgspec.Raw(b'"user"')


class _Message(msgspec.Struct, gc=False):
    role: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE


class _Prompts(msgspec.Struct, gc=False):
    messages: msgspec.Raw = _NONE
    prompt: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE


_prompts = msgspec.json.Decoder(_Prompts)
_messages = msgspec.json.Decoder(list[_Message])


def affinity_of(body: bytes, model: str | None) -> int | None:
    """Return a number that requests share whose prompts begin alike; None where there is no prompt.

    `body` is valid JSON. `model` keeps adapters apart, which do not share what is cached.
    """
    try:
        begin = _beginning(_prompts.decode(body))
    except msgspec.ValidationError:
        return None  # its engine will say what is wrong with it
    return crc32(begin, crc32((model or "").encode())) if begin else None


def _beginning(prompts: _Prompts) -> bytes:
    messages = bytes(prompts.messages)
    text = messages or bytes(prompts.input or prompts.prompt)
    if text == b"null":
        return b""
    if messages or text.startswith(b"[{"):
        return _first_question(text)
    return text[:PROMPT_BYTES]


def _first_question(text: bytes) -> bytes:
    """Return what a user says first; the first of all where no user says anything."""
    if text.count(b"{") > _MOST_OBJECTS:
        return text[:MESSAGE_BYTES]
    messages = _messages.decode(text)
    if not messages:
        return b""
    users = (message for message in messages if message.role == _USER)
    return bytes(next(users, messages[0]).content)[:MESSAGE_BYTES]
