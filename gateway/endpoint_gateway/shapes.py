"""The members of requests and answers that the gateway reads, as msgspec reads them.

Used by peek and usage, which say what they mean. They are apart since mypyc, which compiles those
two, can't compile msgspec's structs. Other members of a body are not built.
"""

import msgspec

NONE = msgspec.Raw()


class Body(msgspec.Struct, gc=False):
    """A request's body."""

    model: str | None = None
    stream: bool | None = None
    stream_options: msgspec.Raw = NONE
    suffix: msgspec.Raw = NONE
    # what is large in a request
    messages: msgspec.Raw = NONE
    prompt: msgspec.Raw = NONE
    input: msgspec.Raw = NONE
    documents: msgspec.Raw = NONE


class State(msgspec.Struct):
    """What a request for a response has that an engine would have to remember."""

    background: msgspec.Raw = NONE
    conversation: msgspec.Raw = NONE
    previous_response_id: msgspec.Raw = NONE


class Numbers(msgspec.Struct):
    """What an engine says of tokens; the last two are what responses and messages call them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Part(msgspec.Struct):
    """What has a usage."""

    usage: Numbers | None = None


class Told(Part):
    """An answer or an event: `response` is in the last of a response's, `message` in the first of a
    message's.
    """

    response: Part | None = None
    message: Part | None = None


decode_body = msgspec.json.Decoder(Body).decode
decode_state = msgspec.json.Decoder(State).decode
decode_told = msgspec.json.Decoder(Told).decode
