"""The rotation of a key on a cluster in memory, and an operator that is killed while at it."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_operator import names
from endpoint_operator.apikeys import reconcile_api_key
from endpoint_operator.keyring import Keyring, read_keyring
from endpoint_operator.keys import digest
from endpoint_operator.listing import KEYRING
from endpoint_operator.live import Live, Ref
from endpoint_operator.rotation import HANDOVER_SECONDS
from helpers import builders
from helpers.key_story import KEY, RING, SECRET, Story
from helpers.memory_cluster import MakeContext, MemoryCluster
from kube_api import Conflict

Object = dict[str, Any]

ROTATED = {"id": "2", "overlap": "1h"}
AGAIN = {"id": "3", "overlap": "1h"}
HOUR = 3600


@pytest.fixture
async def story(make_context: MakeContext) -> Story:
    """One ApiKey in force."""
    begun = Story(make_context, builders.api_key())
    await begun.settle()
    return begun


async def rotate(story: Story, **rotation: str) -> None:
    story.cluster.edit(KEY, rotation=rotation)
    await story.settle()
    await story.wait()


async def test_both_keys_are_in_force_until_the_overlap_ends(story: Story) -> None:
    old = story.key()
    await rotate(story, **ROTATED)
    new = story.key()
    assert new != old
    assert story.key(field="previous-api-key") == old
    assert story.accepts(old)
    assert story.accepts(new)
    assert story.ready()["message"] == (
        "The key in Secret ci-api-key is in force. The one before it is valid until"
        " 2026-11-21T13:00:03Z."
    )
    assert await story.wait() == HOUR
    assert story.key(field="previous-api-key") == ""
    assert not story.accepts(old)
    assert story.accepts(new)
    assert story.ready()["message"] == "The key in Secret ci-api-key is in force."
    assert story.due == {}


async def test_a_new_key_is_in_force_before_anybody_is_given_it(story: Story) -> None:
    old = story.key()
    story.cluster.edit(KEY, rotation=ROTATED)
    await story.settle()
    new = story.key(field="next-api-key")
    assert story.key() == old
    assert story.accepts(new)
    assert "about to take its place" in story.ready()["message"]
    assert story.ready()["status"] == "True"
    assert await story.wait() == HANDOVER_SECONDS
    assert story.key() == new


async def test_a_rotation_costs_four_writes_of_the_secret_and_three_of_the_keyring(
    story: Story,
) -> None:
    story.cluster.edit(KEY, rotation=ROTATED)
    writes = await story.settle()
    for _ in range(2):
        await story.wait()
        writes += story.cluster.writes
    assert [ref for verb, ref in writes if verb == "apply"] == [
        *(SECRET, RING),  # the new key is made known
        SECRET,  # and given the time to get everywhere
        *(SECRET, RING),  # and handed out
        *(SECRET, RING),  # and the old one is removed
    ]
    assert await story.settle(KEY, KEYRING) == []


async def test_a_new_api_keys_first_key_is_of_its_rotation(make_context: MakeContext) -> None:
    story = Story(make_context, builders.api_key(rotation=ROTATED))
    await story.settle()
    assert story.due == {}
    assert await story.settle(KEY, KEYRING) == []


async def test_a_gateway_knows_when_the_key_before_ends(story: Story) -> None:
    old = story.key()
    await rotate(story, **ROTATED)
    story.now += HOUR - 1
    assert story.accepts(old)
    story.now += 1
    assert not story.accepts(old)


async def test_an_overlap_that_ended_while_nobody_worked_is_over(story: Story) -> None:
    await rotate(story, **ROTATED)
    old = story.key(field="previous-api-key")
    story.now += 2 * HOUR
    await story.settle(KEYRING, KEY)
    assert story.key(field="previous-api-key") == ""
    assert not story.accepts(old)


async def test_a_change_during_the_overlap_waits_for_its_end(story: Story) -> None:
    await rotate(story, **ROTATED)
    first, second = story.key(field="previous-api-key"), story.key()
    story.cluster.edit(KEY, rotation=AGAIN)
    await story.settle()
    assert story.key() == second
    assert story.accepts(first)
    assert "Rotation 3 begins then." in story.ready()["message"]
    assert await story.wait() == HOUR
    await story.wait()
    assert story.key(field="previous-api-key") == second
    assert story.accepts(story.key())
    assert not story.accepts(first)


async def test_a_change_without_overlap_leaves_the_new_key_alone(story: Story) -> None:
    await rotate(story, **ROTATED)
    before = [story.key(field="previous-api-key"), story.key()]
    await rotate(story, id="3", overlap="0s")
    assert [key for key in before if story.accepts(key)] == []
    assert story.accepts(story.key())


async def test_the_end_of_an_api_key_ends_both_of_its_keys(story: Story) -> None:
    story.cluster.edit(KEY, expiresAt="2026-11-21T12:30:00Z")
    await rotate(story, **ROTATED)
    both = [story.key(field="previous-api-key"), story.key()]
    await story.wait()
    assert story.now == 1795262400 + HOUR / 2
    assert [key for key in both if story.accepts(key)] == []


async def test_a_suspended_key_is_rotated_without_a_handover(story: Story) -> None:
    old = story.key()
    story.cluster.edit(KEY, suspended=True)
    await story.settle()
    story.cluster.edit(KEY, rotation=ROTATED)
    await story.settle()
    assert story.key(field="previous-api-key") == old
    story.cluster.edit(KEY, suspended=False)
    await story.settle()
    assert story.accepts(old)
    assert story.accepts(story.key())


async def test_an_overlap_is_ended_by_removing_the_key_from_the_secret(story: Story) -> None:
    await rotate(story, **ROTATED)
    old = story.key(field="previous-api-key")
    secret = story.cluster.stored(SECRET)
    del secret["data"]["previous-api-key"]
    story.cluster.put(secret)
    await story.settle(KEYRING, KEY)
    assert not story.accepts(old)
    assert names.PREVIOUS_UNTIL not in story.cluster.stored(SECRET)["metadata"]["annotations"]


@pytest.mark.parametrize("then", [{}, AGAIN])
async def test_annotations_that_get_lost_revoke_nobody_and_rotate_nothing(
    story: Story, then: Object
) -> None:
    await rotate(story, **ROTATED)
    held = story.cluster.stored(SECRET)
    secret = story.cluster.stored(SECRET)
    del secret["metadata"]["annotations"]
    story.cluster.put(secret)
    if then:
        story.cluster.edit(KEY, rotation=then)
    await story.settle(KEYRING, KEY)
    after = story.cluster.stored(SECRET)
    assert after["data"] == held["data"]
    assert after["metadata"]["annotations"] == held["metadata"]["annotations"] | (
        {names.ROTATION: "3"} if then else {}
    )
    assert story.accepts(story.key(field="previous-api-key"))


async def test_what_others_put_into_the_secret_stays(story: Story) -> None:
    secret = story.cluster.stored(SECRET)
    secret["data"]["note"] = "bWluZQ=="
    secret["metadata"]["annotations"]["example.dev/note"] = "mine"
    story.cluster.put(secret)
    await rotate(story, **ROTATED)
    await story.wait()
    after = story.cluster.stored(SECRET)
    assert after["data"]["note"] == "bWluZQ=="
    assert after["metadata"]["annotations"]["example.dev/note"] == "mine"


async def test_a_renamed_secret_takes_both_keys_along(story: Story) -> None:
    await rotate(story, **ROTATED)
    both = story.cluster.stored(SECRET)
    story.cluster.edit(KEY, secretName="other")
    await story.settle()
    renamed = story.cluster.stored(Ref("Secret", "team-a", "other"))
    assert renamed["data"] == both["data"]
    assert renamed["metadata"]["annotations"] == both["metadata"]["annotations"]


async def test_a_secret_that_changed_meanwhile_is_not_written_over(story: Story) -> None:
    """The operator that led before has rotated, and our watch does not know it yet."""
    seen = story.cluster.get(SECRET)
    assert seen is not None
    rotated = story.cluster.stored(SECRET)
    rotated["data"]["api-key"] = "c2stbmV3"
    story.cluster.put(rotated, seen=False)
    story.cluster.edit(KEY, rotation=ROTATED)
    with pytest.raises(Conflict):
        await story.settle()
    assert story.key() == "sk-new"


async def test_an_overlap_ends_under_a_refused_spec_that_came_before_the_keyring_knew_it(
    story: Story,
) -> None:
    old = story.key()
    story.cluster.edit(KEY, rotation=ROTATED)
    await story.settle()
    story.now += HANDOVER_SECONDS
    await reconcile_api_key(story.context, KEY)  # and killed
    assert story.key(field="previous-api-key") == old
    story.cluster.edit(KEY, endpoints=["*/*"])
    await story.settle(KEYRING, KEY)
    assert story.accepts(old)
    assert await story.wait() == HOUR
    assert not story.accepts(old)
    assert story.accepts(story.key())


async def test_a_new_key_gets_its_time_also_where_it_is_listed_late(story: Story) -> None:
    old = story.key()
    story.cluster.edit(KEY, rotation=ROTATED)
    await reconcile_api_key(story.context, KEY)
    story.now += 10
    await story.settle(KEYRING)
    assert story.key() == old
    assert await story.wait() == HANDOVER_SECONDS
    assert story.key() != old


# -- killed at any instant ---------------------------------------------------------------------


class KilledError(Exception):
    """The operator is gone."""


class Mortal(MemoryCluster):
    """A cluster whose operator dies at one of its writes, before or after it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.lives_for = -1
        self.done_first = False

    async def apply(self, obj: Object, *, over: Live | None) -> Live:
        if not self.done_first:
            self._count()
        live = await super().apply(obj, over=over)
        if self.done_first:
            self._count()
        return live

    async def write_status(self, live: Live, changed: Object) -> bool:
        self._count()
        return await super().write_status(live, changed)

    def _count(self) -> None:
        if self.lives_for == 0:
            self.lives_for = -1
            raise KilledError
        self.lives_for -= 1


