"""Who may see what: one store, one function, and an answer that is never older than the request.

:meth:`Access.sees` is asked by search, counts, citations, the cache of answers, stored turns and
streams; nothing else decides. The rules stand in :mod:`.records`. The store takes over the events
of the feeds (:meth:`Access.apply`), each batch in one transaction, the newest of a thing only.

**Revoked means revoked at the next request.** Triggers of the database count each change of rights
(users, members, grants) and of shape (what lies in what); every request reads the two counts, in
the same transaction as all that it needs. While they stand still, an answer is taken from memory.
A process that does not see a change cannot exist: there is no copy with a time to live.

**Cheap.** What a user sees depends on those of his principals that have grants at all. Staff with
the same ones share one mask, which is made from arrays of all resources. :attr:`Sight.fingerprint`
names its content, so that it can be part of a key.

Examples
--------
>>> from casebook.cases.knowledge_assistant.records import Event, Grant, moment
>>> noon = moment("2025-03-01T12:00:00")
>>> allow = Grant("wiki:c1", "group:legal", "allow")
>>> told = [Event("directory", 1, noon, "user", "user:ann", True),
...         Event("directory", 2, noon, "members", "group:legal", ("user:ann",)),
...         Event("wiki", 1, noon, "container", "wiki:c1", ""),
...         Event("wiki", 2, noon, "grants", "wiki:c1", (allow,))]
>>> access = Access(":memory:")
>>> access.apply(told), access.place("wiki:d1", "wiki:c1")
(4, None)
>>> access.sees("user:ann", ["wiki:d1", "wiki:d2"]).tolist()
[True, False]
>>> access.apply([Event("directory", 3, noon, "members", "group:legal", ())])
1
>>> access.sees("user:ann", ["wiki:d1"]).tolist()
[False]
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from casebook.cases.knowledge_assistant.records import EFFECTS, Document, Event

#: Row of what is not known, which nobody sees, and of what lies above all containers.
NOWHERE, TOP = 0, 1
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS epoch (rights INTEGER NOT NULL, shape INTEGER NOT NULL);
INSERT INTO epoch SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM epoch);
CREATE TABLE IF NOT EXISTS said (kind TEXT, subject TEXT, seq INTEGER, PRIMARY KEY (kind, subject));
CREATE TABLE IF NOT EXISTS people (user TEXT PRIMARY KEY, since INTEGER, until INTEGER);
CREATE TABLE IF NOT EXISTS members (member TEXT, held_by TEXT, PRIMARY KEY (member, held_by));
CREATE INDEX IF NOT EXISTS members_of ON members (held_by);
CREATE TABLE IF NOT EXISTS grants
  (principal TEXT, resource INTEGER, effect TEXT, PRIMARY KEY (principal, resource, effect));
CREATE INDEX IF NOT EXISTS grants_on ON grants (resource);
CREATE TABLE IF NOT EXISTS touched (principal TEXT PRIMARY KEY, rights INTEGER);
CREATE TABLE IF NOT EXISTS resources
  (id INTEGER PRIMARY KEY, name TEXT UNIQUE, parent INTEGER, document INTEGER, shape INTEGER);
CREATE INDEX IF NOT EXISTS resources_at ON resources (shape);
INSERT OR IGNORE INTO resources VALUES ({NOWHERE}, '', {NOWHERE}, 0, 0), ({TOP}, '/', {TOP}, 0, 0);
"""
#: A user, the groups that hold the user, and so on; UNION ends in a circle of groups.
PRINCIPALS = """
WITH RECURSIVE own (name) AS
  (VALUES (?) UNION SELECT held_by FROM members JOIN own ON member = own.name)
SELECT own.name, rights FROM own JOIN touched ON principal = own.name
"""
STATE = """
SELECT rights, shape, since, until FROM epoch LEFT JOIN people ON user = ?
"""


def _triggers() -> Iterator[str]:
    """Yield the triggers that count changes, whoever makes them."""
    count = "UPDATE epoch SET rights = rights + 1;"
    for table in ("people", "members", "grants"):
        for change in ("INSERT", "DELETE", "UPDATE"):
            more = ""
            if table == "grants":
                row = "OLD" if change == "DELETE" else "NEW"
                more = f"INSERT OR REPLACE INTO touched SELECT {row}.principal, rights FROM epoch;"
            name = f"{table}_{change.lower()}"
            yield (
                f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {change} ON {table} "
                f"BEGIN {count} {more} END"
            )
    for change in ("INSERT", "UPDATE OF parent"):
        yield (
            f"CREATE TRIGGER IF NOT EXISTS resources_{change[:6].lower()} AFTER {change} "
            "ON resources BEGIN UPDATE epoch SET shape = shape + 1; "
            "UPDATE resources SET shape = (SELECT shape FROM epoch) WHERE id = NEW.id; END"
        )


