"""Conversations, kept for a while, and read only through the eyes of today's rights.

A stored turn holds what its user was allowed to see when it was made. :meth:`Turns.history` is the
one way to read it, for the screen and for the model that continues: both get it with every piece
withdrawn whose source the user may not see any more. A conversation belongs to its user; that of
another one and one that never was are the same to whoever asks.

A text that is deleted, or written anew without what was cut, must not live on in what was said of
it: :meth:`Turns.erase` overwrites the pieces that were taken from it. What a person wrote into a
question stays until the conversation ends.

Turns have numbers, which are given when a question comes in: two answers that are made at once have
two, and a turn keeps its own when the oldest ones go.

SQLite keeps the turns, or Redis where one runs, behind the same methods.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from casebook.data.private import private
from casebook.serving.rights import Rights
from casebook.serving.showing import WITHDRAWN, Piece, as_json, of_json, shown

#: Seconds from the last turn until a conversation is deleted, and turns of one that are kept.
TTL, LONGEST = 30 * 86_400.0, 50


class Shelf(Protocol):
    """Keeps texts by key, each with its number, until a time after the last one."""

    def number(self, key: str, now: float, ttl: float) -> int:
        """Return the next number of a key, from 0; no two get the same."""

    def push(
        self,
        key: str,
        text: str,
        now: float,
        ttl: float,
        number: int | None = None,
        about: Iterable[str] = (),
    ) -> None:
        """Add a text about some things; the key lives for ``ttl`` seconds from now on."""

    def numbered(self, key: str, now: float) -> list[tuple[int, str]]:
        """Return the texts of a key that lives with their numbers, in their order."""

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts alone."""

    def change(self, about: str, change: Callable[[str], str]) -> int:
        """Write all texts about a thing anew; return how many."""

    def purge(self, now: float) -> int:
        """Overwrite what has expired; return how many texts."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what may be shown of its answer."""

    at: float
    question: str
    pieces: tuple[Piece, ...]
    number: int = 0


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

    def number(self, user: str, conversation: str) -> int:
        """Return the number of a turn that begins."""
        return self.shelf.number(_key(user, conversation), self.rights.clock(), self.ttl)

    def add(
        self,
        user: str,
        conversation: str,
        question: str,
        pieces: Sequence[Piece],
        number: int | None = None,
    ) -> None:
        """Keep a turn, under its number if it has one already."""
        now = self.rights.clock()
        text = json.dumps([now, question, as_json(pieces)])
        about = {name for piece in pieces for name, _ in piece.sources}
        self.shelf.push(_key(user, conversation), text, now, self.ttl, number, sorted(about))

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return the turns of a user's conversation, with what he may see of them now."""
        turns = []
        for number, text in self.shelf.numbered(_key(user, conversation), self.rights.clock()):
            at, question, kept = json.loads(text)
            pieces = shown(of_json(kept), lambda sources: self.rights.shows(user, sources))
            turns.append(Turn(at, question, tuple(pieces), number))
        return turns

    def erase(self, item: str) -> int:
        """Overwrite the pieces that were taken from an item, whoever they were shown to.

        Returns
        -------
        int
            Turns in which something was.
        """

        def without(text: str) -> str:
            at, question, kept = json.loads(text)
            pieces = [
                WITHDRAWN if any(name == item for name, _ in piece.sources) else piece
                for piece in of_json(kept)
            ]
            return json.dumps([at, question, as_json(pieces)])

        return self.shelf.change(item, without)

    def purge(self) -> int:
        """Overwrite conversations that have expired; return how many turns."""
        return self.shelf.purge(self.rights.clock())

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


_SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS turn
  (id INTEGER PRIMARY KEY, key TEXT, number INTEGER, text TEXT, until REAL);
CREATE INDEX IF NOT EXISTS turn_of ON turn (key);
CREATE TABLE IF NOT EXISTS about (thing TEXT, id INTEGER, PRIMARY KEY (thing, id));
CREATE INDEX IF NOT EXISTS about_of ON about (id);
CREATE TABLE IF NOT EXISTS next (key TEXT PRIMARY KEY, number INTEGER, until REAL);
CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON turn
  BEGIN DELETE FROM about WHERE id = OLD.id; END;
