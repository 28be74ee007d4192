"""Endpoints and keys without a cluster: from a configuration to a catalog and a keyring.

Run by app. Reads the file and the secrets that it names, and reads them again when they change; a
file of no use leaves in force what was before. What it makes is what discovery makes of a cluster,
so that requests know no difference.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from .catalog import Adapter, Catalog, Endpoint, Key, Keyring, Limits, Replica, Timeouts
from .config import EVERYWHERE, KEY, Config, EndpointEntry, KeyEntry, LimitsEntry, Secret
from .configfile import parse
from .contradictions import contradictions
from .errors import SettingsError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
"""Between two looks at the file. It is read when two in a row see the same: written to its end."""

_State = tuple[int, int, int] | None


class Known(NamedTuple):
    """All that a configuration says."""

    catalog: Catalog
    keyring: Keyring


class StaticDirectory:
    """A configuration that does not change."""

    ready = True
    gateways = 1

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.catalog, self.keyring = known(config, environ)


class FileDirectory:
    """A file, and what it said when it was last of use. Making one raises SettingsError."""

    ready = True
    gateways = 1

    def __init__(
        self, path: Path, environ: Mapping[str, str], *, on_change: Callable[[Known], None]
    ) -> None:
        self._path = path
        self._environ = environ
        self._on_change = on_change
        self._read_at: dict[Path, _State] = {}
        self.catalog, self.keyring = self._read()
        self._last_look = self._read_at

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Read the file if it is another one, unless it was yet another at the last look."""
        look = {path: _state(path) for path in self._read_at}
        if look == self._last_look and look != self._read_at:
            self.reload()
        self._last_look = look

    def reload(self) -> None:
        """Read the file; take all of it over, or nothing and say why."""
        try:
            new = self._read()
        except SettingsError as error:
            faults = str(error).replace("\n", "; ")
            logger.error("what was before stays in force: %s", faults)
            return
        self.catalog, self.keyring = new
        self._on_change(new)
        counts = len(new.catalog.endpoints), len(new.keyring)
        logger.info("%s is in force: %d endpoints, %d keys", self._path, *counts)

    def _read(self) -> Known:
        self._read_at = {self._path: _state(self._path)}
        try:
            config = parse(self._path.read_text(encoding="utf-8"))
            for path in _files(config):
                self._read_at[path] = _state(path)
            return known(config, self._environ, created=_seconds(self._read_at[self._path]))
        except OSError as error:
            raise SettingsError(f"{self._path}: can't be read ({error.strerror})") from error
        except UnicodeDecodeError:
            raise SettingsError(f"{self._path}: is not text in UTF-8") from None
        except SettingsError as error:
            faults = str(error).splitlines()
            raise SettingsError("\n".join(f"{self._path}: {fault}" for fault in faults)) from error


def _state(path: Path) -> _State:
    """Return what is another when a file is, also where a link on the way to it is swapped."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a path may have what none can
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _seconds(state: _State) -> int:
    """Return when the file was last changed, in seconds since 1970."""
    return state[0] // 10**9 if state else 0


def _files(config: Config) -> Iterator[Path]:
    secrets = (each.api_key for each in config.endpoints), (each.key for each in config.keys)
    for secret in (*secrets[0], *secrets[1]):
        if secret is not None and secret.form == "file":
            yield Path(secret.value)


def known(config: Config, environ: Mapping[str, str], *, created: int = 0) -> Known:
    """Return the catalog and the keyring of a configuration.

    `created` is what its models say of their age, in seconds since 1970. Raises SettingsError with
    a line for each contradiction, and for each secret of no use.
    """
    faults = list(contradictions(config))
    endpoints: list[Endpoint] = []
    keyring: dict[bytes, Key] = {}
    for number, entry in enumerate(config.endpoints):
        with _noting(faults, f"endpoints[{number}].apiKey"):
            endpoints.append(_endpoint(entry, environ, created=created))
    for number, each in enumerate(config.keys):
        with _noting(faults, f"keys[{number}].key"):
            key = _key(each, environ)
            if keyring.setdefault(key.digest, key) is not key:
                raise ValueError("is the same as that of another; use one for each")
    if faults:
        raise SettingsError("\n".join(faults))
    # there is no other then, and no key that may not use it
    takes_any = next((each for each in endpoints if not each.served_names), None)
    return Known(Catalog.of(endpoints, catch_all=takes_any), keyring)


@contextmanager
def _noting(faults: list[str], path: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        faults.append(f"{path}: {error}")


def _endpoint(entry: EndpointEntry, environ: Mapping[str, str], *, created: int) -> Endpoint:
    access, models, adapters = entry.access, tuple(entry.models), tuple(entry.adapters)
    addresses = [urlsplit(backend) for backend in entry.backends]
    replicas = [Replica(each.hostname or "", each.port or 80) for each in addresses]
    secret = _read_secret(entry.api_key, environ) if entry.api_key else None
    return Endpoint(
        namespace=entry.namespace,
        name=entry.name,
        created=created,
        served_names=models,
        adapters=tuple(Adapter(name, "") for name in adapters),
        aliases=tuple(access.aliases),
        hosts=tuple(access.hosts),
        matches_model=access.model_field == "Match",
        routes=frozenset(access.routes),
        by_prefix=access.load_balancing.strategy == "PrefixHash",
        timeouts=Timeouts(**access.timeouts.model_dump()),
        engine_names=frozenset(models + adapters),
        common_name=models[0] if models else "",
        authorizations=(f"Bearer {secret}".encode() if secret else None,),
        replicas=tuple(dict.fromkeys(replicas)),
        limits=_limits(access.limits),
    )


def _key(entry: KeyEntry, environ: Mapping[str, str]) -> Key:
    if entry.key.form == "sha256":
        digest = bytes.fromhex(entry.key.value)
    else:
        digest = sha256(_read_secret(entry.key, environ).encode()).digest()
    return Key(
        digest=digest,
        namespace=entry.namespace,
        name=entry.name,
        endpoints=None if "*" in entry.endpoints else frozenset(entry.endpoints),
        everywhere=EVERYWHERE in entry.endpoints,
        expires=entry.expires_at.timestamp() if entry.expires_at else inf,
        limits=_limits(entry.limits),
        # they are all from one hand, which has no reason to make many
        owner=f"{entry.namespace}/{entry.name}",
    )


def _limits(entry: LimitsEntry) -> Limits | None:
    limits = Limits(entry.requests_per_minute, entry.tokens_per_minute, entry.max_in_flight)
    return None if limits == Limits() else limits


def _read_secret(secret: Secret, environ: Mapping[str, str]) -> str:
    """Return a key. Raises ValueError, whose text holds nothing of it."""
    text = secret.value
    if secret.form == "env":
        text = environ.get(secret.value, "")
        if not text:
            raise ValueError("this environment variable is not set; set it to the key")
    elif secret.form == "file":
        try:
            text = Path(secret.value).read_bytes().decode("latin-1")
        except OSError as error:
            raise ValueError(f"this file can't be read ({error.strerror})") from error
    text = text.strip()
    if not re.fullmatch(KEY, text):
        raise ValueError("must be ASCII signs without spaces between them, and not be empty")
    return text
