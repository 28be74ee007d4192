"""Checks objects against the types of the Kubernetes API, without a cluster.

The types are those of the official Python client, which is generated from the API's own
description and allows no unknown field. What only the API server knows (names, references, rules
between fields) is the business of the tier with a real one.
"""

from __future__ import annotations

import importlib
from typing import Any

from pydantic import BaseModel, ValidationError


def kubernetes_faults(obj: dict[str, Any]) -> list[str]:
    """Return what is wrong with an object, a line per fault with the path of the field."""
    try:
        _model(obj["apiVersion"], obj["kind"]).model_validate(obj)
    except ValidationError as error:
        return [
            f"{obj['kind']}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors()
        ]
    return []


def _model(api_version: str, kind: str) -> type[BaseModel]:
    version = api_version.rpartition("/")[2]
    models = importlib.import_module("kubernetes.client")
    model: type[BaseModel] = getattr(models, version[0].upper() + version[1:] + kind)
    return model
