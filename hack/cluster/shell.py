"""The outermost shell of every command of ``hack``: errors in words, never a traceback.

What a person can act on (ClusterError, a file that may not be touched, a full disk) is printed as
one message; anything else is a fault of ours and stays a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from hack.cluster.processes import ClusterError

REMEDIES: dict[type[OSError], str] = {
    PermissionError: "it belongs to another user: run the same command as that one, or as root",
}


def exit_status(work: Callable[[], None], *, interrupted: str) -> int:
    """Do the work; the exit status. ``interrupted`` is printed when the user stops it."""
    try:
        work()
    except ClusterError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(in_words(error))
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 130
    return 0


def in_words(error: OSError) -> str:
    """What failed, where, and what to do about it as far as that is known."""
    parts = (error.filename, error.strerror or str(error), REMEDIES.get(type(error)))
    return ": ".join(str(part) for part in parts if part)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
