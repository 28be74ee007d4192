"""The gateway's settings, from the environment, once.

Called by `__main__`. The chart sets every variable of `Settings`, and a contract test keeps chart
and model together; `StaticBackend` and CONFIG are for a gateway without a cluster. `--help` shows
them all. A value that can't be used ends the process with a message that names the variable and
the remedy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from .config import KEY, Config, KeyName, check_url, matches
from .errors import SettingsError

PREFIX: Final = "VLLM_ENDPOINTS_"
CONFIG: Final = f"{PREFIX}CONFIG"
CONFIG_MEANING: Final = "file with endpoints and keys, for a gateway without a cluster"

_ONLY_IN_A_CLUSTER = (
    "release_namespace",
    "keyring_secret",
    "root_key_secret",
    "gateway_service",
)
_ORIGIN = r"\*|https?://[A-Za-z0-9.:\[\]-]+"
_PROBLEMS: Final = {
    "missing": "is not set",
    "too_short": "must not be empty",
    "int_parsing": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}
_NO_REDIS_URL = "must be redis://HOST:PORT/DATABASE, or rediss:// with TLS"

M = TypeVar("M", bound=BaseModel)
Seconds = Annotated[int, Field(ge=1, le=86400)]
Port = Annotated[int, Field(ge=1, le=65535)]
Origin = Annotated[
    str, matches(_ORIGIN, "must be SCHEME://HOST[:PORT] without a slash at the end, or *")
]
ClientKey = Annotated[str, matches(KEY, "must be keys without spaces in them, separated by commas")]
EngineKey = Annotated[str, matches(KEY, "must be a key without spaces in it")]


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _check_redis_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        int(parts.path.strip("/") or 0)
    except ValueError as error:
        raise ValueError(_NO_REDIS_URL) from error
    if text and not usable:
        raise ValueError(_NO_REDIS_URL)
    return value


class Settings(BaseModel):
    """What an administrator decides, one field per variable (upper case, with the prefix)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release_namespace: KeyName = Field(description="namespace of the two Secrets below")
    keyring_secret: KeyName = Field(
        description="name of the Secret that tells which API keys are accepted"
    )
    root_key_secret: KeyName = Field(
        description="name of the Secret from whose key the engines' keys derive"
    )
    gateway_service: KeyName = Field(
        description="name of the gateway's own Service, by which it knows how many gateways share "
        "a limit",
    )
    watch_namespaces: Annotated[tuple[KeyName, ...], BeforeValidator(_split)] = Field(
        default=(),
        description="namespaces whose endpoints are served, separated by commas; empty: all",
    )
    gateway_port: Port = Field(default=8080, description="port of the API and of the probes")
    metrics_port: Port = Field(default=9090, description="port of GET /metrics")
    max_body_bytes: int = Field(
        default=33554432, ge=1024, description="largest request body in bytes; a larger one is 413"
    )
    body_memory_bytes: int = Field(
        default=268435456,
        ge=1024,
        description="how much of large bodies is held at a time, in bytes; half of it for the "
        "keys of one namespace (without a cluster: for one key) at most, but always a largest "
        "body; who finds no room waits 10 s for it, then it is 503",
    )
    max_connections: int = Field(
        default=20000,
        ge=16,
        description="connections of clients at a time; one more ends those that are unused for "
        "longest, or is closed where all are in use",
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_split)] = Field(
        default=(),
        description="origins of web pages whose scripts may call the gateway, such as "
        "https://chat.example.com, separated by commas; * allows all",
    )
    connect_timeout_seconds: Seconds = Field(
        default=5, description="time in which a replica of the engine must accept a connection"
    )
    first_byte_timeout_seconds: Seconds = Field(
        default=300, description="time until the first byte of a stream: that of a long prompt"
    )
    idle_timeout_seconds: Seconds = Field(
        default=120, description="longest silence between two pieces of a stream"
    )
    total_timeout_seconds: Seconds = Field(
        default=3600, description="longest duration of a request, retries included"
    )
    drain_seconds: Seconds = Field(
        default=300, description="how long requests may go on after SIGTERM"
    )
    limits_redis_url: Annotated[SecretStr, AfterValidator(_check_redis_url)] = Field(
        default=SecretStr(""),
        description="Redis or Valkey by which all gateways count limits together, "
        "redis://[USER@]HOST:PORT/DATABASE, rediss:// with TLS; empty: each counts its share",
    )
    limits_redis_password: SecretStr = Field(
        default=SecretStr(""), description="password for it, where the URL has none"
    )
    limits_redis_ca_file: str = Field(
        default="",
        description="file with the certificates (PEM) that its own is checked with; empty: those "
        "of the system",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line that is written"
    )

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces to watch, the release's among them; none means all."""
        if not self.watch_namespaces:
            return ()
        return tuple(sorted({self.release_namespace, *self.watch_namespaces}))


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


