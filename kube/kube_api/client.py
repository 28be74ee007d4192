"""Requests to the API server: plain dicts in, plain dicts out.

One request per call, whose failures become ``kube_api.errors``. It neither retries nor caches: that
is for callers, who know what a failure means to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import orjson

from kube_api.config import Bearer, Config
from kube_api.connection import Connection, Connections, Patience
from kube_api.decoding import decode
from kube_api.errors import ApiError, Gone, Unavailable, from_status
from kube_api.resources import Object, Objects, Resource

REQUEST = Patience(total=30.0)
LONGEST_RETRY_AFTER_SECONDS = 60.0  # whatever stands between us and the API server may say more
JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class KubeClient:
    """A connection pool to one API server; use it as an asynchronous context manager.

    ``before_write`` is called before each request that may change something, to prevent it by an
    error.
    """

    def __init__(
        self,
        config: Config,
        *,
        user_agent: str,
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._connections = Connections(config)
        self._bearer = Bearer(config)
        self._user_agent = user_agent
        self._before_write = before_write

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connections.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Return one object. Raises NotFound and the other ApiErrors."""
        return await self.request("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Objects:
        """Return all objects, each with its apiVersion and kind (lists leave them out)."""
        params = selectors(label_selector, field_selector)
        while True:
            found: Objects = []
            try:
                async for page, _ in self.pages(resource, namespace, params):
                    found += page
            except Gone:
                if not found:
                    raise
            else:
                return found

    async def pages(
        self, resource: Resource, namespace: str | None, params: Mapping[str, str]
    ) -> AsyncIterator[tuple[Objects, str]]:
        """Yield the objects page by page, and the version from which a watch can go on.

        Raises Gone before the last page if that took so long that the rest is forgotten.
        """
        token = ""
        while True:
            query = {**params, "limit": str(resource.page_size)}
            query |= {"continue": token} if token else {}
            page = await self.request("GET", resource.path(namespace), params=query)
            if "items" not in page or "resourceVersion" not in page.get("metadata", {}):
                # not nothing: whoever takes it for an empty list deletes or revokes
                raise Unavailable(0, f"{resource.path(namespace)}: the answer is no list")
            items = page["items"] or []
            for item in items:
                item["apiVersion"], item["kind"] = resource.api_version, resource.kind
            yield items, page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def create(self, resource: Resource, obj: Object) -> Object:
        """Create an object. Raises Conflict where one of that name exists."""
        path = resource.path(obj["metadata"].get("namespace"))
        return await self.request("POST", path, body=obj)

    async def apply(
        self, resource: Resource, obj: Object, *, field_manager: str, force: bool = True
    ) -> Object:
        """Server-side apply: create the object, or own and set exactly the fields given.

        A field that does not exist in the schema is an error (Invalid), not dropped silently.
        """
        meta = obj["metadata"]
        params = {
            "fieldManager": field_manager,
            "force": "true" if force else "false",
            "fieldValidation": "Strict",
        }
        path = resource.path(meta.get("namespace"), meta["name"])
        return await self.request("PATCH", path, params=params, body=obj, content_type=APPLY_PATCH)

    async def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        patch: Object,
        subresource: str = "",
        field_manager: str,
    ) -> Object:
        """Change the given fields of an object, or of its ``status`` or ``scale``."""
        return await self.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            params={"fieldManager": field_manager, "fieldValidation": "Strict"},
            body=patch,
            content_type=MERGE_PATCH,
        )

    async def replace_spec(
        self, resource: Resource, obj: Object, *, version: str, field_manager: str
    ) -> Object:
        """Have nothing in the spec of an object of this version but what is given, and defaults.

        For kinds of Kubernetes itself. Raises Conflict where the version is another.
        """
        meta = obj["metadata"]
        patch = {
            "metadata": {"resourceVersion": version},
            "spec": {"$patch": "replace"} | obj["spec"],
        }
        return await self.request(
            "PATCH",
            resource.path(meta["namespace"], meta["name"]),
            params={"fieldManager": field_manager, "fieldValidation": "Strict"},
            body=patch,
            content_type=STRATEGIC_PATCH,
        )

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str = ""
    ) -> None:
        """Delete an object and, in the background, what it owns; ``uid`` guards against another
        object that meanwhile has its name (Conflict). Raises NotFound."""
        body: Object = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        await self.request("DELETE", resource.path(namespace, name), body=body)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        """Send one request and return the JSON answer, see ``decode``. Raises ApiError."""
        async with self.open(
            method, path, params=params, body=body, content_type=content_type
        ) as answer:
            document = await answer.read()
        try:
            decoded = decode(document)
        except orjson.JSONDecodeError:
            decoded = None
        if not isinstance(decoded, dict):
            raise Unavailable(0, f"{method} {path}: the answer is no object")
        return decoded

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        patience: Patience = REQUEST,
    ) -> AsyncIterator[Connection]:
        """Send one request and give its successful answer while the context lasts.

        Every failure of the connection, within the context too, becomes Unavailable.
        """
        data = orjson.dumps(body) if body is not None else b""
        if method != "GET":
            self._before_write()
        target = self._connections.prefix + quote(path)
        if params:
            target += "?" + urlencode(params)
        head = self._head(f"{method} {target}", content_type if data else "", len(data))
        exchange = self._connections.exchange(
            head + data, repeatable=method == "GET", silence=patience.silence
        )
        try:
            async with asyncio.timeout(patience.total), exchange as answer:
                if answer.status == 401:
                    self._bearer.refused()
                if answer.status >= 300:
                    raise await _error(answer)
                yield answer
        except OSError as error:
            text = str(error) or type(error).__name__
            raise Unavailable(0, f"{method} {path}: {text}") from error

    def _head(self, request: str, content_type: str, length: int) -> bytes:
        lines = [
            f"{request} HTTP/1.1",
            f"Host: {self._connections.netloc}",
            f"User-Agent: {self._user_agent}",
            f"Accept: {JSON}",
            "Accept-Encoding: identity",
        ]
        if content_type:
            lines += [f"Content-Type: {content_type}", f"Content-Length: {length}"]
        if token := self._bearer.token():
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    """Return the query parameters of a list or watch."""
    both = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in both.items() if value}


async def _error(answer: Connection) -> ApiError:
    """Read the Status object of a failure; anything else is dropped, since it may hold secrets."""
    message, reason, pause = answer.reason, "", ""
    try:
        status = orjson.loads(await answer.read())
        message, reason = str(status["message"]), str(status.get("reason", ""))
        pause = str((status.get("details") or {}).get("retryAfterSeconds", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    pause = answer.headers.get("retry-after") or pause
    return from_status(
        answer.status,
        message,
        reason=reason,
        retry_after=min(float(pause), LONGEST_RETRY_AFTER_SECONDS) if pause.isdecimal() else 0,
    )
