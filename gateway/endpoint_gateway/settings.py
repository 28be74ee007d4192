"""The gateway's settings, from the environment, once.

Called by `__main__`. The chart sets every variable of `Settings`, and a contract test keeps chart
and model together; `StaticBackend` is for a gateway without a cluster. `--help` shows both. A
value that can't be used ends the process with a message that names the variable and the remedy.
"""

from collections.abc import Mapping
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

from .errors import SettingsError

PREFIX: Final = "VLLM_ENDPOINTS_"

_ONLY_IN_A_CLUSTER = (
    "release_namespace",
    "keyring_secret",
    "root_key_secret",
    "gateway_service",
)
_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_ORIGIN = r"^(\*|https?://[A-Za-z0-9.:\[\]-]+)$"
# it becomes a header's value
_KEY = r"^[!-~]+$"
_NO_REDIS_URL = "must be redis://HOST:PORT/DATABASE, or rediss:// with TLS"
_NO_URL = "must be http://HOST:PORT (TLS towards an engine is not supported)"

M = TypeVar("M", bound=BaseModel)
Seconds = Annotated[int, Field(ge=1, le=86400)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=_NAME)]
Origin = Annotated[str, Field(pattern=_ORIGIN)]


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

    release_namespace: str = Field(pattern=_NAME, description="namespace of the two Secrets below")
    keyring_secret: str = Field(
        pattern=_NAME, description="name of the Secret that tells which API keys are accepted"
    )
    root_key_secret: str = Field(
        pattern=_NAME, description="name of the Secret from whose key the engines' keys derive"
    )
    gateway_service: str = Field(
        pattern=_NAME,
        description="name of the gateway's own Service, by which it knows how many gateways share "
        "a limit",
    )
    watch_namespaces: Annotated[tuple[Name, ...], BeforeValidator(_split)] = Field(
        default=(),
        description="namespaces whose endpoints are served, separated by commas; empty: all",
    )
    gateway_port: Port = Field(default=8080, description="port of the API and of the probes")
    metrics_port: Port = Field(default=9090, description="port of GET /metrics")
    max_body_bytes: int = Field(
        default=33554432, ge=1024, description="largest request body in bytes; a larger one is 413"
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
        "redis://HOST:PORT/DATABASE; empty: each counts its share",
    )
    limits_redis_password: SecretStr = Field(
        default=SecretStr(""), description="password for it, where the URL has none"
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


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(_NO_URL) from error
    extra = parts.query or parts.fragment or parts.username is not None
    if parts.scheme != "http" or not parts.hostname or port == 0 or extra:
        raise ValueError(_NO_URL)
    if parts.path.rstrip("/") not in ("", "/v1"):
        raise ValueError(_NO_URL)
    return value


class StaticBackend(BaseModel):
    """One vLLM and the keys of its users, for a gateway without a cluster."""

    model_config = ConfigDict(frozen=True)

    backend_url: Annotated[str, BeforeValidator(_strip), AfterValidator(_check_url)] = Field(
        description="address of the one vLLM behind a gateway without a cluster, http://HOST:PORT"
    )
    api_keys: Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1)] = Field(
        description="keys that clients of BACKEND_URL may use, separated by commas"
    )
    backend_api_key: Annotated[str | None, BeforeValidator(_strip)] = Field(
        default=None,
        pattern=_KEY,
        description="key that the vLLM at BACKEND_URL wants, if it wants one",
    )


def load_settings(environ: Mapping[str, str]) -> tuple[Settings, StaticBackend | None]:
    """Return the settings, and the static backend if one is given; empty counts as absent.

    Raises SettingsError naming every wrong variable.
    """
    backend = None
    given = _given(Settings, environ, prefix=PREFIX)
    if any(_given(StaticBackend, environ)):
        backend = _validate(StaticBackend, _given(StaticBackend, environ))
        # nobody reads these without a cluster
        given = dict.fromkeys(_ONLY_IN_A_CLUSTER, "none") | given
    elif not any(name in given for name in _ONLY_IN_A_CLUSTER):
        raise SettingsError(
            f"{PREFIX}RELEASE_NAMESPACE: not set; the chart sets it in a cluster; without one, set "
            "BACKEND_URL and API_KEYS to serve one vLLM"
        )
    return _validate(Settings, given, prefix=PREFIX), backend


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
    meaning = model.model_fields[name].description
    return f"{prefix}{name.upper()}: {problem}; set it to the {meaning}"


def describe() -> str:
    """Return the settings as text for people."""
    return "\n".join(_described(Settings, prefix=PREFIX) + _described(StaticBackend))


def _described(model: type[BaseModel], *, prefix: str = "") -> list[str]:
    return [
        f"  {prefix}{name.upper()}\n      {field.description}"
        + ("" if field.is_required() or not field.default else f" (default {field.default})")
        for name, field in model.model_fields.items()
    ]
