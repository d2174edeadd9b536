"""Conversations, kept for a while, and read only through the eyes of today's rights.

A stored turn holds what its user was allowed to see when it was made. :meth:`Turns.history` is the
one way to read it, for the screen and for the model that continues: both get it with every piece
withdrawn whose source the user may not see any more. A conversation belongs to its user; that of
another one and one that never was are the same to whoever asks.

SQLite keeps the turns, or Redis where one runs, behind the same two methods.

Examples
--------
>>> from casebook.serving.rights import Rights
>>> rights = Rights(":memory:", clock=lambda: 1_000)
>>> with rights.writing():
...     rights.person("ann", since=0)
...     rights.lies_in("rule", "", item=True)
...     rights.grants("rule", {("ann", "allow")})
>>> turns = Turns(rights, SqliteShelf())
>>> turns.add("ann", "c1", "How long?", [Piece("For 7 years.", (("rule", 1),))])
>>> turns.history("ann", "c1")[0].pieces[0].text, turns.history("bob", "c1")
('For 7 years.', [])
>>> with rights.writing():
...     rights.leaves("ann", until=1_000)
>>> turns.history("ann", "c1")[0].pieces[0] == WITHDRAWN
True
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from casebook.serving.rights import Rights
from casebook.serving.showing import WITHDRAWN, Piece, as_json, of_json, shown

#: Seconds from the last turn until a conversation is deleted, and turns of one that are kept.
TTL, LONGEST = 30 * 86_400.0, 50


class Shelf(Protocol):
    """Keeps texts by key, in order, until a time after the last one."""

    def push(self, key: str, text: str, now: float, ttl: float) -> None:
        """Add a text; the key lives for ``ttl`` seconds from now on."""

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts of a key that lives, the oldest first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what may be shown of its answer."""

    at: float
    question: str
    pieces: tuple[Piece, ...]


class Turns:
    """The conversations of all users.

    Parameters
    ----------
    rights : Rights
    shelf : Shelf
    ttl : float
        Seconds.
    """

    def __init__(self, rights: Rights, shelf: Shelf, ttl: float = TTL) -> None:
        if ttl <= 0:
            raise ValueError(f"ttl is {ttl}: give seconds above 0.")
        self.rights, self.shelf, self.ttl = rights, shelf, ttl

    def add(self, user: str, conversation: str, question: str, pieces: Sequence[Piece]) -> None:
        """Keep a turn."""
        now = self.rights.clock()
        text = json.dumps([now, question, as_json(pieces)])
        self.shelf.push(_key(user, conversation), text, now, self.ttl)

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return the turns of a user's conversation, with what he may see of them now."""
        turns = []
        for text in self.shelf.read(_key(user, conversation), self.rights.clock()):
            at, question, kept = json.loads(text)
            pieces = shown(of_json(kept), lambda sources: self.rights.shows(user, sources))
            turns.append(Turn(at, question, tuple(pieces)))
        return turns

    def context(self, user: str, conversation: str) -> list[str]:
        """Return what a model may read of a conversation: nothing of what was withdrawn."""
        lines = []
        for turn in self.history(user, conversation):
            kept = " ".join(piece.text for piece in turn.pieces if piece != WITHDRAWN)
            lines += [turn.question, kept]
        return lines


def _key(user: str, conversation: str) -> str:
    """Return one key for two names, whatever stands in them."""
    return hashlib.sha256(json.dumps([user, conversation]).encode()).hexdigest()


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
