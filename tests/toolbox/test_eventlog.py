"""The event log and its consumer: the same tests on SQLite and Redis, a server's or a fake."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fakeredis
import pytest
import redis

from casebook.serving.consumer import (
    POINTS,
    Consumer,
    ConsumerStopped,
    LogChanged,
    OtherSchema,
    Progress,
    Store,
)
from casebook.serving.drills import BEGUN, kill_drill
from casebook.serving.eventlog import BEGINNING, EventLog
from casebook.serving.redislog import RedisLog

SCHEMA = "CREATE TABLE IF NOT EXISTS sums (key TEXT PRIMARY KEY, total, events);"


def add(db: sqlite3.Connection, events) -> None:
    """Add up numbers by key: what is applied twice or lost changes a sum."""
    for event in events:
        if event.value == 13:
            raise ValueError("13 is refused")
        db.execute(
            "INSERT INTO sums VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE "
            "SET total = total + excluded.total, events = events + 1",
            (event.key, event.value),
        )


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory) -> Iterator[str | None]:
    """Return the address of a Redis server: a given one, one that is started here, or none."""
    if url := os.environ.get("CASEBOOK_REDIS_URL"):
        yield url
        return
    if not (binary := shutil.which("redis-server")):
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["sqlite", "redis"])
def log(request, tmp_path) -> Iterator[EventLog | RedisLog]:
    if request.param == "sqlite":
        made = EventLog(tmp_path / "log.db")
    else:
        url = request.getfixturevalue("redis_url")
        made = RedisLog(url or "redis://127.0.0.1:1/0", f"events-{tmp_path.name}")
        if url is None:  # the commands are those of the library's own imitation of a server
            made._redis = fakeredis.FakeStrictRedis(**RedisLog.OPTIONS)
    yield made
    if request.param == "redis":
        made._redis.delete(made.stream, f"{made.stream}:origin")
    made.close()


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    made = Store(tmp_path / "state.db", SCHEMA)
    yield made
    made.close()


def feed(seed: int, n: int = 300) -> list[tuple[str, str]]:
    """Return events, some of which cannot be decoded or applied."""
    rng = random.Random(seed)
    return [
        (f"k{rng.randrange(9)}", rng.choice(["13", "x"]) if rng.random() < 0.05 else str(k))
        for k in range(100, 100 + n)
    ]


def expected(events) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for key, body in events:
        if body not in ("13", "x"):
            total, count = sums.get(key, (0, 0))
            sums[key] = (total + int(body), count + 1)
    return sums


def found(store: Store) -> dict[str, tuple[int, int]]:
    return {key: (total, n) for key, total, n in store.all("SELECT * FROM sums")}


# The log -----------------------------------------------------------------------------


def test_events_come_back_in_order_and_from_any_offset(log):
    assert log.read() == [] and log.append([]) == BEGINNING
    last = log.append([("a", "1"), ("b", "2"), ("a", "3")])
    events = log.read()
    assert [(e.key, e.body) for e in events] == [("a", "1"), ("b", "2"), ("a", "3")]
    assert events[-1].offset == last == log.append([])
    assert log.read(events[0].offset, 1) == events[1:2]
    assert log.read(last) == []


@pytest.mark.parametrize(
    ("event", "error"),
    [(("a", "x" * 100_001), ValueError), (("a", 7), TypeError), (("a", "\ud800"), ValueError)],
)
def test_what_a_log_cannot_hold_is_refused_with_all_that_came_along(log, event, error):
    with pytest.raises(error, match=r"event|UTF-8"):
        log.append([("good", "1"), event])
    assert log.read() == []


# The consumer ------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_every_event_is_applied_once_or_put_aside(log, store, batch):
    events = feed(0)
    log.append(events)
    consumer = Consumer(log, store, int, add, batch=batch)
    done = consumer.run()
    bad = [body for _, body in events if body in ("13", "x")]
    assert (done.events, done.quarantined) == (300, len(bad)) and bad
    assert found(store) == expected(events)
    aside = consumer.quarantined()
    assert sorted(q.body for q in aside) == sorted(bad)
    assert {q.why for q in aside if q.body == "13"} == {"ValueError: 13 is refused"}
    assert consumer.run().events == 0 and consumer.consumed == 300


class Killed(BaseException):
    """What a drill raises in place of the end of the process."""


@pytest.mark.parametrize("seed", range(20))
def test_crashes_at_any_point_lose_nothing_and_apply_nothing_twice(log, store, seed):
    events, rng = feed(seed), random.Random(seed)
    log.append(events)

    def at(point: str) -> None:
        if rng.random() < 0.3:
            raise Killed(point)

    crashes = 0
    while True:
        consumer = Consumer(log, store, int, add, batch=rng.choice([1, 10, 50]), at=at)
        try:
            if not consumer.run().events:
                break
        except Killed:
            crashes += 1
    assert crashes > 3 and found(store) == expected(events) and consumer.consumed == 300


class Forgetful(Consumer):
    """A planted fault: it commits what it changed before it says how far it read."""

    def step(self, n=None):
        events = self.log.read(self.offset, n or self.batch)
        with self.store.transaction() as db:
            bad = self._applied(db, events)
        self.at("applied")
        with self.store.transaction() as db:
            if events:
                self._read_up_to(db, events[-1].offset, self.consumed + len(events), "")
        return Progress(len(events), len(bad))


def test_a_consumer_with_two_commits_is_caught(log, store):
    events = feed(1)
    log.append(events)
    once = iter([True])

    def at(point: str) -> None:
        if next(once, False):
            raise Killed(point)

    for _ in range(2):
        try:
            Forgetful(log, store, int, add, batch=100, at=at).run()
        except Killed:
            continue
    assert found(store) != expected(events)


def test_two_consumers_of_one_name_take_turns(log, store, tmp_path):
    events = feed(2)
    log.append(events)
    other = Store(tmp_path / "state.db", SCHEMA)
    both = [Consumer(log, s, int, add, batch=20) for s in (store, other)]
    while sum(consumer.step().events for consumer in both):
        pass
    other.close()
    assert found(store) == expected(events)
    apart = Consumer(log, store, int, lambda db, events: None, name="another")
    assert apart.offset == BEGINNING and apart.run().events == 300


def test_a_bug_stops_the_consumer_and_puts_nothing_aside(log, store):
    log.append([("a", str(k)) for k in range(30)])

    def broken(db, events):
        raise KeyError("a bug")

    with pytest.raises(ConsumerStopped, match=r"5 events in a row .* KeyError"):
        Consumer(log, store, int, broken, most_failures=5).run()
    consumer = Consumer(log, store, int, add)
    assert consumer.offset == BEGINNING and not consumer.quarantined()
    assert consumer.run() == (30, 1)  # one of them is 13


def test_events_are_tried_again_after_their_cause_was_mended(log, store):
    log.append([("a", "1"), ("a", "x"), ("a", "13"), ("a", "2")])
    assert Consumer(log, store, int, add).run() == (4, 2)
    mended = Consumer(log, store, lambda body: 7 if body == "x" else int(body), add)
    assert mended.again() == (2, 1) and mended.again() == (1, 1)
    assert found(store) == {"a": (10, 3)}
    assert [q.body for q in mended.quarantined()] == ["13"]


def test_a_database_that_cannot_be_written_is_no_fault_of_an_event(log, store):
    log.append([("a", "1")])

    def full(db, events):
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError, match="full"):
        Consumer(log, store, int, full).run()
    assert Consumer(log, store, int, add).run() == (1, 0)


def test_a_batch_has_an_event():
    with pytest.raises(ValueError, match="batch is 0"):
        Consumer(None, None, int, add, batch=0)


# What no later event would show ------------------------------------------------------


def shorten(log: EventLog | RedisLog, n: int) -> None:
    """Delete the oldest events, as a log's retention does."""
    if isinstance(log, RedisLog):
        log._redis.xtrim(log.stream, maxlen=len(log.read(n=1000)) - n, approximate=False)
    else:
        log.all("DELETE FROM events WHERE offset IN (SELECT offset FROM events LIMIT ?)", (n,))


