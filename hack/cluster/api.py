"""A few calls to the API server as its administrator, for waiting and for node status.

Standard library only. Everything that users apply goes through kubectl instead.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class AdminApi:
    """The API server of one cluster; no proxy of the environment is used."""

    def __init__(self, url: str, pki: Path) -> None:
        self._address = urlsplit(url).netloc
        self._pki = pki

    def get(self, path: str) -> Any:
        """The decoded answer, or text where it is not JSON; OSError if it is no success."""
        return self._call("GET", path)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Send a JSON merge patch; OSError if it is no success."""
        self._call("PATCH", path, json.dumps(body))

    def holds(self, path: str, test: Callable[[Any], bool] = bool) -> bool:
        """Whether the path answers and its answer passes the test."""
        try:
            return test(self.get(path))
        except (OSError, ValueError, KeyError):
            return False

    def _call(self, method: str, path: str, body: str | None = None) -> Any:
        context = ssl.create_default_context(cafile=str(self._pki / "ca.crt"))
        context.load_cert_chain(self._pki / "admin.crt", self._pki / "admin.key")
        connection = http.client.HTTPSConnection(self._address, timeout=10, context=context)
        try:
            connection.request(method, path, body, _HEADERS if body else {})
            reply = connection.getresponse()
            raw = reply.read()
        except http.client.HTTPException as broken:
            raise OSError(f"{method} {path}: {broken!r}") from broken
        finally:
            connection.close()
        if reply.status >= 300:
            raise OSError(f"{method} {path}: {reply.status} {raw[:200]!r}")
        return json.loads(raw) if raw[:1] == b"{" else raw.decode()


_HEADERS = {"Content-Type": "application/merge-patch+json"}
