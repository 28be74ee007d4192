"""The story of a request: authenticate, peek, route, dispatch, relay.

Called by routes with the row of the URL table that matched. The nesting of `async with` here is
the lifetime of everything that a request holds; it is all given back on the way out, whatever
happens. This is also the inner of the two shells: no failure of ours leaves it without an answer.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol

import msgspec

from . import models, routing
from .auth import authenticate
from .catalog import Catalog, Endpoint, Key, Keyring
from .client import Reply, Watch, read_body
from .dispatch import Dispatcher, Request
from .errors import (
    ClientGone,
    GatewayError,
    Internal,
    ModelNotFound,
    ShuttingDown,
    Unsupported,
)
from .exchange import Exchange
from .headers import Headers, find, request_id
from .metrics import AccessLog, Metrics, Record
from .peek import peek
from .relay import read_whole, relay

logger = logging.getLogger(__name__)


class Directory(Protocol):
    """Where the catalog and the keyring of this moment are found."""

    @property
    def catalog(self) -> Catalog:
        """The endpoints."""

    @property
    def keyring(self) -> Keyring:
        """The keys."""


class Action(Protocol):
    """What a row of the URL table does: one of the methods of Pipeline."""

    async def __call__(self, call: "Call") -> None:
        """Answer this call. Raises GatewayError and ClientGone."""


@dataclass(slots=True)
class Call:
    """One request on its way through the gateway.

    `segment` is the endpoint that the path names, if it names one; `model` the rest of a path that
    ends in a model's name; `upstream` the path on the engine.
    """

    exchange: Exchange
    reply: Reply
    record: Record
    segment: str | None = None
    model: str | None = None
    upstream: str = ""

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return self.exchange.headers


class Pipeline:
    """Answers requests. Built once, in the composition root."""

    def __init__(
        self,
        *,
        directory: Directory,
        dispatcher: Dispatcher,
        metrics: Metrics,
        access_log: AccessLog,
        max_body_bytes: int,
    ) -> None:
        self._directory = directory
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._access_log = access_log
        self._max_body_bytes = max_body_bytes

    def call(self, exchange: Exchange) -> Call:
        """Begin a request's record."""
        identity = request_id(exchange.headers)
        record = Record(
            method=exchange.method, path=exchange.path, request_id=identity.decode("ascii")
        )
        return Call(exchange, Reply(exchange, request_id=identity, record=record), record)

    async def run(self, action: Action, call: Call) -> None:
        """Carry out this action, see that it is answered, and write down how it went."""
        self._metrics.begin()
        try:
            await self._answered(action, call)
        except ClientGone:
            call.record.error = "client_gone"
        finally:
            now = time.perf_counter()
            self._metrics.end(call.record, now=now)
            self._access_log.write(call.record, now=now)

    async def _answered(self, action: Action, call: Call) -> None:
        try:
            await action(call)
        except GatewayError as error:
            call.reply.fail(error)
        except asyncio.CancelledError:
            # the server's drain budget is spent, and this is where its task ends: raised on, it
            # would be logged as a failure of ours
            call.reply.fail(ShuttingDown("The gateway is shutting down. Try again."))
        except ClientGone:
            raise
        except Exception:
            # the inner shell: a fault of ours is answered, and told to those who can mend it
            logger.exception("request %s failed", call.record.request_id)
            call.reply.fail(Internal("The gateway failed. The request id tells its log."))

    def key_of(self, call: Call) -> Key:
        """Authenticate. Raises InvalidApiKey."""
        key = authenticate(call.headers, self._directory.keyring, now=time.time())
        call.record.key = f"{key.namespace}/{key.name}" if key.namespace else key.name
        return key

    async def infer(self, call: Call) -> None:
        """Pass a JSON request on to the endpoint that it means, and its answer back."""
        key = self.key_of(call)
        body = await read_body(call.exchange, limit=self._max_body_bytes)
        peeked = peek(body)
        endpoint = self._addressed(call, key) or routing.by_model(
            self._directory.catalog, key, peeked.model
        )
        call.record.stream = peeked.stream
        request = Request(
            path=call.upstream,
            headers=call.headers,
            body=routing.served_body(body, peeked, endpoint),
            stream=peeked.stream,
            request_id=call.reply.request_id,
        )
        await self._forward(call, endpoint, request)

    async def models(self, call: Call) -> None:
        """List the models that the key may use, or those of one endpoint; wakes nothing."""
        key = self.key_of(call)
        catalog = self._directory.catalog
        endpoint = self._addressed(call, key)
        if catalog.catch_all is not None:
            await self._forward(call, catalog.catch_all, _list_request(call))
            return
        listed = models.of_endpoint(endpoint) if endpoint else routing.models(catalog, key)
        call.reply.json(200, models.render_list(listed))

    async def model(self, call: Call) -> None:
        """Describe one model, under the name by which it was asked for."""
        key = self.key_of(call)
        catalog = self._directory.catalog
        endpoint = self._addressed(call, key)
        name = call.model or ""
        if catalog.catch_all is not None:
            await self._describe_static(call, catalog.catch_all, name)
            return
        if endpoint is None:
            endpoint = routing.by_model(catalog, key, name)
        elif name not in endpoint.models:
            raise ModelNotFound(name, usable=endpoint.models)
        call.record.endpoint = endpoint.qualified_name
        call.reply.json(200, models.render(name, endpoint))

    async def unsupported(self, call: Call) -> None:
        """Refuse a route that is OpenAI's and not ours."""
        self.key_of(call)
        raise Unsupported("This route of the OpenAI API is not served here.")

    def _addressed(self, call: Call, key: Key) -> Endpoint | None:
        """Return the endpoint that path or host name; None where the model says it."""
        catalog = self._directory.catalog
        if call.segment is not None:
            return routing.by_segment(catalog, key, call.segment)
        return routing.by_host(catalog, key, find(call.headers, b"host"))

    async def _forward(self, call: Call, endpoint: Endpoint, request: Request) -> None:
        call.record.endpoint = endpoint.qualified_name
        async with (
            Watch(call.exchange),
            self._dispatcher.open(endpoint, request, call.record) as answer,
        ):
            await relay(answer, call.reply)

    async def _describe_static(self, call: Call, endpoint: Endpoint, name: str) -> None:
        """Look a model up in the static backend's own list (vLLM has no route for one model)."""
        call.record.endpoint = endpoint.qualified_name
        request = _list_request(call)
        async with (
            Watch(call.exchange),
            self._dispatcher.open(endpoint, request, call.record) as answer,
        ):
            listed = models.parse_list(await read_whole(answer))
        if name not in listed:
            raise ModelNotFound(name, usable=listed)
        call.reply.json(200, msgspec.json.encode(listed[name]))


def _list_request(call: Call) -> Request:
    return Request(path="/v1/models", method="GET", headers=[], request_id=call.reply.request_id)
