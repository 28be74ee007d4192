"""How long a request to an engine may take.

Made by dispatch, obeyed by pool while it connects and by upstream's timer from then on. Pure: all
times are the event loop's, in seconds, and are given. Refuses to watch a clock itself.
"""

from dataclasses import dataclass

from .errors import BackendTimeout

TOO_LONG = "The answer took longer than is allowed in total."


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take. `deadline` is in the loop's time and covers everything.

    `first_byte_seconds` and `idle_seconds` are None except for streams: until the first byte of
    the body, and between two of them. `connect_seconds` None leaves the pool's own limit.
    """

    deadline: float
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    connect_seconds: float | None = None

    def limit(self, *, began: float, silent_since: float | None) -> tuple[float, BackendTimeout]:
        """Return the time at which patience ends as things stand, and what to say then.

        `began` is when the request was sent; `silent_since` when the last of its answer's body
        came, None before the first.
        """
        if silent_since is None:
            since, seconds = began, self.first_byte_seconds
            text = "The model's engine did not begin to answer in time."
        else:
            since, seconds = silent_since, self.idle_seconds
            text = "The model's engine fell silent in the middle of its answer."
        if seconds is None or since + seconds >= self.deadline:
            return self.deadline, BackendTimeout(TOO_LONG)
        return since + seconds, BackendTimeout(text)
