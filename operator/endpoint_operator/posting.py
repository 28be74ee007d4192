"""Events on their way to the API server: written behind the reconciles, and never in their way.

``cluster`` puts them in, and the controller runs ``keep_posting`` as one task: a failure or a slow
API server holds nobody up, and what is too much is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from kube_api import ApiError, KubeClient, Object, Resource

logger = logging.getLogger(__name__)

EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
MOST_WAITING: Final = 1000


class Posting:
    """Events that wait to be created."""

    def __init__(self, api: KubeClient) -> None:
        self._api = api
        self._waiting: asyncio.Queue[Object] = asyncio.Queue(MOST_WAITING)

    def post(self, event: Object) -> None:
        """Have an Event created some time soon."""
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(event)

    async def keep_posting(self) -> None:
        """Create what is posted, for ever."""
        while True:
            event = await self._waiting.get()
            try:
                await self._api.create(EVENTS, event)
            except ApiError as error:
                logger.warning("an event is lost: %s", error)
