"""Kinds of objects and their addresses in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as it travels: plain JSON, nothing added."""

Objects: TypeAlias = list[Object]


@dataclass(frozen=True)
class Resource:
    """One kind of object; ``group`` is empty for the core API.

    ``page_size``: how many are listed at a time, since all of a page are in memory at once.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    page_size: int = 100

    @property
    def api_version(self) -> str:
        """The value of an object's ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of an object, or of the collection when ``name`` is empty."""
        prefix = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = [prefix + scope, self.plural, name, subresource]
        return "/".join(part for part in parts if part)
