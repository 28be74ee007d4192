"""What is read of the cluster's objects: endpoints, EndpointSlices and the keyring.

Called by discovery. Pure. Objects are written by other people, and the API server checks less than
one would wish (a port may be without a number): what is read of them is checked here, so that
nothing that comes out can fail later on.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from datetime import datetime
from math import inf
from typing import Annotated, Any, NamedTuple

import msgspec

from .catalog import Adapter, Endpoint, Key, Keyring, Limits, Replica, Timeouts

ENDPOINT_LABEL = "serving.vllm-endpoints.dev/endpoint"
SERVICE_LABEL = "kubernetes.io/service-name"
_ROOT_KEY_BYTES = 32

Object = dict[str, Any]
Name = tuple[str, str]


class _Part(msgspec.Struct, rename="camel"):
    """A part of an object; what is not named here is not read."""


class _Metadata(_Part):
    namespace: str
    name: str
    uid: str = ""
    creation_timestamp: datetime | None = None
    labels: dict[str, str] | None = None


class _Adapter(_Part):
    name: str
    source: str = ""


class _Model(_Part):
    source: str = ""
    adapters: tuple[_Adapter, ...] | None = None


class _Engine(_Part):
    key_generation: int = 1


class _Spec(_Part):
    model: _Model | None = None
    engine: _Engine | None = None


class _AccessTimeouts(_Part):
    connect_seconds: float | None = None
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None


_Limit = Annotated[int, msgspec.Meta(ge=1)] | None


class _Limits(_Part):
    requests_per_minute: _Limit = None
    tokens_per_minute: _Limit = None
    max_in_flight: _Limit = None


class _LoadBalancing(_Part):
    strategy: str = "LeastInFlight"


class _Access(_Part):
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    model_field: str = "Ignore"
    routes: tuple[str, ...] = ()
    load_balancing: _LoadBalancing | None = None
    timeouts: _AccessTimeouts | None = None
    limits: _Limits | None = None


class _Status(_Part):
    access: _Access | None = None
    served_names: tuple[str, ...] | None = None
    adapters: tuple[str, ...] | None = None
    engine_names: tuple[str, ...] | None = None
    engine_keys: tuple[int, ...] | None = None


class _InferenceEndpoint(_Part):
    metadata: _Metadata
    spec: _Spec | None = None
    status: _Status | None = None


class _Port(_Part):
    name: str | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None


class _Conditions(_Part):
    ready: bool | None = None
    terminating: bool | None = None


class _Target(_Part):
    name: str


class _Address(_Part):
    addresses: tuple[str, ...]
    target_ref: _Target | None = None
    conditions: _Conditions | None = None

    @property
    def takes_requests(self) -> bool:
        """Say whether it is ready and stays; by the API an absent `ready` is to be read as true."""
        conditions = self.conditions or _Conditions()
        return conditions.ready is not False and not conditions.terminating


class _EndpointSlice(_Part):
    metadata: _Metadata
    ports: tuple[_Port, ...] | None = None
    endpoints: tuple[_Address, ...] | None = None


class Described(NamedTuple):
    """What an InferenceEndpoint says: the endpoint, without its replicas, and what its keys are of.

    `generations` are those of the keys that its engines may have, the likeliest first.
    """

    endpoint: Endpoint
    uid: str
    generations: tuple[int, ...]


def parse_endpoint(obj: Object) -> Described | None:
    """Return an endpoint; None where no spec was accepted yet, so that nothing is served.

    Raises ValueError.
    """
    read = msgspec.convert(obj, _InferenceEndpoint)
    status, spec = read.status or _Status(), read.spec or _Spec()
    if not status.served_names:
        return None
    metadata, model = read.metadata, spec.model or _Model()
    access = status.access or _Access()
    balancing = access.load_balancing or _LoadBalancing()
    created = metadata.creation_timestamp
    sources = {adapter.name: adapter.source for adapter in model.adapters or ()}
    adapters = tuple(Adapter(name, sources.get(name, "")) for name in status.adapters or ())
    known = status.served_names if status.engine_names is None else status.engine_names
    endpoint = Endpoint(
        namespace=metadata.namespace,
        name=metadata.name,
        created=int(created.timestamp()) if created else 0,
        served_names=status.served_names,
        adapters=adapters,
        aliases=access.aliases,
        hosts=access.hosts,
        matches_model=access.model_field == "Match",
        routes=frozenset(access.routes),
        by_prefix=balancing.strategy == "PrefixHash",
        timeouts=Timeouts(*msgspec.structs.astuple(access.timeouts or _AccessTimeouts())),
        engine_names=frozenset((*known, *(adapter.name for adapter in adapters))),
        common_name=metadata.name,
        source=model.source,
        limits=_read_limits(access.limits),
    )
    return Described(endpoint, metadata.uid, _generations(spec, status))


def _generations(spec: _Spec, status: _Status) -> tuple[int, ...]:
    """The spec's own comes last, unless it is told of: its engine may be up before it is."""
    running = status.engine_keys or ()
    newest = (spec.engine or _Engine()).key_generation
    return running if newest in running else (*running, newest)


