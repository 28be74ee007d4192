"""Where model and adapters come from, as vLLM and the pod need to know it.

What vLLM downloads or streams itself (``hf``, ``s3``, ``gs``) or finds in its image (``file``) is
only a name on its command line; claims (``pvc``) and images (``oci``) become read-only volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from endpoint_operator.api.model import ModelSpec
from endpoint_operator.desired.digests import digest

MODEL_DIRECTORY: Final = "/mnt/model"
ADAPTERS_DIRECTORY: Final = "/mnt/adapters"

STREAMED: Final = frozenset({"s3", "gs"})
"""Schemes of sources that vLLM streams with Run:ai's loader, which its stock image contains."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Volume:
    """A volume that is mounted read-only under a path."""

    name: str
    source: Object
    path: str

    def as_volume(self) -> Object:
        """Return the pod's volume."""
        return {"name": self.name, **self.source}

    def as_mount(self) -> Object:
        """Return the engine's mount of it."""
        return {"name": self.name, "mountPath": self.path, "readOnly": True}


def model_argument(model: ModelSpec) -> str:
    """Return what vLLM gets as its model."""
    if model.scheme == "pvc":
        return _below(MODEL_DIRECTORY, model.location.partition("/")[2])
    if model.scheme == "oci":
        return MODEL_DIRECTORY
    return model.source if model.scheme in STREAMED else model.location


def adapter_arguments(model: ModelSpec) -> dict[str, str]:
    """Return what vLLM gets as each adapter's path, by name and in the order of names."""
    mounted = _claims(model)
    found = {}
    for adapter in sorted(model.adapters, key=lambda adapter: adapter.name):
        claim, _, path = adapter.location.partition("/")
        is_mounted = adapter.scheme == "pvc"
        found[adapter.name] = _below(mounted[claim].path, path) if is_mounted else adapter.location
    return found


def volumes(model: ModelSpec) -> list[Volume]:
    """Return the volumes that hold model and adapters, each claim once."""
    image = [Volume("model", {"image": {"reference": model.location}}, MODEL_DIRECTORY)]
    return [*(image if model.scheme == "oci" else []), *_claims(model).values()]


def _claims(model: ModelSpec) -> dict[str, Volume]:
    """Return the volumes of existing claims by claim: the model's, then the adapters' by name."""
    claims = {}
    if model.scheme == "pvc":
        claim = model.location.partition("/")[0]
        claims[claim] = Volume("model", _claim_source(claim), MODEL_DIRECTORY)
    for claim in sorted(
        adapter.location.partition("/")[0] for adapter in model.adapters if adapter.scheme == "pvc"
    ):
        # a claim's name may be longer than a volume's, and have dots
        volume = Volume(
            f"adapters-{digest(claim)}", _claim_source(claim), f"{ADAPTERS_DIRECTORY}/{claim}"
        )
        claims.setdefault(claim, volume)
    return claims


def _claim_source(claim: str) -> Object:
    # read-only as a whole, not as a mount alone: some drivers attach a disk to many nodes only so
    return {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}


def _below(directory: str, path: str) -> str:
    return f"{directory}/{path}".rstrip("/")
