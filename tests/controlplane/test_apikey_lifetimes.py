"""Keys that end, that rest, and that are somebody's own, told on a cluster in memory."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from endpoint_operator import keyring, names
from endpoint_operator.listing import KEYRING
from endpoint_operator.live import Ref
from helpers import builders
from helpers.key_story import KEY, RING, SECRET, Story
from helpers.memory_cluster import MakeContext
from kube_api import Forbidden

Object = dict[str, Any]

IN_A_MINUTE = "2026-11-21T12:01:00Z"
A_MINUTE_AGO = "2026-11-21T11:59:00Z"


@pytest.fixture
async def story(make_context: MakeContext) -> Story:
    """One ApiKey in force."""
    begun = Story(make_context, builders.api_key())
    await begun.settle()
    return begun


# -- expiry ------------------------------------------------------------------------------------


async def test_a_key_ends_at_its_time_and_says_so(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt=IN_A_MINUTE))
    await story.settle()
    assert story.ready()["message"] == (
        f"The key in Secret ci-api-key is in force until {IN_A_MINUTE}."
    )
    assert await story.wait() == 60
    assert (story.ready()["status"], story.ready()["reason"]) == ("False", "Expired")
    assert f"ended at {IN_A_MINUTE}" in story.ready()["message"]
    assert story.listed() == set()


async def test_nothing_is_done_before_a_key_ends(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt=IN_A_MINUTE))
    await story.settle()
    story.now += 59.9
    assert await story.settle(KEY, KEYRING) == []
    assert 0 < story.due[KEY] - story.now < 0.2


async def test_a_gateway_knows_when_a_key_ends(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt=IN_A_MINUTE))
    await story.settle()
    (entry,) = keyring.read_keyring(story.cluster.stored(RING))
    assert entry.expires == story.now + 60


async def test_a_key_that_ended_while_nobody_worked_is_removed(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt=IN_A_MINUTE))
    await story.settle()
    story.now += 3600
    await story.settle(KEYRING)
    assert story.listed() == set()


async def test_a_key_that_gets_more_time_is_the_same_key(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt=A_MINUTE_AGO))
    await story.settle()
    assert story.ready()["reason"] == "Expired"
    key = story.key()
    story.cluster.edit(KEY, expiresAt=IN_A_MINUTE)
    await story.settle()
    assert story.ready()["status"] == "True"
    assert story.key() == key
    assert story.accepts(key)


async def test_an_end_that_is_set_later_is_in_the_keyring(story: Story) -> None:
    story.cluster.edit(KEY, expiresAt=IN_A_MINUTE)
    await story.settle()
    (entry,) = keyring.read_keyring(story.cluster.stored(RING))
    assert entry.expires == story.now + 60


async def test_an_end_long_ago_is_an_end(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt="1970-01-01T00:00:00Z"))
    await story.settle(KEY, KEYRING)
    assert story.ready()["reason"] == "Expired"
    assert not story.accepts(story.key())


@pytest.mark.parametrize("edit", [{"suspended": True}, {"expiresAt": A_MINUTE_AGO}])
async def test_a_key_that_gateways_still_accept_is_not_said_to_be_refused(
    story: Story, edit: Object
) -> None:
    story.cluster.edit(KEY, **edit)
    story.cluster.refusals[RING] = Forbidden(403, "over quota")
    with pytest.raises(Forbidden):
        await story.settle()
    assert story.ready()["reason"] == "Pending"
    story.cluster.refusals.clear()
    await story.settle(KEYRING)
    assert story.ready()["reason"] in {"Suspended", "Expired"}


async def test_a_refused_spec_is_looked_at_when_its_key_ends(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(expiresAt=IN_A_MINUTE))
    await story.settle()
    story.cluster.edit(KEY, endpoints=["*/*"])
    await story.settle()
    assert "stays in force" in story.ready()["message"]
    assert await story.wait() == 60
    assert "in force" not in story.ready()["message"]


# -- suspension --------------------------------------------------------------------------------


async def test_a_suspended_key_is_not_in_force_and_comes_back_as_it_was(story: Story) -> None:
    key = story.key()
    story.cluster.edit(KEY, suspended=True)
    await story.settle()
    assert (story.ready()["status"], story.ready()["reason"]) == ("False", "Suspended")
    assert story.listed() == set()
    story.cluster.edit(KEY, suspended=False)
    await story.settle()
    assert story.ready()["status"] == "True"
    assert story.key() == key
    assert story.accepts(key)


async def test_a_refused_edit_does_not_wake_a_suspended_key(story: Story) -> None:
    story.cluster.edit(KEY, suspended=True)
    await story.settle()
    story.cluster.edit(KEY, endpoints=["a/b"], suspended=False)
    await story.settle(KEY, KEYRING)
    assert story.listed() == set()
    assert "in force" not in story.ready()["message"]


async def test_a_suspended_key_whose_secret_lost_its_owner_gets_it_back(story: Story) -> None:
    story.cluster.edit(KEY, suspended=True)
    await story.settle()
    secret = story.cluster.stored(SECRET)
    del secret["metadata"]["ownerReferences"]
    story.cluster.put(secret)
    await story.settle(KEYRING, KEY)
    assert story.cluster.stored(SECRET)["metadata"]["ownerReferences"][0]["uid"] == "uid-key"
    assert story.cluster.stored(SECRET)["data"] == secret["data"]


# -- adoption ----------------------------------------------------------------------------------


def given(name: str = "ci-api-key", *, label: bool = True, **fields: str) -> Object:
    """Return a Secret that a user made; the label lets an ApiKey of that name have it."""
    data = {
        field.replace("_", "-"): base64.b64encode(text.encode()).decode()
        for field, text in fields.items()
    }
    secret = builders.secret(name, "team-a", data)
    secret["metadata"]["labels"] = {names.MANAGED_BY: names.MANAGER} if label else {}
    return secret


async def test_a_secret_with_our_label_is_used_and_never_written(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(), given(api_key="sk-mine"))
    before = story.cluster.stored(SECRET)
    writes = await story.settle(KEY, KEYRING)
    assert ("apply", SECRET) not in writes
    assert story.accepts("sk-mine")
    assert story.ready()["reason"] == "InForce"
    assert story.cluster.stored(SECRET) == before
    assert await story.settle(KEY, KEYRING) == []


async def test_a_secret_of_another_owner_is_adopted_too(make_context: MakeContext) -> None:
    secret = given(api_key="sk-vault")
    secret["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Vault", "name": "v", "uid": "u", "controller": True}
    ]
    story = Story(make_context, builders.api_key(), secret)
    await story.settle()
    assert story.accepts("sk-vault")


async def test_a_users_own_rotation_has_two_keys_in_force(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(), given(api_key="sk-one"))
    await story.settle()
    story.cluster.put(given(api_key="sk-two", previous_api_key="sk-one"))
    await story.settle(KEYRING)
    assert story.accepts("sk-one")
    assert story.accepts("sk-two")
    assert story.ready()["message"] == (
        "The key in Secret ci-api-key is in force. So is the one in previous-api-key."
    )
    story.cluster.put(given(api_key="sk-two"))
    await story.settle(KEYRING)
    assert not story.accepts("sk-one")
    assert story.accepts("sk-two")


async def test_a_rotation_of_an_adopted_secret_is_not_ours_to_do(make_context: MakeContext) -> None:
    owner = builders.api_key(rotation={"id": "1"})
    story = Story(make_context, owner, given(api_key="sk-mine"))
    assert ("apply", SECRET) not in await story.settle()
    assert "spec.rotation does nothing" in story.ready()["message"]


async def test_an_adopted_secret_ends_with_its_spec_and_not_with_the_api_key(
    make_context: MakeContext,
) -> None:
    story = Story(make_context, builders.api_key(expiresAt=IN_A_MINUTE), given(api_key="sk-mine"))
    await story.settle()
    await story.wait()
    assert not story.accepts("sk-mine")
    story.cluster.remove(KEY)
    await story.settle(KEYRING)
    assert story.cluster.stored(SECRET)


async def test_an_adopted_secret_without_a_key_says_so_until_it_has_one(
    make_context: MakeContext,
) -> None:
    story = Story(make_context, builders.api_key(), given(other="x"))
    await story.settle()
    assert story.ready()["reason"] == "KeyMissing"
    assert "put a key there" in story.ready()["message"]
    story.cluster.put(given(api_key="sk-mine"))
    await story.settle(KEYRING)
    assert story.ready()["reason"] == "InForce"


async def test_an_adopted_secret_that_loses_its_key_revokes_it(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(), given(api_key="sk-mine"))
    await story.settle()
    story.cluster.put(given(other="x"))
    await story.settle(KEYRING)
    assert not story.accepts("sk-mine")
    assert story.ready()["reason"] == "KeyMissing"


async def test_a_label_that_is_taken_away_revokes_nobody(make_context: MakeContext) -> None:
    secret = given(api_key="sk-mine", previous_api_key="sk-before")
    story = Story(make_context, builders.api_key(), secret)
    await story.settle()
    story.cluster.remove(SECRET)
    story.cluster.put(secret | {"metadata": secret["metadata"] | {"labels": {}}}, seen=False)
    writes = await story.settle(KEYRING, KEY)
    assert {ref for verb, ref in writes if verb == "apply"} == set()
    assert story.accepts("sk-mine")
    assert story.accepts("sk-before")
    assert story.ready()["reason"] == "NameConflict"
    assert "label it" in story.ready()["message"]
    assert "stays in force" in story.ready()["message"]


@pytest.mark.parametrize("then", [given(label=False, api_key="sk-other"), None])
async def test_a_key_whose_secret_lost_its_label_is_still_revoked_by_its_secret(
    make_context: MakeContext, then: Object | None
) -> None:
    story = Story(make_context, builders.api_key(), given(api_key="sk-mine"))
    await story.settle()
    story.cluster.remove(SECRET)
    story.cluster.put(given(label=False, api_key="sk-mine"), seen=False)
    await story.settle(KEYRING)
    assert story.ready()["reason"] == "NameConflict"
    if then:
        story.cluster.put(then, seen=False)
    else:
        story.cluster.vanish(SECRET)
    began = story.now
    while story.accepts("sk-mine"):
        await story.wait()
    assert story.now - began <= 30


async def test_a_secret_is_adopted_once_it_has_the_label(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key())
    story.cluster.put(given(api_key="sk-mine", label=False), seen=False)
    await story.settle()
    assert story.ready()["reason"] == "NameConflict"
    story.cluster.put(given(api_key="sk-mine"))
    await story.settle(KEYRING)
    assert story.ready()["reason"] == "InForce"


async def test_an_adopted_secret_that_is_deleted_is_followed_by_one_of_ours(
    make_context: MakeContext,
) -> None:
    story = Story(make_context, builders.api_key(), given(api_key="sk-mine"))
    await story.settle()
    story.cluster.remove(SECRET)
    await story.settle(KEYRING)
    assert not story.accepts("sk-mine")
    assert story.accepts(story.key())
    assert story.cluster.stored(SECRET)["metadata"]["ownerReferences"]


async def test_a_change_to_an_adopted_secret_ends_the_key_before(story: Story) -> None:
    before = story.key()
    story.cluster.put(given("mine", api_key="sk-mine"))
    story.cluster.edit(KEY, secretName="mine")
    writes = await story.settle()
    assert ("delete", SECRET) in writes
    assert story.accepts("sk-mine")
    assert not story.accepts(before)


async def test_an_adopted_secret_without_a_key_does_not_end_the_key_before(story: Story) -> None:
    before = story.key()
    story.cluster.put(given("mine"))
    story.cluster.edit(KEY, secretName="mine")
    writes = await story.settle(KEYRING, KEY)
    assert ("delete", SECRET) not in writes
    assert story.accepts(before)
    assert story.ready()["reason"] == "KeyMissing"
    assert "stays in force" in story.ready()["message"]


@pytest.mark.parametrize("kind", ["InferenceEndpoint", "ApiKey"])
async def test_a_secret_that_we_made_for_another_is_not_adopted(
    make_context: MakeContext, kind: str
) -> None:
    secret = given(api_key="sk-engine-1")
    reference = names.owner_reference(kind, "other", "uid-other")
    secret["metadata"]["ownerReferences"] = [reference]
    story = Story(make_context, builders.api_key(), secret)
    await story.settle(KEY, KEYRING)
    assert story.ready()["reason"] == "NameConflict"
    assert not story.accepts("sk-engine-1")


async def test_a_key_is_one_api_keys_and_the_firsts(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key("zz", uid="uid-zz", secretName="shared"))
    story.cluster.put(given("shared", api_key="sk-mine"))
    first, second = Ref("ApiKey", "team-a", "zz"), KEY
    await story.settle(first)
    story.cluster.put(builders.api_key(secretName="shared", endpoints=["other"]))
    await story.settle(second)
    assert story.listed() == {("team-a", "zz")}
    assert story.ready(second)["reason"] == "KeyInUse"
    story.cluster.remove(first)
    await story.settle(KEYRING)
    assert story.listed() == {("team-a", "ci")}
    assert story.ready(second)["reason"] == "InForce"