def set_back(log: EventLog | RedisLog, new: bool) -> None:
    """Empty a log as if it had been lost, or put another one in its place."""
    if isinstance(log, RedisLog):
        log._redis.delete(log.stream, *[f"{log.stream}:origin"] * new)
    else:
        for table in ("events", "sqlite_sequence"):
            log.all(f"DELETE FROM {table}")
        if new:
            log.all("UPDATE origin SET id = 'another'")


@pytest.mark.parametrize(("new", "n"), [(False, 2), (True, 2), (True, 9)])
def test_a_log_that_is_not_the_one_that_was_read_is_an_error(log, store, new, n):
    log.append([("a", "1")] * 5)
    consumer = Consumer(log, store, int, add)
    assert consumer.run().events == 5 and consumer.behind == 0
    set_back(log, new)
    log.append([("a", "1")] * n)
    for check in (consumer.run, lambda: consumer.behind):
        with pytest.raises(LogChanged, match=r"5 events were read.*move state.db away"):
            check()
    assert found(store) == {"a": (5, 5)}


def test_events_that_are_deleted_before_they_are_read_are_an_error(log, store):
    log.append([("a", str(k)) for k in range(20, 30)])
    consumer = Consumer(log, store, int, add, batch=4)
    assert consumer.step().events == 4
    shorten(log, 4)  # read ones: that is what retention is for
    assert consumer.behind == 6 and consumer.step().events == 4
    shorten(log, 5)
    with pytest.raises(LogChanged, match=r"1 events were deleted.*call `skip`"):
        consumer.step()
    assert consumer.skip() == 1 and consumer.run().events == 1 and consumer.behind == 0
    assert found(store) == {"a": (sum(range(20, 28)) + 29, 9)}
    shorten(log, 1)
    assert consumer.run().events == consumer.skip() == 0