"""


class SqliteShelf:
    """Texts in a file of SQLite, its owner's alone; expired ones are overwritten at purge."""

    def __init__(self, path: str = ":memory:") -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    def number(self, key: str, now: float, ttl: float) -> int:
        """Return the next number of a key."""
        with self._writing() as db:
            return self._number(db, key, now, ttl)

    def _number(self, db: sqlite3.Connection, key: str, now: float, ttl: float) -> int:
        db.execute("DELETE FROM next WHERE key = ? AND until <= ?", (key, now))
        query = (
            "INSERT INTO next VALUES (?1, 0, ?2) ON CONFLICT DO UPDATE SET number = number + 1, "
            "until = ?2 RETURNING number"
        )
        ((number,),) = db.execute(query, (key, now + ttl)).fetchall()
        return number

    def push(
        self,
        key: str,
        text: str,
        now: float,
        ttl: float,
        number: int | None = None,
        about: Iterable[str] = (),
    ) -> None:
        """Add a text, in one transaction with the new end of its key."""
        old = "SELECT id FROM turn WHERE key = ? ORDER BY number DESC, id DESC LIMIT -1 OFFSET ?"
        with self._writing() as db:
            db.execute("DELETE FROM turn WHERE key = ? AND until <= ?", (key, now))
            if number is None:
                number = self._number(db, key, now, ttl)
            query = "INSERT INTO turn VALUES (NULL, ?, ?, ?, 0)"
            row = db.execute(query, (key, number, text)).lastrowid
            db.executemany("INSERT INTO about VALUES (?, ?)", [(thing, row) for thing in about])
            db.execute(f"DELETE FROM turn WHERE id IN ({old})", (key, LONGEST))
            for table in ("turn", "next"):
                db.execute(f"UPDATE {table} SET until = ? WHERE key = ?", (now + ttl, key))

    def numbered(self, key: str, now: float) -> list[tuple[int, str]]:
        """Return the texts of a key that lives with their numbers, in their order."""
        query = "SELECT number, text FROM turn WHERE key = ? AND until > ? ORDER BY number, id"
        with self._lock:
            return self._db.execute(query, (key, now)).fetchall()

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts of a key that lives."""
        return [text for _, text in self.numbered(key, now)]

    def change(self, about: str, change: Callable[[str], str]) -> int:
        """Write all texts about a thing anew; what stood there is overwritten."""
        query = "SELECT id, text FROM turn JOIN about USING (id) WHERE thing = ?"
        with self._writing() as db:
            rows = db.execute(query, (about,)).fetchall()
            told = [(change(text), row) for row, text in rows]
            db.executemany("UPDATE turn SET text = ? WHERE id = ?", told)
            db.execute("DELETE FROM about WHERE thing = ?", (about,))
        return len(rows)

    def purge(self, now: float) -> int:
        """Overwrite what has expired; return how many texts."""
        with self._writing() as db:
            db.execute("DELETE FROM next WHERE until <= ?", (now,))
            return db.execute("DELETE FROM turn WHERE until <= ?", (now,)).rowcount


class RedisShelf:
    """Texts in lists of Redis, which expire by its own clock.

    Parameters
    ----------
    redis : redis.Redis
    prefix : str
        Of its keys.

    Notes
    -----
    Redis frees what is changed or has expired and does not overwrite it; an append-only file has
    it until it is rewritten.
    """

    def __init__(self, redis: Any, prefix: str = "turns:") -> None:
        self._redis, self._prefix = redis, prefix

    def number(self, key: str, now: float, ttl: float) -> int:
        """Return the next number of a key."""
        name = f"{self._prefix}next:{key}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(name)
            pipe.pexpire(name, _ms(ttl))
            return int(pipe.execute()[0]) - 1

    def push(
        self,
        key: str,
        text: str,
        now: float,
        ttl: float,
        number: int | None = None,
        about: Iterable[str] = (),
    ) -> None:
        """Add a text and set the end of its key, both or none; ``now`` is the server's."""
        number = self.number(key, now, ttl) if number is None else number
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(self._prefix + key, f"{number} {text}")
            pipe.ltrim(self._prefix + key, -LONGEST, -1)
            for name in (key, f"next:{key}"):
                pipe.pexpire(self._prefix + name, _ms(ttl))
            for thing in about:
                pipe.sadd(f"{self._prefix}about:{thing}", key)
                pipe.pexpire(f"{self._prefix}about:{thing}", _ms(ttl))
            pipe.execute()

    def numbered(self, key: str, now: float) -> list[tuple[int, str]]:
        """Return the texts of a key that lives with their numbers, in their order."""
        told = [_text(one).split(" ", 1) for one in self._redis.lrange(self._prefix + key, 0, -1)]
        return sorted(((int(number), text) for number, text in told), key=lambda one: one[0])

    def read(self, key: str, now: float) -> list[str]:
        """Return the texts of a key that lives."""
        return [text for _, text in self.numbered(key, now)]

    def change(self, about: str, change: Callable[[str], str]) -> int:
        """Write all texts of the keys that have one about a thing anew."""
        things, done = f"{self._prefix}about:{about}", 0
        for key in sorted(map(_text, self._redis.smembers(things))):
            done += self._redis.transaction(
                lambda pipe, name=self._prefix + key: self._changed(pipe, name, change),
                self._prefix + key,
                value_from_callable=True,
            )
        self._redis.delete(things)
        return done

    def _changed(self, pipe: Any, name: str, change: Callable[[str], str]) -> int:
        """Change the texts of a list that nobody else changes meanwhile."""
        told = [_text(one).split(" ", 1) for one in pipe.lrange(name, 0, -1)]
        new = [(place, n, change(text)) for place, (n, text) in enumerate(told)]
        new = [one for one in new if one[2] != told[one[0]][1]]
        pipe.multi()
        for place, number, text in new:
            pipe.lset(name, place, f"{number} {text}")
        return len(new)

    def purge(self, now: float) -> int:
        """Return 0: what has expired is gone already."""
        return 0


def _text(told: bytes | str) -> str:
    return told.decode() if isinstance(told, bytes) else told


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))
