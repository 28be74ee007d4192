"""The story of ApiKeys and the keyring, told on a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import keyring, names, status
from endpoint_operator.conditions import no
from endpoint_operator.listing import KEYRING
from endpoint_operator.live import Ref
from helpers import builders
from helpers.key_story import KEY, RING, SECRET, Story
from helpers.memory_cluster import MakeContext
from kube_api import Forbidden, Unavailable

Object = dict[str, Any]


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


async def test_a_namespace_that_is_closed_to_us_revokes_nobody(story: Story) -> None:
    story.cluster.remove(KEY)  # as far as we know
    story.cluster.closed.add("team-a")
    assert await story.settle(KEYRING) == []
    assert story.listed() == {("team-a", "ci")}
    story.cluster.closed.clear()
    await story.wait()
    assert story.listed() == set()


async def test_a_secret_that_may_not_be_read_stops_no_other_key(story: Story) -> None:
    other, new = (Ref("ApiKey", namespace, "ci") for namespace in ("team-b", "team-c"))
    story.cluster.put(builders.api_key("ci", "team-b", uid="uid-b"))
    await story.settle(other)
    # all that is heard of the end of a namespace before its roles are gone
    story.cluster.remove(SECRET)
    refusal = Forbidden(403, "secrets is forbidden")
    story.cluster.unreadable[SECRET] = refusal
    story.cluster.remove(other)
    story.cluster.put(builders.api_key("ci", "team-c", uid="uid-c"))
    with pytest.raises(Forbidden):  # the story of the key itself, which looks again
        await story.settle(new, KEYRING)
    assert story.listed() == {("team-a", "ci"), ("team-c", "ci")}
    assert KEYRING in story.due


async def test_a_key_that_is_being_deleted_is_revoked(story: Story) -> None:
    body = story.cluster.stored(KEY)
    meta = body["metadata"] | {"deletionTimestamp": "2026-11-21T12:00:00Z"}
    story.cluster.put(body | {"metadata": meta})
    await story.settle(KEYRING)
    assert story.listed() == set()


async def test_a_message_about_another_secret_is_another(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key())
    body = story.cluster.stored(KEY)
    for name in ("key-1", "key-2"):
        found = no(status.NAME_CONFLICT, f"Secret team-a/{name} exists")
        body["status"] = status.api_key_status(body, found, "now")
    assert builders.condition_of(body, "Ready")["message"] == "Secret team-a/key-2 exists"


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


async def test_a_stolen_label_revokes_nobody_for_a_moment(story: Story) -> None:
    secret = story.cluster.stored(SECRET)
    story.cluster.remove(SECRET)
    story.cluster.put(secret | {"metadata": secret["metadata"] | {"labels": {}}}, seen=False)
    assert ("apply", RING) not in await story.settle(KEYRING)
    assert story.listed() == {("team-a", "ci")}


async def test_a_secret_that_can_not_be_read_revokes_nobody(story: Story) -> None:
    story.cluster.remove(SECRET)
    story.cluster.unreadable[SECRET] = Unavailable(503, "later")
    with pytest.raises(Unavailable):
        await story.settle(KEYRING)
    assert story.listed() == {("team-a", "ci")}


async def test_the_keyring_without_its_label_revokes_nobody(story: Story) -> None:
    story.cluster.edit(KEY, endpoints=["a/b"])
    ring = story.cluster.stored(RING)
    story.cluster.remove(RING)
    story.cluster.put(ring | {"metadata": ring["metadata"] | {"labels": {}}}, seen=False)
    await story.settle(KEYRING)
    assert story.listed() == {("team-a", "ci")}
    assert story.cluster.stored(RING)["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER


async def test_a_secret_that_lost_its_owner_gets_it_back_and_the_key_stays(story: Story) -> None:
    secret = story.cluster.stored(SECRET)
    meta = {key: value for key, value in secret["metadata"].items() if key != "ownerReferences"}
    story.cluster.put(secret | {"metadata": meta})
    await story.settle(KEYRING, KEY)
    assert story.cluster.stored(SECRET)["metadata"]["ownerReferences"][0]["uid"] == "uid-key"
    assert story.cluster.stored(SECRET)["data"] == secret["data"]
    assert story.listed() == {("team-a", "ci")}


@pytest.mark.parametrize("label", [False, True])
async def test_a_secret_that_lost_its_owner_is_not_another_api_keys(
    story: Story, *, label: bool
) -> None:
    secret, other = story.cluster.stored(SECRET), Ref("ApiKey", "team-a", "b")
    del secret["metadata"]["ownerReferences"]
    if label:  # then it is the Secret of an endpoint's engines
        secret["metadata"]["labels"][names.ENDPOINT] = "qwen"
        secret["data"]["api-key"] = "c2stZW5naW5l"
    story.cluster.put(secret)
    story.cluster.put(builders.api_key("b", uid="uid-b", secretName="ci-api-key"))
    await story.settle(other)
    assert story.ready(other)["reason"] == "NameConflict"
    assert "ownerReferences" not in story.cluster.stored(SECRET)["metadata"]
    assert ("team-a", "b") not in story.listed()


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


def forged(name: str, namespace: str, owner: str, uid: str) -> Object:
    """Return what anybody can write who may write Secrets in a namespace."""
    body = builders.secret(name, namespace, {"api-key": "c2stZXZpbA=="}, owner_uid=uid)
    body["metadata"]["ownerReferences"][0]["name"] = owner
    body["metadata"]["labels"] = {names.MANAGED_BY: names.MANAGER}
    return body


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        pytest.param("a-team", "aaa", id="of another namespace"),
        pytest.param("a-team", "root-api-key", id="of another namespace and the right name"),
        pytest.param(builders.RELEASE_NAMESPACE, "aaa", id="of the same namespace"),
    ],
)
async def test_a_secret_that_claims_an_owner_replaces_no_key(
    make_context: MakeContext, namespace: str, name: str
) -> None:
    root = Ref("ApiKey", builders.RELEASE_NAMESPACE, "root")
    secret = Ref("Secret", builders.RELEASE_NAMESPACE, "root-api-key")
    owner = builders.api_key("root", builders.RELEASE_NAMESPACE, uid="u", endpoints=["*/*"])
    story = Story(make_context, owner)
    await story.settle(root)
    key, ring = story.key(secret), story.cluster.stored(RING)["data"]
    story.cluster.put(forged(name, namespace, "root", "u"))
    await story.settle(KEYRING, root)
    assert story.key(secret) == key
    assert story.cluster.stored(RING)["data"] == ring


async def test_a_secret_of_another_namespace_that_claims_an_owner_is_left_alone(
    story: Story,
) -> None:
    story.cluster.put(forged("aaa", "a-team", "ci", "uid-key"))
    assert await story.settle(KEY, KEYRING) == []


REFUSED = [
    pytest.param({"endpoints": ["a/b"]}, "InvalidSpec", id="invalid"),
    pytest.param({"endpoints": ["*/*"]}, "ScopeNotAllowed", id="scope not allowed"),
    pytest.param({"expiresAfter": "90d"}, "InvalidSpec", id="a field of a newer operator"),
    pytest.param({"secretName": "../x"}, "InvalidSpec", id="invalid name"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED)
async def test_a_refused_edit_leaves_what_was_accepted_last_in_force(
    story: Story, change: Object, reason: str
) -> None:
    ring = story.cluster.stored(RING)["data"]
    story.cluster.edit(KEY, **change)
    await story.settle(KEYRING, KEY)
    assert story.cluster.stored(RING)["data"] == ring
    assert (story.ready()["status"], story.ready()["reason"]) == ("False", reason)
    assert story.ready()["message"].endswith("The key stays in force, for endpoints *")


async def test_a_refused_key_without_its_secret_is_revoked(story: Story) -> None:
    story.cluster.edit(KEY, endpoints=["a/b"])
    story.cluster.remove(SECRET)
    await story.settle(KEYRING, KEY)
    assert story.listed() == set()
    assert "in force" not in story.ready()["message"]


async def test_a_refused_key_with_another_text_is_revoked(story: Story) -> None:
    story.cluster.edit(KEY, endpoints=["a/b"])
    story.cluster.put(story.cluster.stored(SECRET) | {"data": {"api-key": "c2stbmV3"}})
    await story.settle(KEYRING, KEY)
    assert story.listed() == set()


async def test_a_key_made_anew_under_a_refused_spec_does_not_inherit(story: Story) -> None:
    story.cluster.remove(KEY)
    story.cluster.put(builders.api_key(uid="another", endpoints=["*/*"]))
    story.cluster.remove(SECRET)  # the garbage collector's work
    await story.settle(KEYRING)
    assert story.listed() == set()


async def test_a_key_whose_secret_is_gone_is_revoked_where_another_key_has_the_name(
    story: Story,
) -> None:
    other = Ref("ApiKey", "team-a", "other")
    story.cluster.put(builders.api_key("other", uid="uid-other"))
    await story.settle(other)
    story.cluster.edit(KEY, secretName="other-api-key")
    story.cluster.remove(SECRET)
    await story.settle(KEYRING, KEY)
    assert story.listed() == {("team-a", "other")}
    assert story.ready()["reason"] == "NameConflict"
    assert "in force" not in story.ready()["message"]


async def test_a_taken_new_name_leaves_the_key_in_force_and_says_so(story: Story) -> None:
    story.cluster.put(builders.secret("taken", "team-a", {"api-key": "eA=="}), seen=False)
    story.cluster.edit(KEY, secretName="taken")
    await story.settle(KEYRING, KEY)
    assert story.listed() == {("team-a", "ci")}
    assert story.ready()["reason"] == "NameConflict"
    assert "stays in force" in story.ready()["message"]


async def test_a_refused_new_secret_leaves_the_key_in_force_and_says_so(story: Story) -> None:
    story.cluster.refusals[Ref("Secret", "team-a", "other")] = Forbidden(403, "over quota")
    story.cluster.edit(KEY, secretName="other")
    await story.settle(KEYRING, KEY)
    assert story.listed() == {("team-a", "ci")}
    assert story.ready()["message"].startswith("over quota. The key stays in force")


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


def wide_keys(count: int) -> list[Object]:
    """Return ApiKeys of which some 310 fill the keyring."""
    endpoints = [f"{number:04d}".rjust(40, "e") for number in range(64)]
    return [
        builders.api_key(f"k{number}", uid=f"uid-{number}", endpoints=endpoints)
        for number in range(count)
    ]


async def test_a_key_for_which_there_is_no_room_says_so_until_there_is(
    make_context: MakeContext,
) -> None:
    keys = wide_keys(330)
    refs = [Ref("ApiKey", "team-a", key["metadata"]["name"]) for key in keys]
    story = Story(make_context, *keys)
    await story.settle(*refs)
    outside = [ref for ref in refs if (ref.namespace, ref.name) not in story.listed()]
    assert 0 < len(outside) < 30
    assert {story.ready(ref)["reason"] for ref in outside} == {"KeyringFull"}
    assert await story.settle(*refs, KEYRING) == []
    inside = next(ref for ref in refs if ref not in outside)
    story.cluster.remove(inside)
    await story.settle(KEYRING)
    assert (inside.namespace, inside.name) not in story.listed()
    assert [story.ready(ref)["reason"] for ref in outside].count("InForce") == 1


@pytest.mark.parametrize("name", ["vllm-endpoints-keyring", "vllm-endpoints-root-key"])
async def test_the_operators_own_secrets_are_no_api_keys(
    make_context: MakeContext, name: str
) -> None:
    owner = builders.api_key(namespace=builders.RELEASE_NAMESPACE, secretName=name)
    story, ref = Story(make_context, owner), Ref("ApiKey", builders.RELEASE_NAMESPACE, "ci")
    assert ("apply", Ref("Secret", builders.RELEASE_NAMESPACE, name)) not in await story.settle(ref)
    assert story.ready(ref)["reason"] == "NameConflict"
    assert "choose another spec.secretName" in story.ready(ref)["message"]


async def test_a_keyring_of_somebody_else_is_not_written(story: Story) -> None:
    ring = story.cluster.stored(RING)
    reference = forged("x", "x", "other", "u")["metadata"]["ownerReferences"]
    meta = ring["metadata"] | {"ownerReferences": reference}
    story.cluster.put(ring | {"metadata": meta})
    story.cluster.remove(KEY)
    assert await story.settle(KEYRING) == []
