"""Lost at once, gained when the texts are there: for every kind of change, and over a kill."""

from __future__ import annotations

import random

import numpy as np
import pytest

from casebook.serving.held_back import HeldBack
from casebook.serving.rights import Rights

ITEMS = [f"i{n}" for n in range(12)]
USERS = [f"u{n}" for n in range(5)]


def change(rng):
    """Return a change of any kind: its name, and what it is given."""
    who = rng.sample([*USERS, "g0", "g1", "g2"], 3)
    return rng.choice(
        [
            ("person", (rng.choice(USERS), 0)),
            ("leaves", (rng.choice(USERS), 0)),
            ("members", (f"g{rng.randrange(3)}", who)),
            ("grants", (rng.choice([*ITEMS, "c0", "c1"]), {(w, rng.choice(KINDS)) for w in who})),
            ("lies_in", (f"c{rng.randrange(3)}", rng.choice(["", "c0", "c1", None]))),
            ("lies_in", (rng.choice(ITEMS), rng.choice(["", "c0", "c1", "c2"]), True)),
        ]
    )


KINDS = ("allow", "allow", "deny")


def made(store, changes):
    for name, given in changes:
        with store.writing():
            getattr(store, name)(*given)
    return store


def sees(store):
    return np.array([store.sees(user, ITEMS) for user in USERS])


@pytest.mark.parametrize("seed", range(12))
def test_one_sees_what_the_newest_and_the_settled_state_allow(seed, tmp_path):
    rng = random.Random(seed)
    drawn = [*[change(rng) for _ in range(60)], *[change(rng) for _ in range(40)]]
    plain = [made(Rights(":memory:", lambda: 9), drawn[:n]) for n in (60, 100)]
    store = made(HeldBack(tmp_path / "a.db", lambda: 9), drawn[:60])
    assert not sees(store).any() and store.settle() == 60
    assert (sees(store) == sees(plain[0])).all()
    made(store, drawn[60:])
    assert (sees(store) == (sees(plain[0]) & sees(plain[1]))).all()
    store.close()
    store = HeldBack(tmp_path / "a.db", lambda: 9)  # what waits is in the file
    assert (sees(store) == (sees(plain[0]) & sees(plain[1]))).all()
    store.settle(store.heard() - 40)  # a mark before them
    assert (sees(store) == (sees(plain[0]) & sees(plain[1]))).all()
    store.settle()
    assert (sees(store) == sees(plain[1])).all()
    store.close()


def test_a_kill_between_the_two_files_is_mended_by_the_next_call(tmp_path, monkeypatch):
    rng = random.Random(3)
    drawn = [change(rng) for _ in range(80)]
    store = made(HeldBack(tmp_path / "a.db", lambda: 9), drawn[:50])
    writing = store.writing
    monkeypatch.setattr(store, "writing", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.settle()
    monkeypatch.setattr(store, "writing", writing)
    made(store, drawn[50:])
    store.settle()
    assert (sees(store) == sees(made(Rights(":memory:", lambda: 9), drawn))).all()


def test_who_settles_late_takes_nothing_back(tmp_path):
    """Another process settles more, while this one is about to settle up to an earlier mark."""
    rng = random.Random(5)
    drawn = [change(rng) for _ in range(80)]
    store = made(HeldBack(tmp_path / "a.db", lambda: 9), drawn[:40])
    early = store._db.execute("SELECT n, source, told FROM pending ORDER BY n").fetchall()
    made(store, drawn[40:])
    store.settle()
    with store.writing():  # what a process saw that has read before the other one deleted
        store._db.executemany("INSERT INTO pending VALUES (?, ?, ?)", early)
    assert store.settle(40) == 40
    assert (sees(store.settled) == sees(made(Rights(":memory:", lambda: 9), drawn))).all()


def test_changes_of_a_source_that_is_down_go_on_waiting_and_others_do_not():
    store = HeldBack(":memory:", lambda: 9)
    for source, item in (("wiki", "i0"), ("chat", "i1"), ("wiki", "i2"), ("", "")):
        store.source = source
        with store.writing():
            if item:
                store.lies_in(item, "", item=True)
                store.grants(item, {("u0", "allow")})
            else:
                store.person("u0", 0)
    assert store.settle(but={"wiki"}) == 3
    assert store.sees("u0", ["i0", "i1", "i2"]).tolist() == [False, True, False]
    assert store.settle() == 4 and store.sees("u0", ["i0", "i1", "i2"]).all()


def test_a_loss_that_is_taken_back_before_the_round_ends_leaves_all_as_it_was():
    store = HeldBack(":memory:", lambda: 9)
    with store.writing():
        store.person("u0", 0)
        store.lies_in("i0", "", item=True)
        store.grants("i0", {("u0", "allow")})
    store.settle()
    for grants, seen in (({("u0", "deny")}, False), ({("u0", "allow")}, True)):
        with store.writing():
            store.grants("i0", grants)
        assert store.sees("u0", ["i0"]).tolist() == [seen]


class NeverLeft(HeldBack):
    """A leave is not noted for the settled state."""

    def leaves(self, name, until):
        Rights.leaves(self, name, until)


@pytest.mark.parametrize(("kind", "seen"), [(HeldBack, False), (NeverLeft, True)])
def test_who_left_and_comes_back_waits_for_the_texts_as_anybody_who_is_new(kind, seen):
    store = kind(":memory:", lambda: 9)
    given = [("person", ("u0", 0)), ("lies_in", ("i0", "", True)), ("grants", ("i0", ALLOWED))]
    made(store, given).settle()
    made(store, [("leaves", ("u0", 0))]).settle()
    assert not store.sees("u0", ["i0"]).any()
    made(store, [("person", ("u0", 0))])
    assert store.sees("u0", ["i0"]).tolist() == [seen]
    store.settle()
    assert store.sees("u0", ["i0"]).all()


ALLOWED = {("u0", "allow")}


@pytest.mark.parametrize("lost", ["a.db", "a.db.settled"])
def test_one_file_without_the_other_is_refused(tmp_path, lost):
    store = made(HeldBack(tmp_path / "a.db"), [("person", ("u0", 0)), ("lies_in", ("i0", ""))])
    store.settle()
    store.close()
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        if path.name.removesuffix("-wal").removesuffix("-shm") == lost:
            path.unlink()
    with pytest.raises(ValueError, match="do not belong together"):
        HeldBack(tmp_path / "a.db")


def test_files_that_are_empty_yet_become_a_pair(tmp_path):
    for lost in ("a.db", "a.db.settled"):  # as after a kill while they were made
        HeldBack(tmp_path / "a.db").close()
        (tmp_path / lost).unlink()
    HeldBack(tmp_path / "a.db").close()


def test_a_store_that_is_shut_shows_nothing_and_then_what_it_did():
    store = made(HeldBack(":memory:"), [("person", ("u0", 0)), ("lies_in", ("i0", "", True))])
    made(store, [("grants", ("i0", ALLOWED))]).settle()
    for store.shut in (True, False):
        assert store.sees("u0", ["i0"]).any() != store.shut
