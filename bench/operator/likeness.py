"""Whether two contestants made the same children, as the API server has them. Pure.

Left out is what can't be the same (identities, times, keys) and what our operator notes for itself:
annotations of our group and the digests in names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bench.operator.endpoints import GROUP, Object

DIGEST: Final = re.compile(r"(-engine)-[0-9a-f]{16}\b")
LONGEST_VALUE: Final = 200
KEPT_METADATA: Final = ("name", "namespace", "labels")


def differences(ours: Sequence[Object], others: Sequence[Object]) -> list[str]:
    """Return where the children differ, a line for each place, with both values."""
    return list(_differ("", _comparable(ours), _comparable(others)))


def _comparable(children: Sequence[Object]) -> dict[str, Object]:
    plain = [json.loads(DIGEST.sub(r"\1-DIGEST", json.dumps(child))) for child in children]
    return {f"{child['kind']} {child['metadata']['name']}": _essence(child) for child in plain}


def _essence(child: Object) -> Object:
    meta = child["metadata"]
    kept = {key: value for key, value in child.items() if key not in ("metadata", "status", "data")}
    if child["kind"] == "Deployment":
        annotations = kept["spec"]["template"]["metadata"].pop("annotations", {})
        kept["spec"]["template"]["metadata"]["annotations"] = _foreign(annotations)
    return kept | {
        "metadata": {key: meta.get(key) for key in KEPT_METADATA},
        "annotations": _foreign(meta.get("annotations", {})),
        "owners": [owner | {"uid": ""} for owner in meta.get("ownerReferences", ())],
        "data": sorted(child.get("data", {})) if child["kind"] == "Secret" else child.get("data"),
    }


def _foreign(annotations: dict[str, str]) -> dict[str, str]:
    ours = (f"{GROUP}/", "deployment.kubernetes.io/")
    return {key: value for key, value in annotations.items() if not key.startswith(ours)}


def _differ(path: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differ(f"{path}.{key}" if path else key, one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, its) in enumerate(zip(one, other, strict=True)):
            yield from _differ(f"{path}[{number}]", mine, its)
    elif one != other:
        yield f"  {path}: ours {_shown(one)}, the peer's {_shown(other)}"


def _shown(value: Any) -> str:
    return json.dumps(value)[:LONGEST_VALUE]
