"""How long a request to an engine may take.

Made by dispatch, obeyed by pool while it connects and by upstream's timer from then on. Pure: all
times are the event loop's, in seconds, and are given. Refuses to watch a clock itself.
"""

from .errors import BackendTimeout

_TOO_LONG = "The answer took longer than is allowed in total."
_NOT_BEGUN = "The model's engine did not begin to answer in time."
_FELL_SILENT = "The model's engine fell silent in the middle of its answer."


class Patience:
    """How long one request may take. `deadline` is in the loop's time and covers everything.

    `began` is when the first replica was looked for, however many are asked.
    `first_byte_seconds` and `idle_seconds` are None except for streams: until the first byte of
    the body, and between two of them. `connect_seconds` None leaves the pool's own limit.
    """

    __slots__ = ("began", "connect_seconds", "deadline", "first_byte_seconds", "idle_seconds")

    def __init__(
        self,
        deadline: float,
        first_byte_seconds: float | None = None,
        idle_seconds: float | None = None,
        *,
        began: float,
        connect_seconds: float | None = None,
    ) -> None:
        self.began = began
        self.deadline = deadline
        self.first_byte_seconds = first_byte_seconds
        self.idle_seconds = idle_seconds
        self.connect_seconds = connect_seconds

    def due(self, silent_since: float | None) -> float:
        """Return the time at which patience ends as things stand.

        `silent_since` is when the last of the answer's body came, None before the first.
        """
        since = self.began if silent_since is None else silent_since
        seconds = self.first_byte_seconds if silent_since is None else self.idle_seconds
        return self.deadline if seconds is None else min(since + seconds, self.deadline)

    def verdict(self, silent_since: float | None) -> BackendTimeout:
        """Return what to say when it has ended."""
        if self.due(silent_since) == self.deadline:
            return BackendTimeout(_TOO_LONG)
        return BackendTimeout(_NOT_BEGUN if silent_since is None else _FELL_SILENT)
