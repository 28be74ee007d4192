"""OCI archives: container images as single files, written and read without a container engine.

The images of our own programs need one layer and no base, so no tool is needed to make them;
Dockerfiles are built in ``hack.images``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEDIA_TYPE = "application/vnd.oci.image"
NAME_ANNOTATION = "org.opencontainers.image.ref.name"


def tree_layer(files: dict[str, Path | None], scratch: Path) -> Path:
    """Write a layer of ``{path in image: file or directory}``; None makes an empty /tmp-like one.

    The layer lies in ``scratch``, which the caller removes.
    """
    layer = scratch / "layer.tar"
    with tarfile.open(layer, mode="w") as tar:
        for target, source in files.items():
            if source is None:
                tar.addfile(_directory(target))
            else:
                tar.add(source, target, recursive=True)
    return layer


def write(out: Path, reference: str, layer: Path, config: dict[str, Any]) -> None:
    """Write an archive with one uncompressed layer, under its final name when it is complete."""
    with layer.open("rb") as raw:
        layer_digest = f"sha256:{hashlib.file_digest(raw, 'sha256').hexdigest()}"
    image = _json_blob(_image_config(layer_digest, config))
    manifest = _json_blob(_manifest(image, layer_digest, layer.stat().st_size))
    index = json.dumps(_index(manifest, reference)).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", index)
        for blob in (manifest, image):
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        tar.add(layer, f"blobs/{layer_digest.replace(':', '/')}")
    part.rename(out)


def _directory(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(target.rstrip("/"))
    info.type, info.mode = tarfile.DIRTYPE, 0o1777
    return info


def _image_config(layer_digest: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64",
        "os": "linux",
        "config": {"Env": [PATH]} | config,
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "created": "1970-01-01T00:00:00Z",
        # buildah refuses a base whose history does not count its layers
        "history": [{"created_by": "vllm-endpoints"}],
    }


def _manifest(image: bytes, layer_digest: str, layer_size: int) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA_TYPE}.manifest.v1+json",
        "config": {"mediaType": f"{MEDIA_TYPE}.config.v1+json", **_described(image)},
        "layers": [
            {"mediaType": f"{MEDIA_TYPE}.layer.v1.tar", "digest": layer_digest, "size": layer_size}
        ],
    }


def _index(manifest: bytes, reference: str) -> dict[str, Any]:
    notes = {"io.containerd.image.name": reference, NAME_ANNOTATION: reference}
    entry = {"mediaType": f"{MEDIA_TYPE}.manifest.v1+json", "annotations": notes}
    return {"schemaVersion": 2, "manifests": [entry | _described(manifest)]}


def _described(blob: bytes) -> dict[str, Any]:
    return {"digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json_blob(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