def parse_slice(obj: Object) -> tuple[Name, tuple[Replica, ...]] | None:
    """Return whose engines these are and where; None where the slice is no engine Service's.

    Only what is ready and not terminating: vLLM's /health stays 200 while it drains, so that this
    is the only sign. Raises ValueError.
    """
    read = msgspec.convert(obj, _EndpointSlice)
    labels = read.metadata.labels or {}
    name = labels.get(ENDPOINT_LABEL)
    ports = [
        each.port for each in read.ports or () if each.name == "http" and each.port is not None
    ]
    if name is None or labels.get(SERVICE_LABEL) != f"{name}-engine" or not ports:
        return None
    replicas = tuple(
        Replica(each.addresses[0], ports[0])
        for each in read.endpoints or ()
        if each.addresses and each.takes_requests
    )
    return (read.metadata.namespace, name), replicas


def parse_gateways(obj: Object) -> frozenset[str]:
    """Return the pods of our own Service that take requests, by name. Raises ValueError.

    A pod with addresses of both families is in two slices.
    """
    read = msgspec.convert(obj, _EndpointSlice)
    return frozenset(
        each.target_ref.name if each.target_ref else each.addresses[0]
        for each in read.endpoints or ()
        if each.addresses and each.takes_requests
    )


def parse_root_keys(secret: Object) -> tuple[bytes, ...]:
    """Return the key from which those of engines derive, and the one before it if there is one.

    While there is, engines are given new keys one after the other. What the operator takes for no
    key is none here either. Raises ValueError, KeyError and TypeError.
    """
    data = secret["data"]
    newest, before = _root_key(data["root-key"]), _root_key(data.get("previous-root-key"))
    if not newest:
        raise ValueError("no key")
    return (newest, before) if before else (newest,)


def _root_key(text: Any) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return b""
    return key if len(key) >= _ROOT_KEY_BYTES else b""


def engine_key(root_key: bytes, uid: str, generation: int) -> str:
    """Return a key of the endpoint with this UID; the operator computes the same one."""
    text = f"engine-key/{uid}/{generation}"
    return f"sk-engine-{hmac.digest(root_key, text.encode(), 'sha256').hex()}"


def authorizations(root_keys: Sequence[bytes], described: Described) -> tuple[bytes, ...]:
    """Return the header values that an endpoint's engines may want, the likeliest first."""
    return tuple(
        b"Bearer " + engine_key(root_key, described.uid, generation).encode()
        for root_key in root_keys
        for generation in described.generations
    )


def parse_keyring(document: bytes, *, release_namespace: str) -> Keyring:
    """Return the keys of the operator's keyring. Raises ValueError.

    "*/*" opens the cluster only for keys of the release namespace; whoever may write an ApiKey
    elsewhere would else open all of it.
    """
    content = msgspec.json.decode(document, type=_Keyring)
    if content.version != 1:
        raise ValueError("unknown version")
    keys = (_read_key(entry, release_namespace) for entry in content.keys)
    return {key.digest: key for key in keys}


class _Entry(msgspec.Struct):
    sha256: str
    namespace: str
    name: str
    endpoints: frozenset[str]
    expires: float = inf
    limits: _Limits | None = None


class _Keyring(msgspec.Struct):
    version: int
    keys: list[_Entry]


def _read_key(entry: _Entry, release_namespace: str) -> Key:
    try:
        digest = binascii.unhexlify(entry.sha256)
    except binascii.Error as error:
        raise ValueError("not a digest") from error
    return Key(
        digest=digest,
        namespace=entry.namespace,
        name=entry.name,
        endpoints=None if "*" in entry.endpoints else entry.endpoints,
        everywhere="*/*" in entry.endpoints and entry.namespace == release_namespace,
        expires=entry.expires,
        limits=_read_limits(entry.limits),
        # not the key: whoever may make one may make many
        owner=entry.namespace,
    )


def _read_limits(read: _Limits | None) -> Limits | None:
    return Limits(*msgspec.structs.astuple(read)) if read else None