class StaticBackend(BaseModel):
    """One vLLM and the keys of its users, for a gateway without a cluster."""

    model_config = ConfigDict(frozen=True)

    backend_url: Annotated[str, BeforeValidator(_strip), AfterValidator(check_url)] = Field(
        description="address of the one vLLM behind a gateway without a cluster, http://HOST:PORT"
    )
    api_keys: Annotated[
        tuple[ClientKey, ...],
        BeforeValidator(_split),
        Field(min_length=1),
    ] = Field(description="keys that clients of BACKEND_URL may use, separated by commas")
    backend_api_key: Annotated[EngineKey | None, BeforeValidator(_strip)] = Field(
        default=None,
        description="key that the vLLM at BACKEND_URL wants, if it wants one",
    )

    def config(self) -> Config:
        """Return the file that says the same."""
        endpoint = {
            "name": "default",
            "backends": [self.backend_url],
            "apiKey": self.backend_api_key,
        }
        keys = [
            {"name": f"key-{number}", "key": key}
            for number, key in enumerate(dict.fromkeys(self.api_keys), 1)
        ]
        return Config.model_validate({"endpoints": [endpoint], "keys": keys})


def load_settings(
    environ: Mapping[str, str], *, config: Path | None = None
) -> tuple[Settings, Config | Path | None]:
    """Return the settings, and what is served without a cluster; empty counts as absent.

    `config` is the file that the command line names. Raises SettingsError naming every wrong
    variable.
    """
    static = _static(environ, config)
    given = _given(Settings, environ, prefix=PREFIX)
    if static is not None:
        # without a cluster limits are shared by this namespace, and nothing else is read of these
        given = dict.fromkeys(_ONLY_IN_A_CLUSTER, "none") | given
    elif not any(name in given for name in _ONLY_IN_A_CLUSTER):
        raise SettingsError(
            f"{PREFIX}RELEASE_NAMESPACE: not set; the chart sets it in a cluster; without one, set "
            "BACKEND_URL and API_KEYS to serve one vLLM, or name a file with --config"
        )
    return _validate(Settings, given, prefix=PREFIX), static


def _static(environ: Mapping[str, str], config: Path | None) -> Config | Path | None:
    named = config or environ.get(CONFIG)
    given = _given(StaticBackend, environ)
    if named and given:
        variable = next(iter(given)).upper()
        raise SettingsError(f"{variable}: is set beside a file with all of it; take one of the two")
    if named:
        return Path(named)
    return _validate(StaticBackend, given).config() if given else None


def _given(
    model: type[BaseModel], environ: Mapping[str, str], *, prefix: str = ""
) -> dict[str, str]:
    found = {name: environ.get(prefix + name.upper()) for name in model.model_fields}
    return {name: value for name, value in found.items() if value}


def _validate(model: type[M], given: dict[str, str], *, prefix: str = "") -> M:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = [_explain(model, fault, prefix=prefix) for fault in error.errors()]
        raise SettingsError("\n".join(faults)) from error


def _explain(model: type[BaseModel], fault: Any, *, prefix: str) -> str:
    name = str(fault["loc"][0])
    problem = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in _PROBLEMS:
        problem = _PROBLEMS[fault["type"]].format(**fault.get("ctx", {}))
    if fault["type"] == "int_parsing" and name.endswith("_seconds"):
        problem += " of seconds, such as 300"
    meaning = model.model_fields[name].description
    return f"{prefix}{name.upper()}: {problem}; set it to the {meaning}"


def describe() -> str:
    """Return the settings as text for people."""
    config = f"  {CONFIG}\n      {CONFIG_MEANING}; the same as --config"
    return "\n".join([*_described(Settings, prefix=PREFIX), config, *_described(StaticBackend)])


def _described(model: type[BaseModel], *, prefix: str = "") -> list[str]:
    return [
        f"  {prefix}{name.upper()}\n      {field.description}"
        + ("" if field.is_required() or not field.default else f" (default {field.default})")
        for name, field in model.model_fields.items()
    ]
