"""What may stand in the file of a gateway without a cluster.

Made by configfile of a text, and by settings of two variables. Pure: it reads neither the file nor
a secret, and no message holds a value. Fields have the names and the rules of the objects in a
cluster; contract tests compare them.
"""

import re
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
)
from pydantic.alias_generators import to_camel

NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
# it becomes a header's value
KEY: Final = r"^[!-~]+$"
EVERYWHERE: Final = "*/*"

RESERVED_NAMES: Final = frozenset({
    "audio", "chat", "classify", "completions", "detokenize", "embeddings", "health", "healthz",
    "images", "invocations", "livez", "load", "messages", "metrics", "models", "openai", "ping",
    "pooling", "readyz", "rerank", "responses", "score", "tokenize", "v1", "v2", "version",
})  # fmt: skip

Route = Literal[
    "chat.completions",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "audio.transcriptions",
    "audio.translations",
    "tokenize",
    "detokenize",
    "pooling",
    "classify",
    "score",
    "rerank",
]

_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DURATION: Final = "[0-9]{1,6}[hms]([0-9]{1,5}[hms]){0,3}"
_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}
_SECRETS: Final = {
    "env": (r"[A-Za-z_]\w*", "{env: VARIABLE}"),
    "file": ("/.+", "{file: /PATH}"),
    "sha256": ("[0-9A-Fa-f]{64}", "{sha256: 64 HEX DIGITS}"),
}
_NO_URL: Final = "must be http://HOST:PORT (TLS towards an engine is not supported)"


def check_url(value: str) -> str:
    """Return the address of a vLLM as it is. Raises ValueError."""
    try:
        parts = urlsplit(value)
        port = parts.port
        # what has a dot too many can't be looked up
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ValueError(_NO_URL) from error
    extra = parts.query or parts.fragment or parts.username is not None
    if parts.scheme != "http" or not parts.hostname or port == 0 or extra:
        raise ValueError(_NO_URL)
    if parts.path.rstrip("/") not in ("", "/v1"):
        raise ValueError(_NO_URL)
    return value


class Secret(NamedTuple):
    """Where a key is: `form` is `text`, `env`, `file` or `sha256`, and `value` what it says."""

    form: str
    value: str


def _secret(*forms: str) -> PlainValidator:
    shown = ", ".join(_SECRETS[form][1] for form in forms)

    def read(value: Any) -> Secret:
        if isinstance(value, str):
            return Secret("text", value)
        if isinstance(value, dict) and len(value) == 1:
            ((form, text),) = value.items()
            if form in forms and re.fullmatch(_SECRETS[form][0], str(text)):
                return Secret(form, str(text))
        raise ValueError(f"must be the key itself in quotes, or one of {shown}")

    return PlainValidator(read)


def _read_duration(value: Any) -> int:
    seconds = 0
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        pieces = re.findall("([0-9]+)(.)", value)
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in pieces)
    if not 1 <= seconds <= 86400:
        raise ValueError("must be a duration from 1s to 24h; write it such as 30s or 10m")
    return seconds


def matches(pattern: str, remedy: str) -> AfterValidator:
    """Return a check that a text is of this pattern, with what to say where it is not."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(remedy)
        return value

    return AfterValidator(check)


def _is_free(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError("is the first part of paths of the gateway's own; choose another name")
    return name


Duration = Annotated[int, PlainValidator(_read_duration)]
Limit = Annotated[int, Field(ge=1, le=1_000_000_000)]
EngineSecret = Annotated[Secret, _secret("env", "file")]
ClientSecret = Annotated[Secret, _secret("env", "file", "sha256")]
EndpointName = Annotated[
    str,
    matches(
        "[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
        "must be at most 40 lower-case letters, digits and dashes, beginning with a letter and not"
        " ending with a dash",
    ),
    AfterValidator(_is_free),
]
Namespace = Annotated[
    str, matches(_LABEL, "must be at most 63 lower-case letters, digits and dashes")
]
KeyName = Annotated[
    str, matches(NAME, "must be lower-case letters, digits, dashes and dots, without spaces")
]
Model = Annotated[
    str,
    matches(
        "[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}",
        "must be letters, digits and . _ : / @ + - and begin with a letter or digit",
    ),
]
Host = Annotated[
    str,
    matches(
        f"(?=.{{1,253}}$){_LABEL}([.]{_LABEL})+",
        "must be a DNS name with a dot, in lower-case letters, without scheme, port or wildcard",
    ),
]
Backend = Annotated[str, AfterValidator(check_url)]


class _Strict(BaseModel):
    """Immutable, without unknown fields or conversions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", alias_generator=to_camel)


class TimeoutsEntry(_Strict):
    """How long the gateway waits for an engine, in seconds."""

    connect: Duration | None = None
    first_byte: Duration | None = None
    idle: Duration | None = None
    total: Duration | None = None


class LimitsEntry(_Strict):
    """How much may be asked for."""

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    max_in_flight: Limit | None = None


class LoadBalancingEntry(_Strict):
    """To which replica a request goes."""

    strategy: Literal["LeastInFlight", "PrefixHash"] = "LeastInFlight"


class AccessEntry(_Strict):
    """An endpoint's policy."""

    aliases: list[Model] = []
    hosts: list[Host] = []
    model_field: Literal["Ignore", "Match"] = "Ignore"
    routes: list[Route] = []
    timeouts: TimeoutsEntry = TimeoutsEntry()
    limits: LimitsEntry = LimitsEntry()
    load_balancing: LoadBalancingEntry = LoadBalancingEntry()


class EndpointEntry(_Strict):
    """Some vLLMs that serve the same; without `models` they are passed any."""

    name: EndpointName
    namespace: Namespace = "default"
    models: list[Model] = []
    adapters: list[Model] = []
    backends: Annotated[list[Backend], Field(min_length=1)]
    api_key: EngineSecret | None = None
    access: AccessEntry = AccessEntry()


class KeyEntry(_Strict):
    """A key of clients; `endpoints` are names in its namespace, `*` for all of them."""

    name: KeyName
    namespace: Namespace = "default"
    key: ClientSecret
    endpoints: Annotated[list[str], Field(min_length=1)] = [EVERYWHERE]
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None
    limits: LimitsEntry = LimitsEntry()


class Config(_Strict):
    """The whole file."""

    endpoints: Annotated[list[EndpointEntry], Field(min_length=1)]
    keys: Annotated[list[KeyEntry], Field(min_length=1)]