GATEWAYS_KNOW_AFTER = 2
DOWN = 10


class Watched(Story):
    """Checks after every step that nobody who was given a key is refused before its time.

    By any gateway: one has the keyring of now, another still that of two seconds ago.
    """

    handed_out: dict[str, float]
    rings: dict[float, Keyring]

    def everywhere(self, key: str) -> bool:
        """Return whether every gateway accepts a key."""
        self.rings[self.now] = read_keyring(self.cluster.stored(RING))
        ago = max(time for time in self.rings if time <= self.now - GATEWAYS_KNOW_AFTER)
        return all(
            any(entry.sha256 == digest(key) and not entry.has_ended(self.now) for entry in ring)
            for ring in (self.rings[ago], self.rings[self.now])
        )

    def check(self) -> None:
        """What is under `api-key` is in use from now on; what was there is for the overlap."""
        current = self.key()
        if current not in self.handed_out:
            self.handed_out = {
                key: min(end, self.now + HOUR) for key, end in self.handed_out.items()
            }
            self.handed_out[current] = float("inf")
        for key, end in self.handed_out.items():
            assert self.now >= end or self.everywhere(key)

    async def restarted(self, *again: Ref) -> None:
        """Settle; an operator that dies at it is back after a while, and looks at these first."""
        try:
            await self.settle(KEY, KEYRING)
        except KilledError:
            self.check()
            self.now += DOWN
            await self.settle(*again)
        self.check()


