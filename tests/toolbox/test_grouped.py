"""Many operations in one commit: one that fails, a database that is locked, both stores."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from casebook.serving.grouped import Grouped, Sqlite, StoreDown

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
