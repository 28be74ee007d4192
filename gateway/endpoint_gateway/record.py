"""What is known of one request, for metrics and log.

Opened and closed by the pipeline; every layer fills in what it knows. Neither a prompt nor a key
is ever here.
"""

import time

from .usage import Usage

CLIENT_CLOSED = 499
"""nginx's status for a client that left before its answer; it is only ever logged and counted."""


class Record:
    """What is known of one request; times are `time.perf_counter()` seconds.

    `input_bytes` is the size of what the engine reads as text.
    """

    __slots__ = (
        "attempts",
        "began",
        "endpoint",
        "error",
        "first_byte",
        "input_bytes",
        "key",
        "method",
        "path",
        "request_id",
        "route",
        "status",
        "stream",
        "usage",
    )

    def __init__(self, method: str, path: str, request_id: bytes, began: float) -> None:
        self.method = method
        self.path = path
        self.request_id = request_id
        self.began = began
        self.route = "none"
        self.endpoint = ""
        self.key = ""
        self.status = CLIENT_CLOSED
        self.stream = False
        self.attempts = 0
        self.error: str | None = None
        self.first_byte: float | None = None
        self.input_bytes = 0
        self.usage: Usage | None = None

    def saw_byte(self) -> None:
        """Note the time of the first byte of the answer's body."""
        if self.first_byte is None:
            self.first_byte = time.perf_counter()
