"""What is read of the cluster's objects: endpoints, EndpointSlices and the keyring.

Called by discovery. Pure. Objects are written by other people, and the API server checks less than
one would wish (a port may be without a number): what is read of them is checked here, so that
nothing that comes out can fail later on.
"""

import binascii
import hmac
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from .catalog import Endpoint, Key, Keyring, Replica

ENDPOINT_LABEL = "serving.vllm-endpoints.dev/endpoint"
_SERVICE_LABEL = "kubernetes.io/service-name"

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


class _Model(_Part):
    source: str = ""


class _Spec(_Part):
    model: _Model | None = None


class _Status(_Part):
    served_names: tuple[str, ...] | None = None


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


class _Address(_Part):
    addresses: tuple[str, ...]
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


def parse_endpoint(obj: Object) -> tuple[str, Endpoint] | None:
    """Return UID and endpoint; None where no spec was accepted yet, so that nothing is served.

    Raises ValueError.
    """
    read = msgspec.convert(obj, _InferenceEndpoint)
    served_names = read.status.served_names if read.status else None
    if not served_names:
        return None
    metadata = read.metadata
    created = metadata.creation_timestamp
    return metadata.uid, Endpoint(
        namespace=metadata.namespace,
        name=metadata.name,
        created=int(created.timestamp()) if created else 0,
        served_names=served_names,
        source=read.spec.model.source if read.spec and read.spec.model else "",
    )


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
    if name is None or labels.get(_SERVICE_LABEL) != f"{name}-engine" or not ports:
        return None
    replicas = tuple(
        Replica(each.addresses[0], ports[0])
        for each in read.endpoints or ()
        if each.addresses and each.takes_requests
    )
    return (read.metadata.namespace, name), replicas


def engine_key(root_key: bytes, uid: str) -> str:
    """Return the key of the endpoint with this UID; the operator computes the same one."""
    digest = hmac.new(root_key, f"engine-key/{uid}/1".encode(), sha256).hexdigest()
    return f"sk-engine-{digest}"


def parse_keyring(document: bytes, *, release_namespace: str) -> Keyring:
    """Return the keys of the operator's keyring. Raises ValueError, KeyError, TypeError.

    "*/*" opens the cluster only for keys of the release namespace; whoever may write an ApiKey
    elsewhere would else open all of it.
    """
    content = msgspec.json.decode(document)
    if content["version"] != 1:
        raise ValueError("unknown version")
    keys = (_parse_key(entry, release_namespace) for entry in content["keys"])
    return {key.digest: key for key in keys}


def _parse_key(entry: Object, release_namespace: str) -> Key:
    names = frozenset(entry["endpoints"])
    try:
        digest = binascii.unhexlify(entry["sha256"])
    except binascii.Error as error:
        raise ValueError("not a digest") from error
    return Key(
        digest=digest,
        namespace=entry["namespace"],
        name=entry["name"],
        endpoints=None if "*" in names else names,
        everywhere="*/*" in names and entry["namespace"] == release_namespace,
    )
