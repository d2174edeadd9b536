"""Rights with nested groups, inherited grants and denials: never older than the request that asks.

People and groups are *principals*; a group holds principals. *Items* lie in containers, containers
in containers, up to the top. A grant allows or denies a principal a resource. A person sees an item
if the chain of its containers reaches the top, some principal of the person (itself, the groups
that hold it, and so on) is allowed on the chain, and none is denied: a denial wins at any depth.
Nobody is allowed by default, and what is not known hides.

**Revoked means revoked at the next request.** Triggers of the database count each change of rights
(people, members, grants) and of shape (what lies in what), whoever makes it. Every request reads
the two counts, in one transaction with all that it needs; while they stand still, it is answered
from memory. There is no copy with a time to live.

**Cheap.** What somebody sees depends on those of their principals that have grants at all. Those
with the same ones share one mask, made from arrays of all resources. :attr:`Sight.fingerprint`
names its content, so that it can be part of a key.

**Rights and texts come by different ways.** A page that is shortened and opened to all by one save
must not be shown as it was before. An item is placed with the number of its edition; a text of an
earlier one is hidden, as it was not written for those who see this place. Rights are told first,
then texts: so a page that gets a secret and is locked away is safe as well.

Examples
--------
>>> rights = Rights(":memory:", clock=lambda: 1_000)
>>> with rights.writing():
...     rights.person("ann", since=0)
...     rights.members("legal", ["ann"])
...     rights.lies_in("space", "")
...     rights.lies_in("contract", "space", item=True)
...     rights.grants("space", {("legal", "allow")})
>>> rights.sees("ann", ["contract", "space", "unknown"]).tolist()
[True, False, False]
>>> with rights.writing():
...     rights.grants("contract", {("ann", "deny")})
>>> rights.sees("ann", ["contract"]).tolist()
[False]
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from casebook.data.private import private

#: Row of what is not known, which nobody sees, and of what lies above all containers.
NOWHERE, TOP = 0, 1
#: Every person's, but for denials alone: what is denied to it is hidden from all, and a group that
#: holds it gives nothing to anybody and takes from everybody what is denied to the group.
EVERYBODY = "*"
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
  (id INTEGER PRIMARY KEY, name TEXT UNIQUE, parent INTEGER, item INTEGER, edition INTEGER,
   shape INTEGER);
CREATE INDEX IF NOT EXISTS resources_at ON resources (shape);
INSERT OR IGNORE INTO resources VALUES
  ({NOWHERE}, '', {NOWHERE}, 0, 0, 0), ({TOP}, '/', {TOP}, 0, 0, 0);
"""
#: A user, the groups that hold the user, and so on; UNION ends in a circle of groups. Of what comes
#: by way of :data:`EVERYBODY` only the denials count.
PRINCIPALS = f"""
WITH RECURSIVE own (name, only) AS
  (VALUES (?, 0), ('{EVERYBODY}', 1)
   UNION SELECT held_by, only FROM members JOIN own ON member = own.name)
SELECT own.name, only, rights FROM own JOIN touched ON principal = own.name
"""
STATE = """
SELECT rights, shape, since, until FROM epoch LEFT JOIN people ON user = ?
"""


def _triggers() -> Iterator[str]:
    """Yield the triggers that count changes, whoever makes them."""
    trigger = "CREATE TRIGGER IF NOT EXISTS {}_{} {} ON {} BEGIN {} END"
    count = "UPDATE epoch SET rights = rights + 1;"
    # Not INSERT OR REPLACE: within a trigger, the clause of the statement that fires it would hold.
    touch = (
        "DELETE FROM touched WHERE principal = {0}.principal; "
        "INSERT INTO touched SELECT {0}.principal, rights FROM epoch;"
    )
    for table in ("people", "members", "grants"):
        for change, rows in (("INSERT", ["NEW"]), ("DELETE", ["OLD"]), ("UPDATE", ["OLD", "NEW"])):
            more = "".join(touch.format(row) for row in rows) if table == "grants" else ""
            yield trigger.format(table, change, f"AFTER {change}", table, count + more)
    moved = (
        "UPDATE epoch SET shape = shape + 1; "
        "UPDATE resources SET shape = (SELECT shape FROM epoch) WHERE id = NEW.id;"
    )
    for change in ("INSERT", "UPDATE OF parent, item"):
        yield trigger.format("resources", change[:6], f"AFTER {change}", "resources", moved)
    never = "SELECT RAISE (ABORT, 'a resource that is gone lies nowhere; its row stays');"
    yield trigger.format("resources", "DELETE", "BEFORE DELETE", "resources", never)


