"""One line of somebody else's text as it may stand in a status.

It is short, has no secrets in it, and no identities that are others at each retry.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 300

_SECRETS: Final = (
    (
        re.compile(
            r"\b(hf_|sk-|gh[oprsu]_|github_pat_|glpat-|nvapi-|xox[a-z]-|AIza|eyJ)[\w.-]{4,}"
        ),
        r"\1***",
    ),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{8,}"), r"\1***"),
    (re.compile(r"(://)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (
        re.compile(
            r"(?i)([\w-]*(?:(?:password|secret|api[_-]?key)[\w-]*|token(?![a-z]))"
            # a name in quotes and a colon of its own, as in volume "x" : y, are the kubelet's
            r"(?:['\"]?\s*=|\s*:|['\"]:|['\"]\s+:(?=\s*['\"]))\s*['\"]?)[^\s'\",}]+"
        ),
        r"\1***",
    ),
)


_IDENTITY: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\b[0-9a-f]{64}\b")
"""A UID of Kubernetes, a container's id."""


def quote(text: str) -> str:
    """Return the text on one line, at most 300 characters of it, with secrets struck out."""
    line = _IDENTITY.sub("…", " ".join(text.split()))
    for secret, instead in _SECRETS:
        line = secret.sub(instead, line)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def sentence(text: str) -> str:
    """Return the text as the end of a sentence."""
    said = quote(text).rstrip(". ")
    return said if said.endswith("…") else f"{said}."
