"""The consumer of an event log: nothing is lost and nothing is applied twice, also when killed.

:class:`Consumer` reads a log batch by batch. It writes what the events change and how far it has
read in *one transaction* of one database: after a kill both are there or neither, and it reads on
from where it was. An event that cannot be decoded or applied is put aside with the reason, and the
rest of its batch goes on. What no later event would show is an error at once: a store of another
schema, a log that is not the one that was read, events that were deleted before they were read.

Delivery is at least once and the effect is exactly once, as long as all effects are in that
database. A message that was *sent* twice is two events; to merge them is up to the application.

Examples
--------
>>> import tempfile, pathlib
>>> from casebook.serving.eventlog import EventLog
>>> folder = tempfile.TemporaryDirectory()
>>> log = EventLog(pathlib.Path(folder.name) / "log.db")
>>> log.append([("a", "1"), ("b", "two"), ("a", "3")])
'3'
>>> store = Store(pathlib.Path(folder.name) / "state.db", "CREATE TABLE sums (key, value)")
>>> def add(db, events):
...     db.executemany("INSERT INTO sums VALUES (?, ?)", [(e.key, e.value) for e in events])
>>> consumer = Consumer(log, store, decode=int, apply=add)
>>> consumer.run()
Progress(events=3, quarantined=1)
>>> store.all("SELECT * FROM sums"), consumer.quarantined()[0].why
([('a', 1), ('a', 3)], "ValueError: invalid literal for int() with base 10: 'two'")
>>> consumer.run()
Progress(events=0, quarantined=0)
>>> store.close(), log.close(), folder.cleanup()
(None, None, None)
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from casebook.serving.eventlog import BATCH, BEGINNING, Database, Event, Extent, Log

#: Events that are kept after they were put aside.
MOST_ASIDE = 100_000
#: Names of the points that ``at`` is told of: after reading, before and after the commit.
POINTS = ("read", "applied", "committed")


class OtherSchema(RuntimeError):
    """The store was made for other tables than this program's."""


class LogChanged(RuntimeError):
    """The log is not the one that was read so far, or has lost events that were not read."""


def number_of(schema: str) -> int:
    """Return a number that another schema does not have; white space makes no difference."""
    return zlib.crc32(" ".join(schema.split()).encode()) >> 1


class Store(Database):
    """The database that holds what events have changed, and how far they were read.

    Parameters
    ----------
    path : Path or str
        It is made where it does not exist.
    schema : str
        Of the application's own tables, in SQL; run at each start, so say ``IF NOT EXISTS``. Its
        number is kept in the file.

    Raises
    ------
    OtherSchema
        If the file has the tables of another schema.
    """

    def __init__(self, path: Path | str, schema: str = "") -> None:
        own = (
            "CREATE TABLE IF NOT EXISTS consumed (name TEXT PRIMARY KEY, offset TEXT NOT NULL, "
            "events INTEGER NOT NULL, origin TEXT NOT NULL);"
            "CREATE TABLE IF NOT EXISTS quarantine (name TEXT, offset TEXT, key TEXT, body TEXT, "
            "why TEXT, PRIMARY KEY (name, offset));"
        )
        super().__init__(path, "")
        number = number_of(own + schema)
        try:
            self._check(number)
        except OtherSchema:
            self.close()
            raise
        self._db.executescript(f"{own}{schema};")
        if self.all("PRAGMA user_version")[0][0] != number:
            self._db.execute(f"PRAGMA user_version = {number}")

    def _check(self, number: int) -> None:
        """Refuse a file that holds the tables of another schema."""
        found = self.all("PRAGMA user_version")[0][0]
        tables = self.all("SELECT count(*) FROM sqlite_master WHERE type = 'table'")[0][0]
        if tables and found != number:
            raise OtherSchema(
                f"{self.path} was made for the schema {found}, this program has {number}. Start "
                "the program that made it, or move the file away: the consumer then builds it "
                "again from the log."
            )


class Decoded(NamedTuple):
    """An event whose body was decoded."""

    offset: str
    key: str
    value: Any


class Quarantined(NamedTuple):
    """An event that was put aside, and why."""

    offset: str
    key: str
    body: str
    why: str


