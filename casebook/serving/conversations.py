"""Where conversations lie: texts by key, in order, for a while after the last one.

SQLite by default, Redis where one runs, behind the same two methods.

Examples
--------
>>> shelf = SqliteShelf()
>>> shelf.push("c1", "hello", now=0, ttl=60)
>>> shelf.push("c1", "again", now=30, ttl=60)
>>> shelf.read("c1", now=89), shelf.read("c1", now=90), shelf.read("c2", now=0)
(['hello', 'again'], [], [])
>>> shelf.purge(now=90)
2
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Protocol

#: Texts of a key that are kept: the latest.
LONGEST = 50


class Shelf(Protocol):
    """Keeps texts by key, in order, until a time after the last one."""

    def push(self, key: str, text: str, now: float, ttl: float) -> None:
        """Add a text; the key lives for ``ttl`` seconds from now on."""

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts of a key that lives, the oldest first."""


class SqliteShelf:
    """Texts in a file of SQLite; expired ones are overwritten at :meth:`purge`."""

    def __init__(self, path: str = ":memory:") -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.executescript(
            "CREATE TABLE IF NOT EXISTS texts (key TEXT, text TEXT, until REAL);"
            "CREATE INDEX IF NOT EXISTS texts_of ON texts (key);"
        )

    def push(self, key: str, text: str, now: float, ttl: float) -> None:
        """Add a text, in one transaction with the new end of its key."""
        old = "SELECT rowid FROM texts WHERE key = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?"
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM texts WHERE key = ? AND until <= ?", (key, now))
            self._db.execute("INSERT INTO texts VALUES (?, ?, 0)", (key, text))
            self._db.execute(f"DELETE FROM texts WHERE rowid IN ({old})", (key, LONGEST))
            self._db.execute("UPDATE texts SET until = ? WHERE key = ?", (now + ttl, key))

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts of a key that lives."""
        query = "SELECT text FROM texts WHERE key = ? AND until > ? ORDER BY rowid"
        with self._lock:
            return [text for (text,) in self._db.execute(query, (key, now))]

    def purge(self, now: float) -> int:
        """Delete what has expired; return how many texts."""
        with self._lock:
            return self._db.execute("DELETE FROM texts WHERE until <= ?", (now,)).rowcount


class RedisShelf:
    """Texts in lists of Redis, which expire by its own clock.

    Parameters
    ----------
    redis : redis.Redis
    prefix : str
        Of its keys.
    """

    def __init__(self, redis: Any, prefix: str = "turns:") -> None:
        self._redis, self._prefix = redis, prefix

    def push(self, key: str, text: str, now: float, ttl: float) -> None:
        """Add a text and set the end of its key, both or none; ``now`` is the server's."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(self._prefix + key, text)
            pipe.ltrim(self._prefix + key, -LONGEST, -1)
            pipe.pexpire(self._prefix + key, max(1, round(1000 * ttl)))
            pipe.execute()

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts of a key that lives."""
        texts = self._redis.lrange(self._prefix + key, 0, -1)
        return [text.decode() if isinstance(text, bytes) else text for text in texts]
