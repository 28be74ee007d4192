"""The table of images: names, Dockerfiles, what goes into them, and the key of all that.

The key decides whether an archive in the cache is still what the Dockerfile would give. Base
images and packages are pinned by what the key covers, or change without harm (Debian's fixes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Image:
    """One image: ``sources`` are the files and folders of the repository that it contains."""

    name: str
    reference: str
    dockerfile: str
    sources: tuple[str, ...]
    expect: str

    def key(self) -> str:
        """Changes whenever a file does that goes into the image."""
        digest = hashlib.sha256(self.reference.encode())
        for path in self._files():
            digest.update(f"{path.relative_to(REPOSITORY)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:12]

    def bases(self) -> list[str]:
        """Return the images that its Dockerfile begins from."""
        lines = (REPOSITORY / self.dockerfile).read_text().splitlines()
        return sorted({line.split()[1] for line in lines if line.startswith("FROM ")})

    def _files(self) -> Iterator[Path]:
        for source in (self.dockerfile, *self.sources):
            path = REPOSITORY / source
            found = sorted(path.rglob("*")) if path.is_dir() else [path]
            yield from (p for p in found if p.is_file() and "__pycache__" not in p.parts)


def _part(name: str, *sources: str, expect: str = "less than a minute") -> Image:
    return Image(
        name=name,
        reference=f"localhost/vllm-endpoints/{name}:dev",
        dockerfile=f"{name}/Dockerfile",
        sources=(f"requirements/{name}.txt", f"{name}/endpoint_{name}", "kube/kube_api", *sources),
        expect=expect,
    )


OPERATOR = _part("operator")
GATEWAY = _part(
    "gateway",
    *("requirements/compile.txt", "gateway/mypyc.txt"),
    expect="about 2 min; its hot path is compiled",
)
ENGINE = Image(
    name="engine",
    reference="docker.io/vllm/vllm-openai:v0.32.0-cpu",
    dockerfile="hack/engine/Dockerfile",
    sources=tuple(
        f"hack/engine/{name}"
        for name in (
            *("METADATA", "cuda_stubs.py", "requirements.txt"),
            *("tiny_model.py", "tiny_adapter.py", "tiny_bert.py"),
        )
    ),
    expect="about 3 min; vLLM and torch are 1 GB to download",
)
IMAGES = (OPERATOR, GATEWAY, ENGINE)
