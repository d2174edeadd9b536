"""Many operations in one commit: one that fails, a database that is locked, both stores."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import uuid

import pytest

from casebook.serving.grouped import Grouped, Postgres, Sqlite, StoreDown

URL = os.environ.get("CASEBOOK_POSTGRES_URL", "")
NO_POSTGRES = pytest.mark.skipif(
    not URL, reason="CASEBOOK_POSTGRES_URL is not set: .ci/run starts PostgreSQL"
)

SCHEMA = "create table if not exists seen (name text primary key)"


def add(db, name):
    db.execute("insert into seen values (?)", (name,))


def names(store):
    return store.submit(lambda db: db.execute("select count(*) from seen").fetchone()[0]).result()


def test_an_operation_that_fails_is_undone_alone_and_a_group_is_one_commit():
    store = Grouped(Sqlite(":memory:"), SCHEMA)

    def wrong(db) -> None:
        db.execute("insert into seen values ('x')")
        raise KeyError("no")

    async def all_at_once():
        before = store.commits
        asked = [store.do(add, str(i)) for i in range(50)]
        found = await asyncio.gather(*asked, store.do(wrong), return_exceptions=True)
        return found, store.commits - before

    found, commits = asyncio.run(all_at_once())
    assert isinstance(found[-1], KeyError) and commits < 50
    assert names(store) == 50
    store.close()


def test_a_database_that_is_locked_is_a_store_that_is_down(tmp_path):
    store = Grouped(Sqlite(tmp_path / "db"), SCHEMA)
    store.submit(lambda db: db.execute("pragma busy_timeout = 1")).result()
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(StoreDown, match="Try again later"):
        store.submit(add, "a").result()
    other.execute("rollback")
    other.close()
    store.submit(add, "b").result()
    assert names(store) == 1
    store.close()


def test_a_file_that_was_deleted_or_replaced_takes_nothing_more(tmp_path):
    store = Grouped(Sqlite(tmp_path / "db"), SCHEMA)
    store.submit(add, "a").result()
    (tmp_path / "db").rename(tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(StoreDown):
            store.submit(add, "b").result()
        (tmp_path / "db").write_bytes(b"")
    (tmp_path / "aside").rename(tmp_path / "db")
    store.submit(add, "c").result()
    assert names(store) == 2
    store.close()


# PostgreSQL ----------------------------------------------------------------------------


@NO_POSTGRES
def test_a_connection_that_postgresql_ends_is_made_again_and_nothing_is_half_done():
    name = f"g{uuid.uuid4().hex}"
    store = Grouped(Postgres(URL), f"create table {name} (n bigint primary key)")

    def half(db):
        db.execute(f"insert into {name} values (1)")
        db.execute("select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreDown, match="Try again later"):
        store.submit(half).result()
    assert store.submit(lambda db: db.execute(f"insert into {name} values (1)").rowcount).result()
    with pytest.raises(Exception, match="duplicate key"):
        store.submit(lambda db: db.execute(f"insert into {name} values (1)")).result()
    kept = store.submit(lambda db: db.execute(f"select n from {name}").fetchall()).result()
    assert [n for (n,) in kept] == [1]
    store.submit(lambda db: db.execute(f"drop table {name}")).result()
    store.close()


@NO_POSTGRES
def test_processes_that_start_together_make_one_schema():
    """``create table if not exists`` alone fails when two do it at once."""
    name, failed = f"g{uuid.uuid4().hex}", []

    def start():
        try:
            Grouped(Postgres(URL), f"create table if not exists {name} (n bigint)").close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for call in (threading.Thread.start, threading.Thread.join):
        for one in threads:
            call(one)
    assert failed == []


@NO_POSTGRES
def test_two_processes_that_change_the_same_rows_the_other_way_round_do_not_lock_each_other():
    name = f"g{uuid.uuid4().hex}"
    one, two = (
        Grouped(Postgres(URL), f"create table if not exists {name} (who text, n bigint)")
        for _ in range(2)
    )
    rows = [f"t{at}" for at in range(20)]
    for who in rows:
        one.submit(lambda db, who: db.execute(f"insert into {name} values (?, 0)", (who,)), who)
    add = lambda db, who: db.execute(f"update {name} set n = n + 1 where who = ?", (who,))  # noqa: E731
    locks = "select deadlocks from pg_stat_database where datname = current_database()"
    found = [one.submit(lambda db: db.execute(locks).fetchone()[0]).result()]
    for _ in range(20):
        asked = [(one, who) for who in rows] + [(two, who) for who in reversed(rows)]
        for future in [store.submit(add, who, order=who) for store, who in asked]:
            future.result()
    both = one.submit(lambda db: db.execute(f"select min(n), max(n) from {name}").fetchone())
    assert both.result() == (40, 40)
    one.submit(lambda db: db.execute("select pg_stat_clear_snapshot()")).result()
    found.append(one.submit(lambda db: db.execute(locks).fetchone()[0]).result())
    assert found[0] == found[1]
    one.submit(lambda db: db.execute(f"drop table {name}")).result()
    for store in (one, two):
        store.close()


@NO_POSTGRES
def test_two_processes_worth_of_stores_do_not_lose_each_others_counts():
    name = f"g{uuid.uuid4().hex}"
    stores = [Grouped(Postgres(URL), f"create table if not exists {name} (n bigint)")]
    stores.append(Grouped(Postgres(URL), ""))
    stores[0].submit(lambda db: db.execute(f"insert into {name} values (0)")).result()
    add = lambda db: db.execute(f"update {name} set n = n + 1")  # noqa: E731
    for future in [stores[at % 2].submit(add) for at in range(200)]:
        future.result()
    found = stores[1].submit(lambda db: db.execute(f"select n from {name}").fetchone()[0]).result()
    assert found == 200
    stores[0].submit(lambda db: db.execute(f"drop table {name}")).result()
    for store in stores:
        store.close()


class Broken(Sqlite):
    """A database whose connection breaks at a statement, before or after it took effect."""

    at, after, times = "commit", True, 0

    def __init__(self):
        super().__init__(":memory:")
        plain = self.execute

        def execute(sql, values=()):
            breaks = sql == self.at and self.times > 0
            self.times -= breaks
            if breaks and not self.after:
                raise sqlite3.OperationalError("the connection was lost")
            found = plain(sql, values)
            if breaks:
                raise sqlite3.OperationalError("the connection was lost")
            return found

        self.execute = execute


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("n", [1, 5])
def test_a_commit_whose_confirmation_is_lost_is_not_done_again(after, n):
    database, held, breaks = Broken(), threading.Event(), [1]
    grouped = Grouped(database, "create table seen (name bigint)")
    database.after = after

    def insert(db, at):
        database.times += breaks.pop() if breaks else 0
        db.execute("insert into seen values (?)", (at,))
        return at

    grouped.submit(lambda db: held.wait(5))
    futures = [grouped.submit(insert, at) for at in range(n)]
    held.set()
    assert [future.result() for future in futures] == [*range(n)]
    assert not breaks and names(grouped) == n
    grouped.close()


def test_a_group_that_fails_is_done_again():
    """As where two processes wait for each other's rows."""
    database = Sqlite(":memory:")
    grouped, held, seen = Grouped(database, ""), threading.Event(), []

    def work(db, at):
        seen.append(at)
        if seen.count(at) == 1 and at == 2:
            raise sqlite3.OperationalError("deadlock")
        return at

    grouped.submit(lambda db: held.wait(5))
    futures = [grouped.submit(work, at) for at in range(5)]
    held.set()
    assert [future.result() for future in futures] == [*range(5)]
    grouped.close()