class NoEvent(ValueError):
    """An entry of the log that is no event: trying it again cannot help."""


class Refused(ValueError):
    """Raised by ``apply`` for an event that is at fault itself: put aside, no failure of ours."""


class ConsumerStopped(RuntimeError):
    """Too many events in a row could not be applied: that is no fault of theirs."""


class Progress(NamedTuple):
    """What a run of a consumer did: events that it has read, and those of them it put aside."""

    events: int
    quarantined: int


@dataclass
class Consumer:
    """Apply the events of a log to a store.

    Attributes
    ----------
    log : EventLog or RedisLog
    store : Store
    decode : callable
        From a body to a value; raises for a body that is none.
    apply : callable
        Takes the connection and decoded events, in order, and writes what they change; it does not
        commit. If it raises, they are applied one by one, and those that fail are put aside.
    name : str
        Several consumers may share a store, each with a name and a checkpoint of its own.
    batch : int
        Events to a transaction.
    most_failures : int
        So many events in a row that can be decoded and not applied are no fault of the events:
        the consumer stops, and its offset stays before their batch.
    most_aside : int
        So many events that were put aside are kept, the newest; the log has the others, while it
        keeps them.
    at : callable
        Told of each of :data:`POINTS`; a drill kills the process there.
    """

    log: Log
    store: Store
    decode: Callable[[str], Any]
    apply: Callable[[sqlite3.Connection, Sequence[Decoded]], None]
    name: str = "consumer"
    batch: int = BATCH
    most_failures: int = 50
    most_aside: int = MOST_ASIDE
    at: Callable[[str], None] = lambda point: None

    def __post_init__(self) -> None:
        self._failures = 0
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}: a transaction takes one event at least.")

    @property
    def offset(self) -> str:
        """The last event that was applied or put aside."""
        return self._checkpoint()[0]

    @property
    def consumed(self) -> int:
        """Events that were applied or put aside, of all runs."""
        return self._checkpoint()[1]

    @property
    def behind(self) -> int:
        """Events of the log that were not read yet; no body is read.

        Raises
        ------
        LogChanged
        """
        _, consumed, origin = self._checkpoint()
        return self._same(self.log.extent(), consumed, origin).added - consumed

    def _checkpoint(self) -> tuple[str, int, str]:
        query = "SELECT offset, events, origin FROM consumed WHERE name = ?"
        found = self.store.all(query, (self.name,))
        return found[0] if found else (BEGINNING, 0, "")

    def _same(self, log: Extent, consumed: int, origin: str) -> Extent:
        """Return what the log holds; refuse one that is not what was read so far."""
        if (origin and log.origin != origin) or log.added < consumed:
            raise LogChanged(
                f"{consumed} events were read, and the log is another one or was set back: it has "
                f"{log.added}. Put the log back, or move {self.store.path.name} away: the consumer "
                "then builds it again from this log."
            )
        if log.gone > consumed:
            raise LogChanged(
                f"{log.gone - consumed} events were deleted from the log before they were read "
                f"({consumed} were read, {log.gone} are deleted): what they said is missing in "
                f"{self.store.path.name}. Put them back, or call `skip` to go on without them; "
                "keep events for longer than the consumer may stand still."
            )
        return log

    def skip(self) -> int:
        """Go on behind events that were deleted before they were read; return how many."""
        with self.store.transaction() as db:
            offset, consumed, _ = self._checkpoint()
            log = self.log.extent()
            lost = max(log.gone - consumed, 0)
            self._read_up_to(db, offset, consumed + lost, log.origin)
        return lost

    def _read_up_to(self, db: sqlite3.Connection, offset: str, events: int, origin: str) -> None:
        db.execute(
            "INSERT INTO consumed VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
            "SET offset = excluded.offset, events = excluded.events, origin = excluded.origin",
            (self.name, offset, events, origin),
        )

    def run(self, most: int | None = None) -> Progress:
        """Read on until the end of the log, or for so many events.

        Parameters
        ----------
        most : int, optional

        Returns
        -------
        Progress
        """
        events = quarantined = 0
        while most is None or events < most:
            done = self.step(self.batch if most is None else min(self.batch, most - events))
            if not done.events:
                break
            events, quarantined = events + done.events, quarantined + done.quarantined
        return Progress(events, quarantined)

    def step(self, n: int | None = None) -> Progress:
        """Apply one batch, in one transaction.

        Raises
        ------
        LogChanged
            If the log was set back, replaced, or shortened beyond what was read.
        ConsumerStopped
        """
        while True:
            before = self._checkpoint()
            offset, consumed, origin = before
            log = self._same(self.log.extent(), consumed, origin)
            # Read outside: a log that is slow keeps no one from writing.
            events = self.log.read(offset, n or self.batch)
            self.at("read")
            if not events:
                return Progress(0, 0)
            with self.store.transaction() as db:
                if self._checkpoint() != before:
                    continue  # another process with this name took them: read on behind it
                bad = self._applied(db, events)
                self._keep_aside(db, bad)
                self._read_up_to(db, events[-1].offset, consumed + len(events), log.origin)
                self.at("applied")
            self.at("committed")
            return Progress(len(events), len(bad))

    def _keep_aside(self, db: sqlite3.Connection, bad: Sequence[tuple]) -> None:
        """Put events aside, and drop the oldest of too many."""
        if not bad:
            return
        db.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?)", bad)
        db.execute(
            "DELETE FROM quarantine WHERE name = ? AND rowid <= (SELECT rowid FROM quarantine "
            "WHERE name = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
            (self.name, self.name, self.most_aside),
        )

    def _applied(self, db: sqlite3.Connection, events: Sequence[Event]) -> list[tuple]:
        """Decode and apply events; return the rows of those that are put aside."""
        good, bad = [], []
        for event in events:
            try:
                if event.fault:
                    raise NoEvent(event.fault)
                good.append(Decoded(event.offset, event.key, self.decode(event.body)))
            except Exception as error:
                bad.append(self._aside(event, error))
        if good and self._tried(db, good):
            bodies = {event.offset: event for event in events}
            for one in good:
                if error := self._tried(db, [one]):
                    if not isinstance(error, Refused):
                        self._count(error)
                    bad.append(self._aside(bodies[one.offset], error))
                else:
                    self._failures = 0
        elif good:
            self._failures = 0
        return bad

    def _count(self, error: Exception) -> None:
        """Count failures in a row; stop at too many."""
        self._failures += 1
        if self._failures >= self.most_failures:
            self._failures = 0
            raise ConsumerStopped(
                f"{self.most_failures} events in a row could not be applied, the last with "
                f"{type(error).__name__}: {error}. Nothing of this batch is written: mend `apply`, "
                "then run again."
            ) from error

    def _tried(self, db: sqlite3.Connection, events: Sequence[Decoded]) -> Exception | None:
        """Apply events, all or none; return the error."""
        db.execute("SAVEPOINT events")
        try:
            self.apply(db, events)
        except sqlite3.OperationalError:
            raise  # the disk is full or locked: that is no fault of an event
        except Exception as error:
            db.execute("ROLLBACK TO events")
            return error
        finally:
            db.execute("RELEASE events")
        return None

    def _aside(self, event: Event, error: Exception) -> tuple:
        why = f"{type(error).__name__}: {error}"[:500]
        return (self.name, event.offset, event.key, event.body, why)

    def again(self) -> Progress:
        """Try the events that were put aside once more, after their cause was mended.

        Returns
        -------
        Progress
            Events that were tried, and those of them that stay aside. One that succeeds is applied
            now, after later ones: what it changes must not depend on the order. What is no event
            is not tried.
        """
        with self.store.transaction() as db:
            rows = self.quarantined()
            hopeless = f"{NoEvent.__name__}: "
            aside = [Event(*row[:3]) for row in rows if not row.why.startswith(hopeless)]
            tried = [(self.name, event.offset) for event in aside]
            db.executemany("DELETE FROM quarantine WHERE name = ? AND offset = ?", tried)
            bad = self._applied(db, aside)
            self._keep_aside(db, bad)
        return Progress(len(aside), len(bad))

    def quarantined(self) -> list[Quarantined]:
        """Return the events that were put aside, in the order in which that happened."""
        query = "SELECT offset, key, body, why FROM quarantine WHERE name = ? ORDER BY rowid"
        return [Quarantined(*row) for row in self.store.all(query, (self.name,))]
