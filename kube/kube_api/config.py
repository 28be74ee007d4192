"""Where the API server is and who we are: a ServiceAccount in a pod, else a kubeconfig.

Supported in a kubeconfig: client certificates, tokens and token files. Programs that print
credentials (``exec``) are refused with a message, not ignored: neither part of the product
needs them, since both run with a ServiceAccount.
"""

from __future__ import annotations

import base64
import math
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kube_api.errors import ConfigError

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0


@dataclass(frozen=True)
class Config:
    """Address of the API server, how to trust it, and our credentials."""

    server: str
    tls: ssl.SSLContext | None = field(repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None


class Bearer:
    """The token that identifies us; empty when a client certificate does.

    A token file is read again every minute, since kubelet replaces it about once an hour (and
    leaves the old token in force for some minutes), and after the token was refused. While it
    can't be read, the last one counts. ``clock`` counts seconds and never goes back.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = config.token_file
        self._token = config.token
        self._clock = clock
        self._read_again = -math.inf

    def token(self) -> str:
        """Return the current token. Raises ConfigError if there never was one."""
        if self._file is not None and self._clock() >= self._read_again:
            try:
                self._token = self._file.read_text().strip()
                self._read_again = self._clock() + TOKEN_SECONDS
            except OSError as error:
                if not self._token:
                    message = f"cannot read the token file {self._file}: {error}"
                    raise ConfigError(message) from error
        return self._token

    def refused(self) -> None:
        """Take note that the API server does not accept the token."""
        self._read_again = -math.inf


def load_config() -> Config:
    """Return the pod's own configuration inside a cluster, else that of the kubeconfig.

    ``KUBECONFIG`` (one file) wins over ``~/.kube/config``. Raises ConfigError.
    """
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT_DIR / "token").exists():
        return _service_account(SERVICE_ACCOUNT_DIR)
    path = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"not in a pod, and no kubeconfig at {path}: set KUBECONFIG to a readable file"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return from_kubeconfig(content, base=path.parent)


def _service_account(directory: Path) -> Config:
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    return Config(f"https://{host}:{port}", context, token_file=directory / "token")


def from_kubeconfig(content: Any, *, base: Path) -> Config:
    """Read the current context; relative file names count from ``base``. Raises ConfigError."""
    try:
        current = content["current-context"]
        context = _named(content["contexts"], current)["context"]
        cluster = _named(content["clusters"], context["cluster"])["cluster"]
        user = _named(content["users"], context["user"])["user"] or {}
        server = str(cluster["server"]).rstrip("/")
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the kubeconfig lacks {error}: check its current-context") from error
    if "exec" in user or "auth-provider" in user:
        raise ConfigError(
            "the kubeconfig's user runs a credential program, which is not supported: "
            "use a token, e.g. from `kubectl create token`"
        )
    return Config(
        server,
        _tls(cluster, user, base) if server.startswith("https:") else None,
        token=user.get("token", ""),
        token_file=Path(base, user["tokenFile"]) if "tokenFile" in user else None,
    )


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item["name"] == name:
            return item
    raise KeyError(name)


def _tls(cluster: dict[str, Any], user: dict[str, Any], base: Path) -> ssl.SSLContext:
    authority = _pem(cluster, "certificate-authority", base)
    context = ssl.create_default_context(cadata=authority or None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate := _pem(user, "client-certificate", base):
        # Python loads client certificates from files only
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(certificate + "\n" + _pem(user, "client-key", base))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(section: dict[str, Any], key: str, base: Path) -> str:
    """Return inline data, or the content of the file, or nothing."""
    if data := section.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    if name := section.get(key):
        try:
            return Path(base, name).read_text()
        except OSError as error:
            raise ConfigError(f"the kubeconfig names {name}: {error}") from error
    return ""
