"""What a consumer keeps: rows with types, the first of two, a correction that follows."""

from __future__ import annotations

import sqlite3

import pandas as pd
import pytest

from casebook.evaluate.conformal import Adaptive
from casebook.serving.consumer import Refused, Store
from casebook.serving.following import TABLE, Following, keep, recalled
from casebook.serving.stored import among, contents, frame, iso, joined, put, seconds, typed

LOAD = "CREATE TABLE IF NOT EXISTS load (hub, hours, at, PRIMARY KEY (hub, at));"
TYPES = {"numbers": ["hours", "absent"], "times": ["at"]}


@pytest.fixture
def db():
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript(LOAD + TABLE)
    yield made
    made.close()


def test_of_two_rows_with_one_key_the_first_counts(db):
    assert put(db, "load", ["A", 3.0, 60], ["hub", "at"])
    assert not put(db, "load", ("A", 3.0, 60), ["hub", "at"])
    with pytest.raises(Refused, match=r"differs .*\('A', 4.0, 60\), first \('A', 3.0, 60\)"):
        put(db, "load", ("A", 4.0, 60), ["hub", "at"])
    assert put(db, "load", ("A", 4.0, 120), ["hub", "at"])
    assert [row[1] for row in db.execute("SELECT * FROM load ORDER BY at")] == [3.0, 4.0]


def test_a_table_has_its_types_also_where_it_is_empty(db):
    empty = frame(db, "SELECT * FROM load", **TYPES)
    assert (empty["at"].dtype.kind, empty["hours"].dtype) == ("M", float)
    noon = pd.Timestamp("2025-10-07 12:00:00")
    put(db, "load", ("A", 3, seconds(noon)), ["hub", "at"])
    put(db, "load", ("B", 5, seconds(noon) + 1), ["hub", "at"])
    some = frame(db, f"SELECT * FROM load WHERE hub IN {among('AX')}", ["A", "X"], **TYPES)
    assert some.to_numpy().tolist() == [["A", 3.0, noon]]
    whole = joined(empty, some)
    assert whole is some and len(joined(whole, typed(some.copy(), **TYPES))) == 2
    untyped = joined(frame(db, "SELECT * FROM load WHERE hub = 'X'"), some)
    assert untyped["at"].dtype.kind == "M", "an empty table gives no types away"
    assert iso(seconds(noon) + 0.6) == "2025-10-07T12:00:01Z"


def test_contents_are_in_order_whatever_was_written_first(tmp_path):
    stores = [Store(tmp_path / f"{k}.db", LOAD) for k in range(2)]
    rows = [("B", 1.0, 5), ("A", 2.0, 9), ("A", 2.0, 5)]
    for store, order in zip(stores, (rows, rows[::-1]), strict=True):
        with store.transaction() as db:
            db.executemany("INSERT INTO load VALUES (?, ?, ?)", order)
    first, second = (contents(store, "load", 3) for store in stores)
    assert first == second and first[0] == ("A", 2.0, 5)
    for store in stores:
        store.close()


# The correction ------------------------------------------------------------------------


def fresh() -> Adaptive:
    return Adaptive([-2.0, -1.0, 0.0, 1.0], level=0.5, gamma=0.05, window=4)


def test_a_case_that_ends_judges_each_of_its_forecasts(db):
    follows = Following(fresh(), [("old", 0, 10.0, 20.0, 9.0)])
    first = follows.ask("new", 0, 10.0, 20.0)
    follows.ask("new", 30 * 3600, 1.0, 2.0)
    follows.ended("new", 25 * 3600)  # the second forecast came after the end
    assert list(follows.follower.recent) == [-1.0, 0.0, 1.0, 5.0]
    by_hand = fresh()
    by_hand.learn(5.0, first)
    assert follows.follower.alpha == by_hand.alpha < 0.5
    follows.ended("old", 5 * 3600)  # before its interval: five hours outside, and nine were given
    assert follows.follower.recent[-1] == 5.0 and follows.follower.alpha > by_hand.alpha
    follows.ended("never asked", 5)
    assert len(follows.follower.recent) == 4


def test_what_was_learned_is_there_after_a_restart(db):
    assert recalled(db, fresh()).recent == fresh().recent
    follower = fresh()
    follower.learn(7.0, 0.0)
    keep(db, follower)
    keep(db, follower)  # one row, however often
    again = recalled(db, fresh())
    assert (again.alpha, again.recent) == (follower.alpha, follower.recent)
    assert (again.level, again.gamma, again.window) == (0.5, 0.05, 4)
    again.learn(-9.0, 0.0)
    follower.learn(-9.0, 0.0)
    assert again.ask() == follower.ask() != fresh().ask()
