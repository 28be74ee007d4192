"""What the gateway knows: endpoints, their replicas and the keys, as immutable values.

Discovery builds a Catalog and swaps it whole; everybody else only reads. Nothing here does I/O.
The dictionaries that a request needs are made once, with the catalog.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

Names = Mapping[str, tuple["Endpoint", ...]]
Credential = bytes | None
"""What an engine is introduced to with; None: with nothing."""


class Replica(NamedTuple):
    """One engine, as one connects to it. A tuple, since it is hashed several times per request."""

    host: str
    port: int


class Timeouts(NamedTuple):
    """An endpoint's own limits on time, in seconds; None leaves the gateway's."""

    connect: float | None = None
    first_byte: float | None = None
    idle: float | None = None
    total: float | None = None


NO_TIMEOUTS = Timeouts()


class Adapter(NamedTuple):
    """A LoRA adapter: the name by which it is selected, and where it is from."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used at most, each at least 1; None: as much as there is."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One InferenceEndpoint (or one of a file) and the replicas of it that are ready.

    `served_names` are those of the spec, the primary one first; empty means that they are not
    known, so that any is passed on. `engine_names` are those of them, and of the adapters, that
    every engine answers to; for any other, such as an alias, `common_name` is sent, which all of
    them know. `hosts` are what else than its name in the cluster leads to it. `matches_model`: a
    request that names it by path or host must name a model of it. `routes` are the only ones that
    it has; empty means all. `by_prefix`: requests whose prompts begin alike go to the same replica.
    `authorizations` are header values for the engines, the likeliest first: while keys change each
    engine takes another one of them. None stands for an engine that wants no key. `created` is in
    seconds since 1970.
    """

    namespace: str
    name: str
    created: int = 0
    served_names: tuple[str, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    matches_model: bool = False
    routes: frozenset[str] = frozenset()
    timeouts: Timeouts = NO_TIMEOUTS
    by_prefix: bool = False
    engine_names: frozenset[str] = frozenset()
    common_name: str = ""
    source: str = ""
    authorizations: tuple[Credential, ...] = (None,)
    replicas: tuple[Replica, ...] = ()
    limits: Limits | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Return every name by which clients call it, the primary one first."""
        adapters = (adapter.name for adapter in self.adapters)
        return (*self.served_names, *adapters, *self.aliases)

    def answers_to(self, model: str) -> bool:
        """Say whether this is one of its models, or its own name."""
        return model in self.models or model in (self.name, self.qualified_name)

    @property
    def qualified_name(self) -> str:
        """Return `namespace/name`, the one name that nobody else can claim."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Key:
    """An API key of the keyring, and what it may use.

    `digest` is the key's SHA-256. `endpoints` are names in `namespace`; None means all of that
    namespace. `everywhere` means every endpoint of the cluster. `expires` is in seconds since 1970.
    `owner` is whose share it uses of what all clients have together.
    """

    digest: bytes
    namespace: str
    name: str
    endpoints: frozenset[str] | None = None
    everywhere: bool = False
    expires: float = inf
    limits: Limits | None = None
    owner: str = ""

    def may_use(self, endpoint: Endpoint) -> bool:
        """Say whether this key opens that endpoint."""
        if self.everywhere:
            return True
        return endpoint.namespace == self.namespace and (
            self.endpoints is None or endpoint.name in self.endpoints
        )

    @property
    def qualified_name(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Catalog:
    """All endpoints, with an index for each way to name one; make it with `Catalog.of`.

    Where several endpoints claim a name they are listed oldest first. `catch_all` is the one
    endpoint of a gateway without a cluster whose models are not known: it takes every model, from
    every key.
    """

    endpoints: tuple[Endpoint, ...] = ()
    qualified: Mapping[tuple[str, str], Endpoint] = field(default_factory=dict)
    named: Names = field(default_factory=dict)
    served: Names = field(default_factory=dict)
    hosts: Names = field(default_factory=dict)
    catch_all: Endpoint | None = None

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint], *, catch_all: Endpoint | None = None) -> "Catalog":
        """Index these endpoints."""
        ordered = tuple(sorted(endpoints, key=age))
        return cls(
            endpoints=ordered,
            qualified={(each.namespace, each.name): each for each in ordered},
            named=_group((each.name, each) for each in ordered),
            served=_group((name, each) for each in ordered for name in each.models),
            hosts=_group((host, each) for each in ordered for host in each.hosts),
            catch_all=catch_all,
        )


def age(endpoint: Endpoint) -> tuple[int, str, str]:
    """Return what endpoints are sorted by, oldest first; the operator has the same rule."""
    return (endpoint.created, endpoint.namespace, endpoint.name)


def _group(claims: Iterable[tuple[str, Endpoint]]) -> dict[str, tuple[Endpoint, ...]]:
    groups: defaultdict[str, list[Endpoint]] = defaultdict(list)
    for name, endpoint in claims:
        groups[name].append(endpoint)
    return {name: tuple(group) for name, group in groups.items()}


Keyring = Mapping[bytes, Key]
"""The keys, by their digests."""