@dataclass(frozen=True, eq=False)
class Sight:
    """What a user sees in one state of the store.

    Attributes
    ----------
    mask : ndarray of bool
        By row of a resource (:meth:`Access.rows`); only documents are ever True.
    fingerprint : str
        Of the visible documents: equal where and only where the same ones are visible.
    """

    mask: np.ndarray
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        rows = np.flatnonzero(self.mask).astype(np.int64)
        object.__setattr__(self, "fingerprint", hashlib.sha256(rows.tobytes()).hexdigest()[:32])


NOTHING = Sight(np.zeros(2, bool))


class Access:
    """The store of users, groups, grants and places; several threads and processes may use it.

    Parameters
    ----------
    path : Path or str
        A file of SQLite, made if need be, for its owner alone; ``":memory:"`` for none.
    clock : callable
        Seconds since 1970: who leaves at a second sees nothing from that second on.
    kept : int
        Masks, and users, that are remembered: a byte a resource for each mask.
    """

    def __init__(
        self, path: Path | str, clock: Callable[[], float] = time.time, kept: int = 512
    ) -> None:
        if str(path) != ":memory:":
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            os.chmod(path, 0o600)  # what SQLite puts beside it has the mode of the file
        self.clock, self._kept = clock, kept
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(SCHEMA + ";".join([*_triggers(), ""]))
        self._users: OrderedDict[str, tuple[tuple[int, int], Sight]] = OrderedDict()
        self._sights: OrderedDict[tuple, Sight] = OrderedDict()
        self._shape, self._row_of = -1, {}
        self._parents = np.zeros(0, np.int64)
        self._is_document = np.zeros(0, bool)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self, how: str) -> Iterator[None]:
        """One state of the store for all that is read, all or nothing for all that is written."""
        with self._lock:
            self._db.execute(f"BEGIN {how}")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Writing

    def apply(self, events: Iterable[Event]) -> int:
        """Take over events, all or none; return how many were news.

        An event whose thing has one with the same or a higher ``seq`` is left out.

        Raises
        ------
        ValueError
            On an event that :func:`~.records.event_of` would refuse; then none is taken over.
        """
        newer = (
            "INSERT INTO said VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq "
            "WHERE excluded.seq > seq"
        )
        news = 0
        with self._transaction("IMMEDIATE"):
            for event in events:
                if self._db.execute(newer, (*event.key, event.seq)).rowcount:
                    self._take(event)
                    news += 1
        return news

    def place(self, document: str, container: str) -> None:
        """Put a document into a container, for whoever has no feed; ``""``: it is gone."""
        with self._transaction("IMMEDIATE"):
            self._put(document, self._row(container) if container else NOWHERE)

    def _take(self, event: Event) -> None:
        """Write one event."""
        name, payload = event.subject, event.payload
        if isinstance(payload, Document):
            self._put(name, self._row(payload.container))
        elif event.kind == "deleted":
            self._put(name, NOWHERE)
        elif event.kind == "container":
            self._put(name, self._row(payload) if payload else TOP)
        elif event.kind == "grants":
            told = {(one.principal, one.effect) for one in payload}
            if any(one.resource != name or one.effect not in EFFECTS for one in payload):
                raise ValueError(f"grants of {name} name another resource or an unknown effect.")
            self._replace("grants", "resource", self._row(name), ("principal", "effect"), told)
        elif event.kind == "members":
            self._replace("members", "held_by", name, ("member",), {(one,) for one in payload})
        elif event.kind == "user":
            at = int(event.at.astype("datetime64[s]").astype(np.int64))
            query = "UPDATE people SET until = ? WHERE user = ?"
            if payload:
                query = "INSERT OR REPLACE INTO people (since, user) VALUES (?, ?)"
            self._db.execute(query, (at, name))
        else:
            raise ValueError(f"an event of kind {event.kind!r} with {type(payload).__name__}.")

    def _replace(
        self, table: str, key: str, value: object, columns: Sequence[str], rows: set[tuple]
    ) -> None:
        """Make the rows of a key those, and touch no others: only they count as changed."""
        select = f"SELECT {', '.join(columns)} FROM {table} WHERE {key} = ?"
        there = {*self._db.execute(select, (value,))}
        same = " AND ".join(f"{column} = ?" for column in (key, *columns))
        gone = [(value, *row) for row in there - rows]
        self._db.executemany(f"DELETE FROM {table} WHERE {same}", gone)
        names = f"({key}, {', '.join(columns)})"
        marks = f"({', '.join('?' * (1 + len(columns)))})"
        new = [(value, *row) for row in sorted(rows - there)]
        self._db.executemany(f"INSERT INTO {table} {names} VALUES {marks}", new)

    def _row(self, name: str) -> int:
        """Return the row of a resource, which lies nowhere as long as nothing else is known."""
        query = "SELECT id FROM resources WHERE name = ?"
        if found := self._db.execute(query, (name,)).fetchone():
            return found[0]
        new = "INSERT INTO resources (name, parent, document, shape) VALUES (?, ?, ?, 0)"
        return self._db.execute(new, (name, NOWHERE, ":d" in name)).lastrowid

    def _put(self, name: str, parent: int) -> None:
        change = "UPDATE resources SET parent = ? WHERE id = ? AND parent != ?"
        self._db.execute(change, (parent, self._row(name), parent))

    # Reading

    def sees(self, user: str, documents: Sequence[str]) -> np.ndarray:
        """Say of each document whether the user may see it now.

        Parameters
        ----------
        user : str
            Such as ``"user:17"``.
        documents : sequence of str

        Returns
        -------
        ndarray of bool, shape (len(documents),)

        Raises
        ------
        sqlite3.Error
            If the store cannot be read; then nothing may be shown.
        """
        with self._lock:
            return self.sight(user).mask[self.rows(documents)]

    def rows(self, documents: Iterable[str]) -> np.ndarray:
        """Return the rows of resources in a mask; unknown ones share a row that nobody sees."""
        known = self._row_of
        return np.fromiter((known.get(name, NOWHERE) for name in documents), np.int64)

    def sight(self, user: str) -> Sight:
        """Return what a user sees now, as a mask over all resources."""
        with self._transaction("DEFERRED"):
            rights, shape, since, until = self._db.execute(STATE, (user,)).fetchone()
            now = self.clock()
            if since is None or now < since or (until is not None and now >= until):
                return self._blank()
            if (held := self._users.get(user)) and held[0] == (rights, shape):
                self._users.move_to_end(user)
                return held[1]
            if shape != self._shape:
                self._catch_up(shape)
            sight = self._of(tuple(sorted(self._db.execute(PRINCIPALS, (user,)))))
            _keep(self._users, user, ((rights, shape), sight), 16 * self._kept)
            return sight

    def _blank(self) -> Sight:
        """Return a sight of nothing, as long as the rows known so far."""
        if len(NOTHING.mask) >= len(self._parents):
            return NOTHING
        return Sight(np.zeros(len(self._parents), bool))

    def _of(self, principals: tuple[tuple[str, int], ...]) -> Sight:
        """Return what principals with grants see; each comes with its last change of grants."""
        key = (principals, self._shape)
        if key in self._sights:
            self._sights.move_to_end(key)
            return self._sights[key]
        flags = {effect: np.zeros(len(self._parents), bool) for effect in ("allow", "deny")}
        for name, _ in principals:
            query = "SELECT effect, resource FROM grants WHERE principal = ?"
            for effect, row in self._db.execute(query, (name,)):
                flags[effect][row] = True
        self._inherit(*flags.values())
        sight = Sight(flags["allow"] & ~flags["deny"] & self._reached & self._is_document)
        _keep(self._sights, key, sight, self._kept)
        return sight

    def _catch_up(self, shape: int) -> None:
        """Take over the resources that were added or moved."""
        query = "SELECT id, name, parent, document FROM resources WHERE shape > ? OR shape = 0"
        new = self._db.execute(query, (self._shape,)).fetchall()
        if more := max((row[0] for row in new), default=0) + 1 - len(self._parents):
            more = max(more, 0)
            self._parents = np.concatenate([self._parents, np.zeros(more, np.int64)])
            self._is_document = np.concatenate([self._is_document, np.zeros(more, bool)])
        for row, name, parent, document in new:
            self._row_of[name] = row
            self._parents[row], self._is_document[row] = parent, bool(document)
        self._containers = np.flatnonzero(~self._is_document)
        self._reached = np.arange(len(self._parents)) == TOP
        self._inherit(self._reached)
        self._shape = shape

    def _inherit(self, *flags: np.ndarray) -> None:
        """Hand flags down from containers to what lies in them, until nothing changes."""
        inner, above = self._containers, self._parents[self._containers]
        for flag in flags:
            while not np.array_equal(now := flag[inner] | flag[above], flag[inner]):
                flag[inner] = now
            flag |= flag[self._parents]


def _keep(memory: OrderedDict, key: object, value: object, most: int) -> None:
    """Remember a value, and forget what was not asked for the longest."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)
