"""The story of a request: find its route, authenticate, peek, find its endpoint, admit, dispatch,
relay.

Called by the application. The nesting of `async with` here is the lifetime of everything that a
request holds; it is all given back on the way out, whatever happens. This is also the inner of the
two shells: no failure of ours leaves it without an answer.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol

import msgspec

from . import models, routing
from .affinity import affinity_of
from .auth import authenticate
from .catalog import Catalog, Endpoint, Key, Keyring
from .client import Reply, Watch, make_room, read_body
from .dispatch import Dispatcher
from .errors import (
    ClientGone,
    GatewayError,
    Headers,
    Internal,
    ModelNotFound,
    NotReady,
    ShuttingDown,
    Unsupported,
)
from .exchange import Exchange
from .forms import boundary_of, peek_form, with_model
from .headers import find as find_header
from .headers import request_id
from .limiter import Admission, Limiter
from .metrics import AccessLog, Metrics
from .peek import peek, state_asked_for
from .record import Record
from .relay import read_whole, relay
from .request import Request
from .rewriting import rewrite
from .room import Place, Room
from .routes import Kind, Target, find, see_that_it_takes
from .spool import spooled
from .usage import unheard

logger = logging.getLogger(__name__)


class Directory(Protocol):
    """Where the catalog and the keyring of this moment are found."""

    @property
    def catalog(self) -> Catalog:
        """The endpoints."""

    @property
    def keyring(self) -> Keyring:
        """The keys."""

    @property
    def ready(self) -> bool:
        """Say whether both are known."""


@dataclass(slots=True)
class Call:
    """One request on its way through the gateway, what its path means, and the room that it takes.

    `place` is for its body until there is an answer, and then for that.
    """

    exchange: Exchange
    reply: Reply
    target: Target
    place: Place

    @property
    def record(self) -> Record:
        """What is written down of the request."""
        return self.reply.record

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
        limiter: Limiter,
        dispatcher: Dispatcher,
        metrics: Metrics,
        access_log: AccessLog,
        room: Room,
    ) -> None:
        self._directory = directory
        self._limiter = limiter
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._access_log = access_log
        self._room = room
        self._actions = {
            Kind.INFER: self.infer,
            Kind.INFER_FROM_FORM: self.infer_from_form,
            Kind.LIST_MODELS: self.list_models,
            Kind.DESCRIBE_MODEL: self.describe_model,
            Kind.REFUSE: self.refuse,
        }

    async def run(self, exchange: Exchange) -> None:
        """See that a request is answered, and write down how it went."""
        identity = request_id(exchange.headers)
        record = Record(exchange.method, exchange.path, identity, time.perf_counter())
        self._metrics.begin()
        try:
            await self._answered(exchange, Reply(exchange, record))
        except ClientGone:
            record.error = "client_gone"
        finally:
            now = time.perf_counter()
            self._metrics.end(record, now=now)
            self._access_log.write(record, now=now)

    async def _answered(self, exchange: Exchange, reply: Reply) -> None:
        try:
            await self._act(exchange, reply)
        except GatewayError as error:
            reply.fail(error)
        except asyncio.CancelledError:
            # the server's drain budget is spent, and this is where its task ends: raised on, it
            # would be logged as a failure of ours
            reply.fail(ShuttingDown("The gateway is shutting down. Try again."))
        except ClientGone:
            raise
        except Exception:
            # the inner shell: a fault of ours is answered, and told to those who can mend it
            logger.exception("request %s failed", reply.record.request_id.decode("ascii"))
            reply.fail(Internal("The gateway failed. The request id tells its log."))

    async def _act(self, exchange: Exchange, reply: Reply) -> None:
        target = find(exchange.path)
        reply.record.route = target.route.name
        reply.dialect = target.route.dialect
        see_that_it_takes(target.route, exchange.method)
        with Place(self._room) as place:
            await self._actions[target.route.kind](Call(exchange, reply, target, place))

    def key_of(self, call: Call) -> Key:
        """Authenticate. Raises InvalidApiKey and NotReady."""
        if not self._directory.ready:
            raise NotReady("The gateway has only just begun. Try again.")
        key = authenticate(call.headers, self._directory.keyring, now=time.time())
        call.record.key = key.qualified_name
        call.place.owner = key.owner
        return key

    async def infer(self, call: Call) -> None:
        """Pass a JSON request on to the endpoint that it means, and its answer back."""
        key = self.key_of(call)
        await make_room(call.exchange, call.place, limit=self._room.largest)
        body = await read_body(call.exchange, call.place, limit=self._room.largest)
        call.place.give_back(down_to=len(body))
        endpoint, request = self._asked(call, key, body)
        # of one that was rewritten there would be two
        del body
        await self._forward(call, endpoint, request, self._limiter.admit(key, endpoint))

    def _asked(self, call: Call, key: Key, body: bytes) -> tuple[Endpoint, Request]:
        """Return whom a JSON request means, and what is asked of an engine there."""
        peeked, route = peek(body), call.target.route
        endpoint = self._meant(call, key, peeked.model)
        if route.keeps_state and (member := state_asked_for(body)):
            raise Unsupported(f"`{member}` is not supported: no engine remembers.", param=member)
        call.record.input_bytes = len(body)
        model = routing.engine_model(endpoint, peeked.model)
        rewritten = rewrite(body, peeked, route.rules, model=model)
        call.reply.withholds_usage = rewritten.uninvited
        affinity = affinity_of(body, model or peeked.model) if endpoint.by_prefix else None
        request = _request(call, [rewritten.body], stream=peeked.stream, affinity=affinity)
        return endpoint, request

    async def infer_from_form(self, call: Call) -> None:
        """Pass a form on to the endpoint that it means, and its answer back."""
        key = self.key_of(call)
        boundary = boundary_of(find_header(call.headers, b"content-type"))
        # one of its own: what is spooled goes with the request
        with Place(self._room, key.owner) as place:
            await make_room(call.exchange, place, limit=self._room.largest)
            async with spooled(call.exchange, place, limit=self._room.largest) as body:
                place.give_back(down_to=len(body))
                peeked = peek_form(body, boundary)
                endpoint = self._meant(call, key, peeked.model)
                model = routing.engine_model(endpoint, peeked.model)
                request = _request(call, with_model(body, peeked, model), stream=peeked.stream)
                await self._forward(call, endpoint, request, self._limiter.admit(key, endpoint))

    async def list_models(self, call: Call) -> None:
        """List the models that the key may use, or those of one endpoint.

        Wakes nothing, and counts towards no limit: no engine has work from it.
        """
        key = self.key_of(call)
        catalog = self._directory.catalog
        endpoint = self._addressed(call, key)
        if catalog.catch_all is not None:
            await self._forward(call, catalog.catch_all, _list_request(call), self._limiter.admit())
            return
        listed = models.of_endpoint(endpoint) if endpoint else routing.models(catalog, key)
        call.reply.json(200, models.render_list(listed))

    async def describe_model(self, call: Call) -> None:
        """Describe one model, under the name by which it was asked for."""
        key = self.key_of(call)
        catalog = self._directory.catalog
        endpoint = self._addressed(call, key)
        name = call.target.model or ""
        if catalog.catch_all is not None:
            await self._describe_static(call, catalog.catch_all, name)
            return
        if endpoint is None:
            endpoint = routing.by_model(catalog, key, name)
        elif name not in endpoint.models:
            raise ModelNotFound(name, usable=endpoint.models)
        call.record.endpoint = endpoint.qualified_name
        call.reply.json(200, models.render(name, endpoint))

    async def refuse(self, call: Call) -> None:
        """Refuse a route that is known and not ours."""
        self.key_of(call)
        asked = f"{call.exchange.method} {call.exchange.path[:200]} is not served here"
        if "/responses/" in asked:
            asked += ", only POST /v1/responses: no engine keeps responses"
        raise Unsupported(f"{asked}.")

    def _meant(self, call: Call, key: Key, model: str | None) -> Endpoint:
        """Return the endpoint that the request means. Raises GatewayError."""
        endpoint = self._addressed(call, key)
        if endpoint is None:
            endpoint = routing.by_model(self._directory.catalog, key, model)
        elif call.target.by_id or endpoint.matches_model:
            routing.see_that_it_matches(endpoint, model)
        routing.see_that_it_serves(endpoint, call.target.route.listed_as or call.target.route.name)
        return endpoint

    def _addressed(self, call: Call, key: Key) -> Endpoint | None:
        """Return the endpoint that path or host name; None where the model says it."""
        catalog = self._directory.catalog
        if call.target.segment is not None:
            return routing.by_segment(catalog, key, call.target.segment)
        return routing.by_host(catalog, key, find_header(call.headers, b"host"))

    async def _forward(
        self, call: Call, endpoint: Endpoint, request: Request, admission: Admission
    ) -> None:
        record = call.record
        record.endpoint = endpoint.qualified_name
        with Watch(call.exchange):
            async with admission:
                call.reply.pacing = admission.headers
                try:
                    async with self._dispatcher.open(endpoint, request, record) as answer:
                        # nobody is asked again from here on
                        request.body.clear()
                        call.place.give_back()
                        await relay(answer, call.reply, call.place)
                finally:
                    if record.usage is None and record.attempts and call.exchange.gone:
                        record.usage = unheard(record.input_bytes)
                    if record.usage is not None:
                        admission.spend(record.usage.total)

    async def _describe_static(self, call: Call, endpoint: Endpoint, name: str) -> None:
        """Look a model up in the static backend's own list (vLLM has no route for one model)."""
        call.record.endpoint = endpoint.qualified_name
        request = _list_request(call)
        with Watch(call.exchange):
            async with self._dispatcher.open(endpoint, request, call.record) as answer:
                listed = models.parse_list(await read_whole(answer, call.place))
        if name not in listed:
            raise ModelNotFound(name, usable=listed)
        call.reply.json(200, msgspec.json.encode(listed[name]))


def _request(
    call: Call,
    body: list[bytes | memoryview],
    *,
    stream: bool,
    affinity: int | None = None,
) -> Request:
    call.record.stream = stream
    return Request(
        call.target.route.path,
        call.headers,
        body,
        stream=stream,
        request_id=call.record.request_id,
        affinity=affinity,
    )


def _list_request(call: Call) -> Request:
    return Request("/v1/models", [], [], request_id=call.record.request_id)
