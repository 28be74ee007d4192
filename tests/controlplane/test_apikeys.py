"""The story of ApiKeys and the keyring, told on a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import keyring, names
from endpoint_operator.apikeys import KEYRING, reconcile_api_key, reconcile_keyring
from endpoint_operator.cache import Ref
from helpers import builders
from helpers.memory_cluster import MakeContext, MemoryCluster

Object = dict[str, Any]

KEY = Ref("ApiKey", "team-a", "ci")
SECRET = Ref("Secret", "team-a", "ci-api-key")
RING = Ref("Secret", builders.RELEASE_NAMESPACE, "vllm-endpoints-keyring")


class Story:
    """ApiKeys on a cluster; ``settle`` follows what the stories ask to look at next."""

    def __init__(self, make_context: MakeContext, *objects: Object) -> None:
        self.cluster = MemoryCluster(*objects)
        self.context = make_context(self.cluster)

    async def settle(self, *refs: Ref) -> list[tuple[str, Ref]]:
        """Reconcile these and what follows from them; return the writes."""
        self.cluster.writes.clear()
        waiting = list(refs or (KEY,))
        for _ in range(50):
            if not waiting:
                return list(self.cluster.writes)
            ref = waiting.pop(0)
            story = reconcile_keyring if ref == KEYRING else reconcile_api_key
            waiting += (await story(self.context, ref)).then
        raise AssertionError("it never settles")

    def ready(self, ref: Ref = KEY) -> Object:
        return builders.condition_of(self.cluster.stored(ref), "Ready")

    def listed(self) -> set[tuple[str, str]]:
        entries = keyring.read_keyring(self.cluster.stored(RING))
        return {(entry.namespace, entry.name) for entry in entries}

    def key(self, ref: Ref = SECRET) -> str:
        return keyring.read_field(self.cluster.stored(ref), "api-key")


@pytest.fixture
async def story(make_context: MakeContext) -> Story:
    """One ApiKey in force."""
    begun = Story(make_context, builders.api_key())
    await begun.settle()
    return begun


async def test_a_new_key_gets_a_secret_and_is_in_force(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key())
    writes = await story.settle()
    assert [write for write in writes if write[0] == "apply"] == [
        ("apply", SECRET),
        ("apply", RING),
    ]
    assert story.key().startswith("sk-")
    assert story.listed() == {("team-a", "ci")}
    assert story.ready()["status"] == "True"


async def test_a_settled_key_costs_no_write(story: Story) -> None:
    assert await story.settle(KEY, KEYRING) == []


async def test_many_new_keys_cost_one_keyring(make_context: MakeContext) -> None:
    keys = [builders.api_key(f"k{number}", uid=f"uid-{number}") for number in range(5)]
    story = Story(make_context, *keys)
    writes = await story.settle(*(Ref("ApiKey", "team-a", f"k{number}") for number in range(5)))
    assert writes.count(("apply", RING)) == 1
    assert len(story.listed()) == 5


async def test_a_deleted_key_is_revoked(story: Story) -> None:
    story.cluster.remove(KEY)
    await story.settle(KEYRING)
    assert story.listed() == set()


async def test_a_key_that_is_being_deleted_is_revoked(story: Story) -> None:
    body = story.cluster.stored(KEY)
    meta = body["metadata"] | {"deletionTimestamp": "2026-11-21T12:00:00Z"}
    story.cluster.put(body | {"metadata": meta})
    await story.settle(KEYRING)
    assert story.listed() == set()


async def test_a_lost_secret_is_made_again_with_another_key(story: Story) -> None:
    before = story.key()
    story.cluster.remove(SECRET)
    await story.settle()
    assert story.key() != before
    assert story.ready()["status"] == "True"


async def test_a_stolen_label_is_put_back_and_the_key_stays(story: Story) -> None:
    before, secret = story.key(), story.cluster.stored(SECRET)
    story.cluster.remove(SECRET)  # what our watch, which selects by label, sees of it
    story.cluster.put(secret | {"metadata": secret["metadata"] | {"labels": {}}}, seen=False)
    await story.settle(KEY, KEYRING)
    assert story.key() == before
    assert story.cluster.stored(SECRET)["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER
    assert story.listed() == {("team-a", "ci")}


async def test_a_key_keeps_its_text_when_its_secret_is_renamed(story: Story) -> None:
    before = story.key()
    story.cluster.edit(KEY, secretName="other")
    writes = await story.settle()
    assert ("delete", SECRET) in writes
    assert story.key(Ref("Secret", "team-a", "other")) == before


async def test_a_secret_of_somebody_else_is_never_touched(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key())
    story.cluster.put(builders.secret("ci-api-key", "team-a", {"api-key": "eA=="}), seen=False)
    await story.settle(KEY, KEYRING)
    assert story.ready()["reason"] == "NameConflict"
    assert story.key() == "x"
    assert story.listed() == set()


async def test_every_endpoint_of_the_cluster_is_not_for_every_namespace(
    make_context: MakeContext,
) -> None:
    story = Story(make_context, builders.api_key(endpoints=["*/*"]))
    await story.settle(KEY, KEYRING)
    assert story.ready()["reason"] == "ScopeNotAllowed"
    assert story.listed() == set()


async def test_an_invalid_key_says_what_is_wrong(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(endpoints=["a/b"]))
    await story.settle(KEY, KEYRING)
    assert story.ready()["reason"] == "InvalidSpec"
    assert "spec.endpoints[0]" in story.ready()["message"]


async def test_a_changed_scope_is_in_the_keyring(story: Story) -> None:
    story.cluster.edit(KEY, endpoints=["qwen"])
    await story.settle(KEYRING)
    (entry,) = keyring.read_keyring(story.cluster.stored(RING))
    assert entry.endpoints == ("qwen",)


async def test_a_damaged_keyring_is_healed(story: Story) -> None:
    story.cluster.put(story.cluster.stored(RING) | {"data": {"keyring.json": "e30="}})
    assert await story.settle(KEYRING) == [("apply", RING)]
    assert story.listed() == {("team-a", "ci")}


async def test_without_any_key_the_keyring_is_empty_and_there(make_context: MakeContext) -> None:
    story = Story(make_context)
    await story.settle(KEYRING)
    assert story.listed() == set()
