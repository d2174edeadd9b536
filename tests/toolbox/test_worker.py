"""A worker notes its trouble and goes on; parts of a service break one by one."""

from __future__ import annotations

import pickle
import sqlite3
import threading

import pytest

from casebook.serving import parts
from casebook.serving.consumer import Consumer, Store
from casebook.serving.eventlog import EventLog
from casebook.serving.worker import Worker


@pytest.fixture
def worker(tmp_path):
    log, store = EventLog(tmp_path / "log.db"), Store(tmp_path / "state.db")
    yield Worker(Consumer(log, store, float, lambda db, events: None), store, lambda at: at)
    log.close()
    store.close()


def test_trouble_is_noted_and_passes(worker):
    worker.consumer.log.append([("a", "1"), ("a", "2")])
    apply = worker.consumer.apply

    def broken(db, events):
        raise sqlite3.OperationalError("planted: the disk is full")

    worker.consumer.apply = broken
    assert worker.step() == 0 and "disk is full" in worker.trouble
    assert "disk is full" in worker.condition(9.0)["consumer"]
    worker.consumer.apply = apply
    assert worker.step() == 2 and worker.trouble == ""
    worker.consumer.log.append([("a", "5"), ("a", "no number")])
    told = {"behind": 2, "lag_seconds": 4.0, "consumed": 2, "quarantined": 0}
    assert worker.condition(9.0) == {"consumer": "well"} | told
    worker.step()
    assert worker.condition(9.0)["quarantined"] == 1


def test_the_lag_is_the_age_of_the_oldest_unread_event(worker, tmp_path):
    assert worker.lag(50.0) == (0, 0.0, "")
    worker.consumer.log.append([("a", "10"), ("a", "20")])
    assert worker.lag(50.0) == (2, 40.0, "") and worker.lag(5.0) == (2, 0.0, "")
    worker.consumer.run(most=1)
    assert worker.lag(50.0) == (1, 30.0, "")
    worker.step()
    worker.consumer.log.append([("a", "no number")])
    assert worker.lag(50.0) == (1, None, "")
    other = EventLog(tmp_path / "other.db")
    worker.asked.log = other
    assert worker.lag(50.0)[:2] == (None, None) and "LogChanged" in worker.lag(50.0)[2]
    other.close()


def test_who_asks_waits_for_no_batch(worker, tmp_path):
    reader = Store(tmp_path / "state.db")
    other, answers = Worker(worker.consumer, reader, lambda at: at), []
    worker.consumer.log.append([("a", "10")])
    with worker.consumer.store.transaction():  # a batch that is being applied
        asked = threading.Thread(target=lambda: answers.append(other.lag(50.0)))
        asked.start()
        asked.join(20)
        assert answers == [(1, 40.0, "")]
    reader.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, "model.pickle: FileNotFoundError"),
        (lambda raw: raw[:10], "model.pickle: "),
        (lambda raw: b"garbage", "model.pickle: UnpicklingError"),
        (lambda raw: pickle.dumps([7]), "model.pickle: TypeError: holds a list, not dict"),
    ],
)
def test_a_broken_part_takes_no_other_with_it(tmp_path, change, says):
    parts.save(tmp_path, {"model": {"trees": "x" * 50}, "routes": {"A": 1}})
    kinds = {"model": dict, "routes": dict}
    assert parts.load(tmp_path, kinds)[1] == []
    file = tmp_path / "model.pickle"
    raw = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(raw))
    found, missing = parts.load(tmp_path, kinds)
    assert found == {"routes": {"A": 1}} and len(missing) == 1 and says in missing[0]