def test_an_entry_that_is_no_event_is_put_aside_for_good():
    log = RedisLog("redis://127.0.0.1:1/0")
    log._redis = fakeredis.FakeStrictRedis(**RedisLog.OPTIONS)
    store = Store(":memory:", SCHEMA)
    log.append([("a", "1")])
    for fields in ({"other": "7"}, {"body": "7"}, {"key": "a", "body": b"\xff"}):
        log._redis.xadd(log.stream, fields)
    log.append([("a", "2")])
    consumer = Consumer(log, store, lambda body: int(body.replace("\\", "x")), add)
    assert consumer.run() == (5, 3) and found(store) == {"a": (3, 2)}
    says = [q.why for q in consumer.quarantined()]
    assert says[:2] == ["NoEvent: an entry without body and key", "NoEvent: an entry without key"]
    consumer.decode = lambda body: 7
    assert consumer.again() == (1, 0) and len(consumer.quarantined()) == 2
    store.close()


def test_a_server_that_does_not_answer_is_an_error():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        log = RedisLog(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout=0.1)
        for ask in (log.read, log.extent, lambda: log.append([("a", "1")])):
            with pytest.raises(redis.exceptions.TimeoutError):
                ask()
        log.close()


def test_a_log_is_read_outside_the_transaction_and_counted_without_bodies(log, store, monkeypatch):
    log.append(feed(4))
    writing: dict[str, bool] = {}
    consumer = Consumer(log, store, int, add)
    consumer.at = lambda point: writing.__setitem__(point, store._db.in_transaction)
    consumer.run(100)
    assert writing == {"read": False, "applied": True, "committed": False}
    monkeypatch.setattr(type(log), "read", None)
    assert consumer.behind == 200


def test_another_process_that_was_faster_leaves_nothing_to_do_twice(log, store, tmp_path):
    events = feed(5)
    log.append(events)
    other = Store(tmp_path / "state.db", SCHEMA)
    faster = iter([Consumer(log, other, int, add, batch=60)])

    def at(point: str) -> None:
        if point == "read" and (consumer := next(faster, None)):
            consumer.step()

    assert Consumer(log, store, int, add, batch=50, at=at).run().events == 240
    other.close()
    assert found(store) == expected(events)


def test_a_store_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "state.db"
    Store(path, SCHEMA).close()
    Store(path, SCHEMA.replace(" (", "\n  (")).close()
    with pytest.raises(OtherSchema, match=r"state.db was made for the schema \d+.*move the file"):
        Store(path, SCHEMA.replace("events", "n"))
    old = sqlite3.connect(tmp_path / "old.db")  # from before there was a number
    old.execute("CREATE TABLE sums (key)")
    old.close()
    with pytest.raises(OtherSchema, match="for the schema 0"):
        Store(tmp_path / "old.db", SCHEMA)


def test_of_too_many_events_that_are_put_aside_the_newest_are_kept(log, store):
    log.append([("a", f"x{k}") for k in range(9)])
    consumer = Consumer(log, store, int, add, batch=2, most_aside=3)
    Consumer(log, store, int, add, name="another").run()
    assert consumer.run() == (9, 9)
    assert [q.body for q in consumer.quarantined()] == ["x6", "x7", "x8"]
    assert store.all("SELECT count(*) FROM quarantine") == [(12,)]


# A process that is really killed -----------------------------------------------------


def start(folder: str) -> str:
    path = Path(folder)
    for file in path.glob("state.db*"):
        file.unlink()
    return folder


def work(folder: str, passed) -> None:
    path = Path(folder)
    log, store = EventLog(path / "log.db"), Store(path / "state.db", SCHEMA)
    passed(BEGUN)
    Consumer(log, store, int, add, batch=10, at=passed).run()


def go_on(folder: str) -> tuple[dict, dict]:
    """Return the sums that the killed process left, and those of the one that reads on."""
    path = Path(folder)
    log, store = EventLog(path / "log.db"), Store(path / "state.db", SCHEMA)
    left = found(store)
    Consumer(log, store, int, add, batch=10).run()
    return left, found(store)


def test_a_killed_process_is_continued_by_the_next_one(tmp_path):
    events = feed(3)
    log = EventLog(tmp_path / "log.db")
    log.append(events)
    log.close()
    points = [(name, n) for name in POINTS for n in (1, 7, 20)] + [0.3, 0.7]
    kills = kill_drill(partial(start, str(tmp_path)), work, go_on, points)
    assert all(kill.killed for kill in kills[:9])
    assert any(kill.left[0] != expected(events) for kill in kills)
    assert all(kill.left[1] == expected(events) for kill in kills)