@dataclass(frozen=True, eq=False)
class Sight:
    """What a user sees in one state of the store.

    Attributes
    ----------
    mask : ndarray of bool
        By row of a resource (:meth:`Rights.rows`); only items are ever True.
    editions : ndarray of int
        By row: the first edition that may be seen.
    fingerprint : str
        Of the visible items and these editions: equal where and only where both are the same.
    """

    mask: np.ndarray
    editions: np.ndarray
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        rows = np.flatnonzero(self.mask)
        told = np.stack([rows, self.editions[rows]]).astype(np.int64).tobytes()
        object.__setattr__(self, "fingerprint", hashlib.sha256(told).hexdigest()[:32])

    def sees(self, rows: np.ndarray, editions: np.ndarray | None = None) -> np.ndarray:
        """Say of each row whether it is visible, in the edition if one is given."""
        seen = self.mask[rows]
        return seen if editions is None else seen & (editions >= self.editions[rows])


NOTHING = Sight(np.zeros(2, bool), np.zeros(2, np.int64))


class Rights:
    """The store; several threads and processes may use it.

    Parameters
    ----------
    path : Path or str
        A file of SQLite, made if need be, for its owner alone; ``":memory:"`` for none.
    clock : callable
        Seconds since 1970: who leaves at a second sees nothing from that second on.
    kept : int
        Masks that are remembered: a byte a resource for each.
    """

    def __init__(
        self, path: Path | str, clock: Callable[[], float] = time.time, kept: int = 512
    ) -> None:
        private(path)
        self.clock, self._kept = clock, kept
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(SCHEMA + ";".join([*_triggers(), ""]))
        #: Of each user: a state of the store, and the principals with grants in it.
        self._users: OrderedDict[str, tuple[tuple[int, int], tuple]] = OrderedDict()
        self._sights: OrderedDict[tuple, Sight] = OrderedDict()
        self._shape, self._row_of = -1, {}
        self._parents = np.zeros(0, np.int64)
        self._is_item = np.zeros(0, bool)
        self._editions = np.zeros(0, np.int64)

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
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                raise

    # Writing

    def writing(self) -> AbstractContextManager[None]:
        """Return the transaction in which everything is written: all of it, or nothing."""
        return self._transaction("IMMEDIATE")

    def newer(self, kind: str, subject: str, seq: int) -> bool:
        """Say whether this is news, and remember it: a higher number than any before."""
        query = (
            "INSERT INTO said VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq "
            "WHERE excluded.seq > seq"
        )
        return self._db.execute(query, (kind, subject, seq)).rowcount > 0

    def person(self, name: str, since: float) -> None:
        """Let somebody be active from a second on."""
        self._db.execute("INSERT OR REPLACE INTO people VALUES (?, ?, NULL)", (name, since))

    def leaves(self, name: str, until: float) -> None:
        """Let somebody see nothing from a second on."""
        self._db.execute("UPDATE people SET until = ? WHERE user = ?", (until, name))

    def members(self, group: str, members: Iterable[str]) -> None:
        """Let a group hold these principals directly, and no others."""
        self._replace("members", "held_by", group, ("member",), {(one,) for one in members})

    def grants(self, resource: str, grants: set[tuple[str, str]]) -> None:
        """Let these be the grants of a resource: pairs of principal and ``"allow"`` or ``"deny"``.

        Raises
        ------
        ValueError
            On another effect.
        """
        if wrong := {effect for _, effect in grants} - {"allow", "deny"}:
            raise ValueError(f"effects {wrong} of {resource}: give 'allow' or 'deny'.")
        self._replace("grants", "resource", self._row(resource), ("principal", "effect"), grants)

    def lies_in(
        self, resource: str, container: str | None, item: bool = False, edition: int = 0
    ) -> None:
        """Put a resource into a container; ``""``: at the top, None: it is gone.

        Where it was elsewhere before, only this edition and later ones are seen from now on.
        """
        parent = TOP if container == "" else self._row(container) if container else NOWHERE
        query = (
            "UPDATE resources SET parent = ?1, item = ?2, edition = ?4 "
            "WHERE id = ?3 AND (parent, item) != (?1, ?2)"
        )
        self._db.execute(query, (parent, item, self._row(resource), edition))

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
        if name in ("", "/"):
            raise ValueError(f"{name!r} is no name of a resource.")
        query = "SELECT id FROM resources WHERE name = ?"
        if found := self._db.execute(query, (name,)).fetchone():
            return found[0]
        new = "INSERT INTO resources VALUES (NULL, ?, ?, 0, 0, 0)"
        return self._db.execute(new, (name, NOWHERE)).lastrowid

    # Reading

    def sees(
        self, name: str, items: Sequence[str], editions: Sequence[int] | None = None
    ) -> np.ndarray:
        """Say of each item whether somebody may see it now, in the edition if one is given.

        Returns
        -------
        ndarray of bool, shape (len(items),)

        Raises
        ------
        sqlite3.Error
            If the store cannot be read; then nothing may be shown.
        """
        with self._lock:
            given = None if editions is None else np.asarray(editions, np.int64)
            return self.sight(name).sees(self.rows(items), given)

    def shows(self, name: str, sources: Sequence[tuple[str, int]]) -> np.ndarray:
        """Say of each source, an item in an edition, whether somebody may see it now."""
        return self.sees(name, [item for item, _ in sources], [edition for _, edition in sources])

    def active(self, name: str) -> bool:
        """Say whether somebody is there now: came before this second, and has not left."""
        with self._transaction("DEFERRED"):
            _, _, since, until = self._db.execute(STATE, (name,)).fetchone()
        now = self.clock()
        return since is not None and since <= now and (until is None or now < until)

    def rows(self, resources: Iterable[str]) -> np.ndarray:
        """Return the rows of resources in a mask; unknown ones share a row that nobody sees.

        A row is that of its resource for ever; a resource that is new to this process is known from
        the next :meth:`sight` on.
        """
        known = self._row_of
        return np.fromiter((known.get(name, NOWHERE) for name in resources), np.int64)

    def sight(self, name: str) -> Sight:
        """Return what somebody sees now, as a mask over all resources."""
        with self._transaction("DEFERRED"):
            rights, shape, since, until = self._db.execute(STATE, (name,)).fetchone()
            now = self.clock()
            if since is None or now < since or (until is not None and now >= until):
                return self._blank()
            held = self._users.get(name)
            if held is None or held[0] != (rights, shape):
                if shape != self._shape:
                    self._catch_up(shape)
                principals = tuple(sorted(self._db.execute(PRINCIPALS, (name,))))
                held = (rights, shape), principals
            _keep(self._users, name, held, 64 * self._kept)
            return self._of(held[1])

    def _blank(self) -> Sight:
        """Return a sight of nothing, as long as the rows known so far."""
        if len(NOTHING.mask) >= len(self._parents):
            return NOTHING
        return Sight(np.zeros(len(self._parents), bool), self._editions)

    def _of(self, principals: tuple[tuple[str, int, int], ...]) -> Sight:
        """Return what principals with grants see.

        Each comes with whether only its denials count, and with its last change of grants.
        """
        key = (principals, self._shape)
        if key in self._sights:
            return _keep(self._sights, key, self._sights[key], self._kept)
        flags = {effect: np.zeros(len(self._parents), bool) for effect in ("allow", "deny")}
        for name, only, _ in principals:
            query = "SELECT effect, resource FROM grants WHERE principal = ?"
            for effect, row in self._db.execute(query, (name,)):
                if effect == "deny" or not only:
                    flags[effect][row] = True
        self._inherit(*flags.values())
        mask = flags["allow"] & ~flags["deny"] & self._reached & self._is_item
        return _keep(self._sights, key, Sight(mask, self._editions), self._kept)

    def _catch_up(self, shape: int) -> None:
        """Take over the resources that were added or moved."""
        query = "SELECT id, name, parent, item, edition FROM resources WHERE shape > ? OR shape = 0"
        new = self._db.execute(query, (self._shape,)).fetchall()
        more = max(0, max((row[0] for row in new), default=0) + 1 - len(self._parents))
        self._parents = np.append(self._parents, np.zeros(more, np.int64))
        self._is_item = np.append(self._is_item, np.zeros(more, bool))
        self._editions = np.append(self._editions, np.zeros(more, np.int64))
        for row, name, parent, item, edition in new:
            self._row_of[name], self._editions[row] = row, edition
            self._parents[row], self._is_item[row] = parent, bool(item)
        self._containers = np.flatnonzero(~self._is_item)
        self._reached = np.arange(len(self._parents)) == TOP
        self._inherit(self._reached)
        self._shape = shape
        self._sights.clear()

    def _inherit(self, *flags: np.ndarray) -> None:
        """Hand flags down from containers to what lies in them, until nothing changes."""
        inner, above = self._containers, self._parents[self._containers]
        for flag in flags:
            while not np.array_equal(now := flag[inner] | flag[above], flag[inner]):
                flag[inner] = now
            flag |= flag[self._parents]


def _keep(memory: OrderedDict, key: Any, value: Any, most: int) -> Any:
    """Remember a value, forget what was not asked for the longest, and return the value."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)
    return value