@pytest.mark.parametrize("again", [(KEYRING, KEY), (KEY, KEYRING)], ids=["ring", "key"])
@pytest.mark.parametrize("done_first", [False, True])
@pytest.mark.parametrize("instant", range(13))
async def test_a_killed_operator_loses_no_key_that_clients_use(
    make_context: MakeContext, instant: int, *, done_first: bool, again: tuple[Ref, Ref]
) -> None:
    cluster = Mortal()
    story = Watched(make_context, builders.api_key(), cluster=cluster)
    await story.settle()
    story.handed_out = {story.key(): float("inf")}
    story.rings = {story.now: read_keyring(cluster.stored(RING))}
    story.now += GATEWAYS_KNOW_AFTER
    cluster.lives_for, cluster.done_first = instant, done_first
    story.cluster.edit(KEY, rotation=ROTATED)
    await story.restarted(*again)
    while len(story.handed_out) < 3 or story.due:
        if len(story.handed_out) == 2:
            story.cluster.edit(KEY, rotation=AGAIN)  # during the overlap
        story.now = min(story.due.values())
        await story.restarted(*again)
    assert len(story.handed_out) == 3
    assert await story.settle(KEY, KEYRING) == []
    assert [key for key in story.handed_out if story.accepts(key)] == [story.key()]
