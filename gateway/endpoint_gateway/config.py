"""The file of a gateway without a cluster: what may stand in it, and what is said of what may not.

Called by settings, which makes one of two variables, and by static. Pure: it reads neither the file
nor a secret, and no message holds a value. Fields have the names and the rules of the objects in a
cluster; contract tests compare them.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from .errors import SettingsError

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
_REMEDIES: Final = {
    "missing": "is required; set it",
    "extra_forbidden": "is not known here; remove it or correct its spelling",
    "string_type": "must be a string; put it in quotes",
    "int_type": "must be a whole number; write it without quotes or a fraction",
    "list_type": "must be a list; put each value on a line of its own after a dash",
    "model_type": "must be a map; write its fields below it, indented",
    "too_short": "must not be empty; add one",
}


def check_url(value: str) -> str:
    """Return the address of a vLLM as it is. Raises ValueError."""
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


def _matches(pattern: str, remedy: str) -> AfterValidator:
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
    _matches(
        "[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
        "must be at most 40 lower-case letters, digits and dashes, beginning with a letter and not"
        " ending with a dash",
    ),
    AfterValidator(_is_free),
]
Namespace = Annotated[
    str, _matches(_LABEL, "must be at most 63 lower-case letters, digits and dashes")
]
KeyName = Annotated[
    str, _matches(NAME, "must be lower-case letters, digits, dashes and dots, without spaces")
]
Model = Annotated[
    str,
    _matches(
        "[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}",
        "must be letters, digits and . _ : / @ + - and begin with a letter or digit",
    ),
]
Host = Annotated[
    str,
    _matches(
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


def parse(text: str) -> Config:
    """Return what a file says. Raises SettingsError with a line for each fault of its fields."""
    try:
        return Config.model_validate(_load(text))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(fault) for fault in error.errors())) from error


class _Loader(yaml.SafeLoader):
    """Refuses a name that is twice in a map, of which the safe loader silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the map that begins here. Raises ComposerError."""
        node = super().compose_mapping_node(anchor)
        names = [str(name.value) for name, _ in node.value]
        if len(set(names)) < len(names):
            raise yaml.composer.ComposerError(problem_mark=node.start_mark)
        return node


def _load(text: str) -> Any:
    """Return the YAML. Raises SettingsError in our words: a parser's quote what may be a key."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(
            f"not YAML{place}; see to indentation, quotes and names that are twice"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError("not YAML; take out what is no text, no date or too deep") from None


def _explain(fault: Any) -> str:
    problem = re.sub("^(Value error, |[A-Z][a-z]+ should )", "", fault["msg"])
    if fault["type"] != "value_error":
        problem = _REMEDIES.get(fault["type"], f"must {problem}")
    return f"{_path(fault['loc']) or 'the file'}: {problem}"


def _path(location: Iterable[int | str]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def contradictions(config: Config) -> Iterator[str]:
    """Yield a line for each field that is good by itself, but not beside the others."""
    yield from _claimed_twice(config.endpoints)
    for number, endpoint in enumerate(config.endpoints):
        if not endpoint.models:
            yield from _wants_models(f"endpoints[{number}]", endpoint, len(config.endpoints))
    names = [(key.namespace, key.name) for key in config.keys]
    for number, key in enumerate(config.keys):
        if names.index((key.namespace, key.name)) < number:
            yield f"keys[{number}].name: another key has it; choose one for each"
        yield from _opens_nothing(f"keys[{number}].endpoints", key, config.endpoints)


def _claimed_twice(endpoints: Iterable[EndpointEntry]) -> Iterator[str]:
    holders: dict[tuple[str, str], int] = {}
    for number, endpoint in enumerate(endpoints):
        for field, scope, name in _claims(endpoint):
            holder = holders.setdefault((scope, name), number)
            if holder != number:
                yield f"endpoints[{number}].{field}: endpoints[{holder}] has it; take another"


def _claims(endpoint: EndpointEntry) -> Iterator[tuple[str, str, str]]:
    """Yield each name that leads to the endpoint: its field, where it must be the only one, it."""
    yield "name", endpoint.namespace, endpoint.name
    access = endpoint.access
    for field, scope, names in (
        ("models", endpoint.namespace, endpoint.models),
        ("adapters", endpoint.namespace, endpoint.adapters),
        ("access.aliases", endpoint.namespace, access.aliases),
        ("access.hosts", "", access.hosts),
    ):
        for number, name in enumerate(names):
            yield f"{field}[{number}]", scope, name


def _wants_models(path: str, endpoint: EndpointEntry, endpoints: int) -> Iterator[str]:
    access = endpoint.access
    if endpoints > 1:
        yield f"{path}.models: is required beside other endpoints; list what its vLLM serves"
    elif endpoint.adapters or access.aliases or access.model_field == "Match":
        yield f"{path}.models: is required with adapters, aliases or modelField; list them"


def _opens_nothing(path: str, key: KeyEntry, endpoints: Iterable[EndpointEntry]) -> Iterator[str]:
    known = {each.name for each in endpoints if each.namespace == key.namespace}
    for number, name in enumerate(key.endpoints):
        if name not in known and name != EVERYWHERE and not (name == "*" and known):
            yield (
                f"{path}[{number}]: no endpoint of namespace {key.namespace} is meant; write the"
                ' name of one, "*" for all of them, or "*/*" for those of all namespaces'
            )
