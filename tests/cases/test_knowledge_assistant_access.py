"""Who may see what: the store against a walk by hand, and the events that keep it up."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.hunted import START, Hunted, Parts
from casebook.cases.knowledge_assistant.records import Document, Event, Grant
from casebook.serving import rights as module

NOON = np.datetime64(START, "s")
DOCUMENTS = [f"wiki:d{i}" for i in range(62)]
USERS = [f"user:{i}" for i in range(13)]  # one of them is unknown


class Feed:
    """Sends events with rising numbers."""

    def __init__(self, store: Access) -> None:
        self.store, self.seq = store, 0

    def __call__(self, kind: str, subject: str, payload, at: int = 0) -> Event:
        self.seq += 1
        event = Event("wiki", self.seq, NOON + at, kind, subject, payload)
        self.store.apply([event])
        self.store.settle()
        return event

    def grant(self, resource: str, **effects: str) -> Event:
        told = (Grant(resource, who.replace("_", ":"), effect) for who, effect in effects.items())
        return self("grants", resource, tuple(told))


@pytest.fixture
def clock() -> list[float]:
    return [float(START)]


@pytest.fixture
def access(clock) -> Access:
    return Access(":memory:", clock=lambda: clock[0])


@pytest.fixture
def feed(access) -> Feed:
    """A user in a group, a document in a folder in a space that the group may see."""
    feed = Feed(access)
    feed("user", "user:1", True)
    feed("members", "group:a", ("user:1",))
    feed("container", "wiki:c1", "")
    feed("container", "wiki:c2", "wiki:c1")
    page = ("p", "t", "b", 1, NOON, "user:1", False, "wiki:c2")
    feed("document", "wiki:d1", Document("wiki:d1", "wiki", *page))
    feed.grant("wiki:c1", group_a="allow")
    assert sees(access)
    return feed


def sees(access: Access, user: str = "user:1", document: str = "wiki:d1") -> bool:
    return bool(access.sees(user, [document])[0])


def differences(world: Hunted) -> int:
    """Return in how many cases the store and the walk by hand do not agree."""
    wrong = 0
    world.arrive()
    for user in USERS:
        told = world.access.sees(user, DOCUMENTS)
        walked = [world.truth.may_see(user, name) for name in DOCUMENTS]
        wrong += int((told != np.array(walked)).sum())
    return wrong


def differences_over(seed: int, store: type[Access] = Access, every: int = 5) -> int:
    world, wrong = Hunted(seed, Parts(store=store)), 0
    for edit in range(12 * every):
        world.now += edit % 3
        world.edit()
        if edit % every == 0:
            wrong += differences(world)
    return wrong


@pytest.mark.parametrize("seed", range(8))
def test_the_store_agrees_with_a_walk_by_hand_in_firms_that_change_at_random(seed):
    assert differences_over(seed) == 0


def test_the_random_firms_have_what_is_hard():
    """Circles of groups and containers, denials at depth, leavers, and neither all nor nothing."""
    met = dict.fromkeys(["circle of groups", "no top", "deny above", "left", "seen", "hidden"], 0)
    for seed in range(4):
        world = Hunted(seed)
        for _ in range(60):
            world.edit()
        truth = world.truth
        above = {g: truth.principals(g) - {g} for g in truth.members}
        met["circle of groups"] += any(g in above.get(o, ()) for g in above for o in above[g])
        met["no top"] += sum(not truth.chain(f"wiki:c{i}") for i in range(15))
        met["left"] += sum(not active for active in truth.active.values())
        for name in truth.documents:
            rest = truth.chain(name)[2:]
            told = [grant.effect for one in rest for grant in truth.grants.get(one, ())]
            met["deny above"] += "deny" in told
            for user in truth.active:
                seen = truth.may_see(user, name)
                met["seen" if seen else "hidden"] += 1
    assert all(met.values()), met
    assert 0.05 < met["seen"] / (met["seen"] + met["hidden"]) < 0.7


class NotInherited(Access):
    """A denial holds for the resource alone that it stands on."""

    def _inherit(self, *flags):
        super()._inherit(*flags[:1])


class NoNesting(Access):
    """Only the groups that hold the user directly count."""


class LeavesLate(Access):
    """A leaver's last second still counts."""

    def sight(self, user):
        now = self.clock()
        self.clock, kept = (lambda: now - 1), self.clock
        try:
            return super().sight(user)
        finally:
            self.clock = kept


class Forgetful(Access):
    """A change of groups is not counted."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        for change in ("INSERT", "DELETE"):
            self._db.execute(f"DROP TRIGGER members_{change}")


@pytest.mark.parametrize("store", [NotInherited, NoNesting, LeavesLate, Forgetful])
def test_the_walk_by_hand_finds_a_faulty_store(store, monkeypatch):
    if store is NoNesting:
        flat = "CROSS JOIN (SELECT 0 AS only) WHERE member = ?1"
        flat = module.PRINCIPALS.replace("JOIN own ON member = own.name", flat)
        monkeypatch.setattr(module, "PRINCIPALS", flat.replace("(?, 0)", "(?1, 0)"))
    assert sum(differences_over(seed, store, every=1) for seed in range(3)) > 0


# Events -------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-3600, 0, 600])  # their clock behind, the same, ahead
def test_a_leave_holds_from_its_arrival_and_whatever_the_clocks_do(access, feed, clock, at):
    feed("user", "user:1", False, at=at)
    assert not sees(access)
    for step in (-1, -7200, 7261):  # ours is set back, and on again
        clock[0] += step
        assert not sees(access)
    feed("user", "user:1", True, at=3600)
    assert not sees(access)
    clock[0] += 3540
    assert sees(access)


def test_the_newest_event_of_a_thing_holds_however_they_arrive(access, feed):
    old, new = feed.grant("wiki:c1", group_a="allow"), feed.grant("wiki:c1")
    assert access.apply([old, new, old]) == 0
    assert not sees(access)
    worlds = [Hunted(5) for _ in range(2)]
    for _ in range(80):
        worlds[0].edit()
    told = worlds[0].events
    order = np.random.default_rng(0).permutation(len(told) * 2) % len(told)
    for row in order:
        worlds[1].hear([told[row]])
    worlds[1].now = worlds[0].now
    for one in worlds:
        one.arrive()
    users = [(a.access.sees(u, DOCUMENTS)).tolist() for u in USERS for a in worlds]
    assert users[::2] == users[1::2]


def test_a_batch_with_a_faulty_event_changes_nothing(access, feed):
    wrong = Event("wiki", 99, NOON, "grants", "wiki:c1", (Grant("wiki:c2", "user:1", "allow"),))
    fine = Event("wiki", 98, NOON, "grants", "wiki:c1", ())
    with pytest.raises(ValueError, match="another resource"):
        access.apply([fine, wrong])
    assert sees(access)
    with pytest.raises(ValueError, match="kind 'merge'"):
        access.apply([Event("wiki", 99, NOON, "merge", "wiki:c1", None)])
