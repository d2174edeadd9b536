"""What a service gives to its store: nothing lost unsaid, whatever the store and the clock do."""

from __future__ import annotations

import sqlite3

import pandas as pd
import pytest

from casebook.features.definition import DAY, STREAM, Feature
from casebook.features.hashes import hashes_of
from casebook.features.intake import Intake, Unavailable
from casebook.features.store import Online
from casebook.serving.checks import freshness

NOW, SECOND = pd.Timestamp("2025-03-01 12:00"), pd.Timedelta(seconds=1)
FEATURES = [Feature("views", ("user",), "count", DAY)]


class Clock:
    now = NOW

    def __call__(self):
        return self.now


def made(path, **more) -> Intake:
    def frame(rows):
        return pd.DataFrame([*rows], columns=["event", "at", "user"])

    return Intake(Online(FEATURES, path / "store.db"), frame, Clock(), **more)


def views(intake: Intake) -> float:
    return intake._online.read({"user": [7]}, intake.now())["views"][0]


def test_what_waits_gets_in_after_each_fault_and_what_does_not_is_counted(tmp_path):
    """Of three rows the second comes while the file is locked, the third after it was deleted."""
    intake = made(tmp_path, most=2)
    intake.later((1, NOW, 7))
    intake.beat()
    assert (views(intake), intake.waiting, intake.trouble) == (1, 0, "")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    intake._online.cells._db.execute("PRAGMA busy_timeout = 50")
    other.execute("BEGIN EXCLUSIVE")
    intake.later((2, NOW, 7))
    intake.beat()
    assert intake.waiting == 1 and "locked" in intake.trouble
    with pytest.raises(Unavailable, match="locked"):
        intake.take([(9, NOW, 7)])
    other.execute("ROLLBACK")
    other.close()
    intake.beat()
    assert (views(intake), intake.waiting, intake.trouble) == (2, 0, "")
    (tmp_path / "store.db").unlink()
    intake.later((3, NOW, 7))
    with pytest.raises(sqlite3.OperationalError, match="gone"):
        views(intake)
    intake.beat()
    assert views(intake) == 1 and (tmp_path / "store.db").exists()
    for event in (4, 5, 6):
        intake.later((event, NOW, 7))
    assert (intake.waiting, intake.lost) == (2, 1)


def test_a_clock_that_steps_back_loses_no_row_and_one_set_back_by_hours_is_told(tmp_path):
    intake = made(tmp_path)
    for event, after in ((1, 0), (2, 5), (3, 2), (4, 2)):
        intake._clock.now = NOW + after * SECOND
        intake.later((event, NOW + 6 * SECOND, 7))  # stamped before a step back
        intake.beat()
    assert (views(intake), intake.lost, intake.trouble) == (4, 0, "")
    intake._clock.now = NOW - pd.Timedelta(hours=20)
    intake.later((5, NOW, 7))
    intake.beat()
    assert intake.waiting == 1 and "is before it" in intake.trouble
    [check] = freshness(intake._online.freshness(intake._clock.now))
    assert check.alarm  # younger than now is not fresh
    assert intake._online.set_back(intake._clock.now) == pytest.approx(20 * 3_600 + 5, abs=1)
    intake.beat()
    assert (views(intake), intake.waiting, intake.trouble) == (5, 0, "")
    assert intake._online.set_back(intake._clock.now + SECOND) == 0.0


def test_a_row_that_the_store_refuses_is_counted_and_named(tmp_path):
    intake = made(tmp_path)
    intake.later((1, pd.Timestamp(-1), 7))
    intake.beat()
    assert intake.lost == 1 and "it has no time" in intake.trouble


def test_a_file_that_is_locked_when_it_is_opened_serves_later_and_a_folder_is_an_error(tmp_path):
    path = tmp_path / "store.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waits, sqlite3.connect = sqlite3.connect, lambda *a, **k: waits(*a, **k | {"timeout": 0.05})
    try:
        cells = hashes_of(path)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            cells.get([("a", None)])
    finally:
        sqlite3.connect = waits
    other.execute("ROLLBACK")
    other.close()
    cells.ready()
    cells.put([("a", "b", "1")])
    assert cells.get([("a", None)]) == [{"b": "1"}] and STREAM.alert == 60.0
    cells.close()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        hashes_of(tmp_path)
