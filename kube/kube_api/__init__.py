"""A small asynchronous Kubernetes API client: session, list and watch, apply.

The operator and the gateway share this package and nothing else. It knows no kind of ours, keeps
no cache and takes no decision; errors are listed in ``kube_api.errors``.
"""

from kube_api.client import KubeClient
from kube_api.config import Config, load_config
from kube_api.decoding import shallow
from kube_api.errors import (
    ApiError,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Unauthorized,
    Unavailable,
)
from kube_api.resources import Object, Resource
from kube_api.watching import Event, EventType, Key, Limits, key_of, watch

__all__ = [
    "ApiError",
    "Config",
    "ConfigError",
    "Conflict",
    "Event",
    "EventType",
    "Forbidden",
    "Gone",
    "Invalid",
    "Key",
    "KubeClient",
    "KubeError",
    "Limits",
    "NotFound",
    "Object",
    "Resource",
    "Unauthorized",
    "Unavailable",
    "key_of",
    "load_config",
    "shallow",
    "watch",
]
