"""Named tables of text, read and changed together: in a file of SQLite or in a Redis server.

Examples
--------
>>> cells = hashes_of(":memory:")
>>> cells.put([("user 7", "views", "3"), ("user 7", "cart", "1"), ("user 8", "views", "2")])
>>> cells.get([("user 7", None), ("user 8", ["views", "cart"]), ("user 9", None)])
[{'cart': '1', 'views': '3'}, {'views': '2'}, {}]
>>> cells.put([("user 7", "cart", None)], drop=["user 8"])
>>> cells.get([("user 7", None), ("user 8", None)])
[{'views': '3'}, {}]
>>> cells.close()
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

#: A table's name, and the fields that are asked for; None are all.
Ask = tuple[str, Sequence[str] | None]
#: A table's name, a field and its new text; None takes it out.
Change = tuple[str, str, str | None]
#: Fields of one query, and seconds until a server that does not answer is an error.
MOST, TIMEOUT = 500, 10.0


class Hashes(Protocol):
    """What a feature store needs of its backend."""

    def get(self, asks: Sequence[Ask]) -> list[dict[str, str]]: ...

    def put(self, changes: Iterable[Change], drop: Sequence[str] = ()) -> None: ...

    def ready(self) -> None: ...

    def close(self) -> None: ...


def hashes_of(where: Path | str) -> Hashes:
    """Return the tables at a path, or of a Redis server at ``redis://…`` or ``rediss://…``."""
    text = str(where)
    return InRedis(text) if text.startswith(("redis://", "rediss://")) else InFile(where)


def put_aside(path: Path) -> None:
    """Keep a file that SQLite cannot read, and what belongs to it, as ``NAME.broken``."""
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{end}", f"{path}.broken{end}")


class InFile:
    """Tables in a file of SQLite; a change is there whole or not at all, also after a kill.

    A file that is deleted under it, replaced by another, or locked when it is opened, is an error
    until ``ready``.
    """

    def __init__(self, path: Path | str) -> None:
        self._path, self._lock, self._reading = path, threading.Lock(), threading.Lock()
        self._db = self._reader = None
        self._file: object = "locked when it was opened"
        try:
            self._open()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise

    def _open(self) -> None:
        path, how = self._path, {"check_same_thread": False, "isolation_level": None, "timeout": 10}
        self._db = self._reader = sqlite3.connect(path, **how)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS cells (name TEXT, field TEXT, value TEXT NOT NULL, "
            "PRIMARY KEY (name, field)) WITHOUT ROWID"
        )
        if str(path) == ":memory:":
            self._reading = self._lock
        else:  # who reads does not wait for a night that is written
            self._reader = sqlite3.connect(path, **how)
            self._reader.execute("PRAGMA query_only = 1")
        self._file = self._now_there()

    def _now_there(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _same(self) -> None:
        if self._now_there() != self._file:
            raise sqlite3.OperationalError(f"{self._path} is locked, gone, or another file")

    def ready(self) -> None:
        """Open the file anew if it was deleted or replaced; what the old one held is gone."""
        if self._now_there() == self._file:
            return
        with self._lock, self._reading:
            self.close()
            if self._now_there() is None:  # what belongs to the old one would spoil the new one
                for end in ("-wal", "-shm"):
                    Path(f"{self._path}{end}").unlink(missing_ok=True)
            self._open()

    def get(self, asks: Sequence[Ask]) -> list[dict[str, str]]:
        """Return for each ask what there is, field by field."""
        with self._reading:
            self._same()
            self._reader.execute("BEGIN")  # all asks see one state
            try:
                return [self._of(name, fields) for name, fields in asks]
            finally:
                self._reader.execute("COMMIT")

    def _of(self, name: str, fields: Sequence[str] | None) -> dict[str, str]:
        if fields is None:
            query = "SELECT field, value FROM cells WHERE name = ?"
            return dict(self._reader.execute(query, (name,)).fetchall())
        found: dict[str, str] = {}
        for start in range(0, len(fields), MOST):
            some = fields[start : start + MOST]
            marks = ", ".join("?" * len(some))
            query = f"SELECT field, value FROM cells WHERE name = ? AND field IN ({marks})"
            found |= dict(self._reader.execute(query, (name, *some)).fetchall())
        return found

    def put(self, changes: Iterable[Change], drop: Sequence[str] = ()) -> None:
        """Make all changes, or none."""
        changes = list(changes)
        there = [one for one in changes if one[2] is not None]
        gone = [one[:2] for one in changes if one[2] is None]
        with self._lock:
            self._same()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("DELETE FROM cells WHERE name = ?", [(n,) for n in drop])
                self._db.executemany("DELETE FROM cells WHERE name = ? AND field = ?", gone)
                self._db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", there)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        for db in (self._reader, self._db):
            if db is not None:
                db.close()


class InRedis:
    """Tables as hashes of a Redis server; changes go in one transaction (``MULTI``).

    Parameters
    ----------
    url : str
    prefix : str
        Before each name.
    """

    def __init__(self, url: str, prefix: str = "features:") -> None:
        import redis

        waits = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
        self._redis, self._prefix = (
            redis.Redis.from_url(url, decode_responses=True, **waits),
            prefix,
        )

    def get(self, asks: Sequence[Ask]) -> list[dict[str, str]]:
        """Return for each ask what there is, field by field; one round trip for all."""
        pipe = self._redis.pipeline(transaction=False)
        asked = [(n, f) for n, f in asks if f is None or len(f)]
        for name, fields in asked:
            key = self._prefix + name
            pipe.hgetall(key) if fields is None else pipe.hmget(key, list(fields))
        replies = iter(pipe.execute())
        made = []
        for _, fields in asks:
            if fields is None:
                made.append(next(replies))
                continue
            values = next(replies) if len(fields) else []
            pairs = zip(fields, values, strict=True)
            made.append({field: value for field, value in pairs if value is not None})
        return made

    def put(self, changes: Iterable[Change], drop: Sequence[str] = ()) -> None:
        """Make all changes, or none."""
        with self._redis.pipeline(transaction=True) as pipe:
            for name in drop:
                pipe.delete(self._prefix + name)
            for name, field, value in changes:
                if value is None:
                    pipe.hdel(self._prefix + name, field)
                else:
                    pipe.hset(self._prefix + name, field, value)
            pipe.execute()

    def ready(self) -> None:
        """Do nothing: each call connects if it must."""

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
