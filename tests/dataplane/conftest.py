"""The gateway's tests run on the event loop that it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop

HERE = Path(__file__).parent


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # while uvloop waits for something to happen no handler of a signal runs, pytest-timeout's
    # neither: without a thread a test that hangs would hang for ever
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(60, method="thread"))
