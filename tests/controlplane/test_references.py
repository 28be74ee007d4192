"""Objects of users that endpoints refer to, followed on a scripted API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from endpoint_operator.live import Live, Ref
from endpoint_operator.references import References
from helpers.scripted_api import ScriptedApi, answer, changes, failure, scripted_api
from kube_api import Forbidden

Object = dict[str, Any]

TEMPLATE = Ref("ConfigMap", "team-a", "templates")
QWEN, LLAMA = (Ref("InferenceEndpoint", "team-a", name) for name in ("qwen", "llama"))


def config_map(version: int, **data: str) -> Object:
    meta = {"namespace": "team-a", "name": "templates", "uid": "t"}
    meta["resourceVersion"] = str(version)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def found(*items: Object) -> Any:
    return answer({"metadata": {"resourceVersion": "5"}, "items": list(items)})


Followed = tuple[ScriptedApi, References, asyncio.Queue[Ref]]


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    told: asyncio.Queue[Ref] = asyncio.Queue()
    async with scripted_api() as (script, client), asyncio.TaskGroup() as tasks:
        references = References(client)
        references.start(tasks, told.put_nowait)
        yield script, references, told
        for user in (QWEN, LLAMA):
            references.release(user)


async def test_what_is_referred_to_is_asked_for_by_its_name_alone(followed: Followed) -> None:
    script, references, _ = followed
    script.lists.append(found(config_map(4, chat="x")))
    live = await references.get(TEMPLATE, by=QWEN)
    assert live is not None
    assert live.object["data"] == {"chat": "x"}
    assert script.requests[0].path == "/api/v1/namespaces/team-a/configmaps"
    assert script.requests[0].query["fieldSelector"] == "metadata.name=templates"


async def test_what_is_missing_is_known_to_be_missing(followed: Followed) -> None:
    script, references, _ = followed
    script.lists.append(found())
    assert await references.get(TEMPLATE, by=QWEN) is None


async def test_a_change_is_told_to_all_who_refer_to_it(followed: Followed) -> None:
    script, references, told = followed
    script.lists.append(found())
    await references.get(TEMPLATE, by=QWEN)
    await references.get(TEMPLATE, by=LLAMA)
    script.watches.append(changes(("ADDED", config_map(6, chat="y"))))
    assert {await told.get(), await told.get()} == {QWEN, LLAMA}
    live: Live | None = await references.get(TEMPLATE, by=QWEN)
    assert live is not None
    assert live.object["data"] == {"chat": "y"}
    assert len([each for each in script.requests if "watch" not in each.query]) == 1


async def test_who_refers_to_it_no_more_is_told_no_more(followed: Followed) -> None:
    script, references, told = followed
    script.lists.append(found())
    for user in (QWEN, LLAMA):
        await references.get(TEMPLATE, by=user)
    references.release(QWEN)
    script.watches.append(changes(("ADDED", config_map(6))))
    assert await told.get() == LLAMA
    assert told.empty()
    assert references.last(LLAMA) is not None
    assert references.last(QWEN) is None


async def test_a_refusal_is_said_and_asked_for_again(followed: Followed) -> None:
    script, references, _ = followed
    script.lists += [failure(403), found(config_map(4))]
    with pytest.raises(Forbidden):
        await references.get(TEMPLATE, by=QWEN)
    assert await references.get(TEMPLATE, by=QWEN) is not None
