"""What the person at the terminal reads: one line per step, with the time it took.

Used by the cluster, the images and the demo. Nothing here decides anything. A step that takes
long repeats its title now and then, so that nobody takes a compiler at work for a hang.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

STARTED = time.monotonic()
HEARTBEAT_SECONDS = 30.0


def say(text: str) -> None:
    """Print one line that begins with the seconds since the program started."""
    print(f"[{time.monotonic() - STARTED:6.1f}s] {text}", flush=True)


@contextlib.contextmanager
def step(title: str, *, expect: str = "") -> Iterator[None]:
    """Time a step and print its line when it ends; an exception passes, marked ``FAILED``.

    ``expect`` announces a long step beforehand, for example ``about 4 min``.
    """
    begun = time.monotonic()
    if expect:
        say(f"{title} ... ({expect})")
    ended = threading.Event()
    threading.Thread(target=_heartbeat, args=(title, ended, begun), daemon=True).start()
    try:
        yield
    except BaseException:
        say(f"{title} FAILED")
        raise
    finally:
        ended.set()
    say(f"{title} ({time.monotonic() - begun:.1f}s)")


def _heartbeat(title: str, ended: threading.Event, begun: float) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        say(f"  ... {title}: at it for {time.monotonic() - begun:.0f} s")
