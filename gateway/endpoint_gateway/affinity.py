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


_NONE = msgspec.Raw()
_USER = msgspec.Raw(b'"user"')


class _Prompts(msgspec.Struct, gc=False):
    messages: msgspec.Raw = _NONE
    prompt: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE


class _Message(msgspec.Struct, gc=False):
    role: msgspec.Raw = _NONE


_prompts = msgspec.json.Decoder(_Prompts)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_message = msgspec.json.Decoder(_Message)


def affinity_of(body: bytes, model: str | None) -> int | None:
    """Return a number that requests share whose prompts begin alike; None where there is no prompt.

    `body` is valid JSON. `model` keeps adapters apart, which do not share what is cached.
    """
    prompts = _prompts.decode(body)
    text = bytes(prompts.messages or prompts.input or prompts.prompt)
    if text in (b"", b"null"):
        return None
    is_list = text.startswith(b"[")
    begin = _first_question(text)[:MESSAGE_BYTES] if is_list else text[:PROMPT_BYTES]
    return crc32(begin, crc32((model or "").encode()))


def _first_question(text: bytes) -> bytes:
    """Return the first message of a user; the first of all where there is none."""
    messages = [bytes(message) for message in _items.decode(text)]
    for message in messages:
        if message.startswith(b"{") and _message.decode(message).role == _USER:
            return message
    return messages[0] if messages else b""
