"""Where conversations lie: the same tests on SQLite and on Redis (a fake one)."""

from __future__ import annotations

import sqlite3
import threading

import fakeredis
import pytest

from casebook.serving.conversations import LONGEST, RedisShelf, SqliteShelf


@pytest.fixture(params=["sqlite", "redis"])
def shelf(request):
    return SqliteShelf() if request.param == "sqlite" else RedisShelf(fakeredis.FakeRedis())


def test_texts_come_back_in_order_by_key_and_the_oldest_go(shelf):
    for i in range(LONGEST + 7):
        shelf.push("a", f"{i} ü", now=1, ttl=60)
    shelf.push("b", "other", now=1, ttl=60)
    assert shelf.read("a", now=2) == [f"{i} ü" for i in range(7, LONGEST + 7)]
    assert shelf.read("b", now=2) == ["other"]
    assert shelf.read("c", now=2) == []


def test_redis_expires_by_its_own_clock():
    import time

    redis = fakeredis.FakeRedis(decode_responses=True)
    shelf = RedisShelf(redis)
    shelf.push("a", "one", now=0, ttl=100)
    assert 99_000 < redis.pttl("turns:a") <= 100_000
    shelf.push("b", "two", now=0, ttl=0.01)
    time.sleep(0.03)
    assert shelf.read("b", now=0) == [] and shelf.read("a", now=0) == ["one"]


def test_a_new_text_gives_a_key_new_time_and_does_not_wake_a_dead_one():
    shelf = SqliteShelf()
    shelf.push("a", "one", now=0, ttl=10)
    shelf.push("a", "two", now=9, ttl=10)
    assert shelf.read("a", now=18) == ["one", "two"]
    shelf.push("a", "three", now=20, ttl=10)
    assert shelf.read("a", now=20) == ["three"]


def test_what_has_expired_is_not_in_the_file_any_more(tmp_path):
    path = tmp_path / "turns.db"
    shelf = SqliteShelf(str(path))
    shelf.push("a", "a secret that expires", now=0, ttl=10)
    shelf.push("b", "what stays", now=0, ttl=100)
    assert b"a secret that expires" in path.read_bytes()
    assert shelf.purge(now=50) == 1
    assert b"a secret that expires" not in path.read_bytes()
    assert shelf.read("b", now=50) == ["what stays"]


def test_several_threads_write_one_conversation(shelf):
    def write(who: int) -> None:
        for i in range(10):
            shelf.push("a", f"{who}-{i}", now=0, ttl=60)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = shelf.read("a", now=1)
    assert len(told) == 40
    for who in range(4):
        assert [t for t in told if t.startswith(f"{who}-")] == [f"{who}-{i}" for i in range(10)]


def test_a_text_that_cannot_be_stored_changes_nothing():
    shelf = SqliteShelf()
    shelf.push("a", "one", now=0, ttl=10)
    with pytest.raises((sqlite3.Error, TypeError)):
        shelf.push("a", object(), now=0, ttl=10)
    assert shelf.read("a", now=1) == ["one"]
    shelf.push("a", "two", now=1, ttl=10)
    assert shelf.read("a", now=2) == ["one", "two"]


def test_texts_stand_in_the_order_of_their_numbers_and_no_two_have_the_same(shelf):
    first, second = (shelf.number("a", now=1, ttl=60) for _ in range(2))
    shelf.push("a", "second", 1, 60, second)
    shelf.push("a", "first", 1, 60, first)
    shelf.push("a", "third", 1, 60)
    assert shelf.numbered("a", now=2) == [(0, "first"), (1, "second"), (2, "third")]
    assert shelf.number("b", now=1, ttl=60) == 0


def test_numbers_go_on_when_the_oldest_texts_go(shelf):
    for _ in range(LONGEST + 3):
        shelf.push("a", "x", now=1, ttl=60)
    assert shelf.numbered("a", now=2)[-1] == (LONGEST + 2, "x")


def test_what_is_said_about_a_thing_is_written_anew(shelf):
    shelf.push("a", "of one", 1, 60, about=["wiki:d1", "wiki:d2"])
    shelf.push("a", "of two", 1, 60, about=["wiki:d2"])
    shelf.push("b", "of one again", 1, 60, about=["wiki:d1"])
    assert shelf.change("wiki:d1", lambda text: text.replace("one", "nothing")) == 2
    assert shelf.read("a", now=2) == ["of nothing", "of two"]
    assert shelf.read("b", now=2) == ["of nothing again"]
    assert shelf.change("wiki:d9", str.upper) == 0


def test_what_is_changed_is_not_in_the_file_any_more(tmp_path):
    path = tmp_path / "turns.db"
    shelf = SqliteShelf(str(path))
    shelf.push("a", "a secret that is cut", 0, 10, about=["wiki:d1"])
    assert b"a secret that is cut" in path.read_bytes()
    shelf.change("wiki:d1", lambda text: "gone")
    assert b"a secret that is cut" not in path.read_bytes()
