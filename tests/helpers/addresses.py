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


def outward() -> str:
    """Return this machine's address to others, as an EndpointSlice may have it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        host: str = probe.getsockname()[0]
        return host
