"""This machine's own addresses."""

from __future__ import annotations

import socket


def loopbacks() -> list[str]:
    """Return the hosts, as a URL has them, by which this machine reaches itself."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]  # IPv6 is switched off
    return ["127.0.0.1", "[::1]"]
