"""An event log and its consumer: nothing is lost and nothing is applied twice, also when killed.

:class:`EventLog` keeps events in a file of SQLite; :class:`RedisLog` keeps them in a Redis stream,
with the same three methods. :class:`Consumer` reads either, batch by batch. It writes what the
events change and how far it has read in *one transaction* of one database: after a kill both are
there or neither, and it reads on from where it was. An event that cannot be decoded or applied is
put aside with the reason, and the rest of its batch goes on.

Delivery is at least once and the effect is exactly once, as long as all effects are in that
database. A message that was *sent* twice is two events; to merge them is up to the application.

Examples
--------
>>> import tempfile, pathlib
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
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

#: Before the first event.
BEGINNING = "0"
#: Characters of an event; a longer one is refused by the log.
LONGEST = 100_000
#: Events that are read and applied together.
BATCH = 500
#: Names of the points that ``at`` is told of: after reading, before and after the commit.
POINTS = ("read", "applied", "committed")


class Event(NamedTuple):
    """An event of a log.

    Attributes
    ----------
    offset : str
        Where it stands; only the log can compare two of them.
    key : str
        Events of one key are in order; by it a log is split into partitions.
    body : str
    """

    offset: str
    key: str
    body: str


class Log(Protocol):
    """What a consumer needs of a log."""

    def append(self, events: Iterable[tuple[str, str]]) -> str: ...

    def read(self, after: str = BEGINNING, n: int = BATCH) -> list[Event]: ...

    def close(self) -> None: ...


def _checked(events: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return events that a log can hold."""
    events = list(events)
    for key, body in events:
        if not isinstance(key, str) or not isinstance(body, str):
            kinds = f"{type(key).__name__}, {type(body).__name__}"
            raise TypeError(f"an event is a key and a body of text, not {kinds}.")
        if len(key) + len(body) > LONGEST:
            raise ValueError(
                f"an event of {len(key) + len(body):,} characters, key {key[:40]!r}: at most "
                f"{LONGEST:,}; put large content elsewhere and send its address."
            )
        if "\0" in key or "\ud800" <= max(key + body, default="") <= "\udfff":
            raise ValueError(f"key {key[:40]!r}: text that UTF-8 cannot hold.")
    return events


class _Database:
    """A file of SQLite that several threads and processes may use."""

    def __init__(self, path: Path | str, schema: str) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(self.path, 30.0, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit is on the disk when it returns: also the power may fail.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(schema)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing; no other process writes meanwhile."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # also where the commit itself has failed
                    self._db.execute("ROLLBACK")
                raise

    def all(self, query: str, values: Sequence[Any] = ()) -> list[tuple]:
        """Return the rows of a query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()


class EventLog(_Database):
    """An embedded log, in a file of SQLite.

    Parameters
    ----------
    path : Path or str
        It is made where it does not exist.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            path,
            "CREATE TABLE IF NOT EXISTS events "
            "(offset INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, body TEXT NOT NULL)",
        )

    def append(self, events: Iterable[tuple[str, str]]) -> str:
        """Append events, all or none; they are on the disk when this returns.

        Parameters
        ----------
        events : iterable of (str, str)
            Key and body of each.

        Returns
        -------
        str
            Offset of the last event of the log.

        Raises
        ------
        TypeError, ValueError
            If one is no text or too long; none is appended then.
        """
        events = _checked(events)
        with self.transaction() as db:
            db.executemany("INSERT INTO events (key, body) VALUES (?, ?)", events)
            return str(db.execute("SELECT coalesce(max(offset), 0) FROM events").fetchone()[0])

    def read(self, after: str = BEGINNING, n: int = BATCH) -> list[Event]:
        """Return at most ``n`` events after an offset, in order."""
        query = "SELECT offset, key, body FROM events WHERE offset > ? ORDER BY offset LIMIT ?"
        return [Event(str(at), key, body) for at, key, body in self.all(query, (int(after), n))]


class RedisLog:
    """A log in a Redis stream, where a server is there.

    Parameters
    ----------
    url : str
        Such as ``"redis://127.0.0.1:6379/0"``.
    stream : str
        Its key.

    Notes
    -----
    How durable an append is, is the server's setting: with ``appendfsync always`` as the file's.
    """

    def __init__(self, url: str, stream: str = "events") -> None:
        import redis

        self.stream = stream
        self._redis = redis.Redis.from_url(url, decode_responses=True)

    def append(self, events: Iterable[tuple[str, str]]) -> str:
        """Append events, all or none: as :meth:`EventLog.append`."""
        events = _checked(events)
        with self._redis.pipeline(transaction=True) as pipe:
            for key, body in events:
                pipe.xadd(self.stream, {"key": key, "body": body})
            made = pipe.execute()
        if made:
            return made[-1]
        last = self._redis.xrevrange(self.stream, count=1)
        return last[0][0] if last else BEGINNING

    def read(self, after: str = BEGINNING, n: int = BATCH) -> list[Event]:
        """Return at most ``n`` events after an offset, in order."""
        found = self._redis.xrange(self.stream, min=f"({after}", count=n)
        return [Event(offset, fields["key"], fields["body"]) for offset, fields in found]

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


# The consumer --------------------------------------------------------------------------------


class Store(_Database):
    """The database that holds what events have changed, and how far they were read.

    Parameters
    ----------
    path : Path or str
        It is made where it does not exist.
    schema : str
        Of the application's own tables, in SQL; run at each start, so say ``IF NOT EXISTS``.
    """

    def __init__(self, path: Path | str, schema: str = "") -> None:
        own = (
            "CREATE TABLE IF NOT EXISTS consumed (name TEXT PRIMARY KEY, offset TEXT NOT NULL, "
            "events INTEGER NOT NULL);"
            "CREATE TABLE IF NOT EXISTS quarantine (name TEXT, offset TEXT, key TEXT, body TEXT, "
            "why TEXT, PRIMARY KEY (name, offset));"
        )
        super().__init__(path, own + schema)


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

    def _checkpoint(self) -> tuple[str, int]:
        query = "SELECT offset, events FROM consumed WHERE name = ?"
        found = self.store.all(query, (self.name,))
        return found[0] if found else (BEGINNING, 0)

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
        """Apply one batch, in one transaction."""
        # The checkpoint is read inside: two processes with one name take turns.
        with self.store.transaction() as db:
            offset, consumed = self._checkpoint()
            events = self.log.read(offset, n or self.batch)
            self.at("read")
            if not events:
                return Progress(0, 0)
            bad = self._applied(db, events)
            db.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?)", bad)
            db.execute(
                "INSERT INTO consumed VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET offset = excluded.offset, events = excluded.events",
                (self.name, events[-1].offset, consumed + len(events)),
            )
            self.at("applied")
        self.at("committed")
        return Progress(len(events), len(bad))

    def _applied(self, db: sqlite3.Connection, events: Sequence[Event]) -> list[tuple]:
        """Decode and apply events; return the rows of those that are put aside."""
        good, bad = [], []
        for event in events:
            try:
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
            now, after later ones: what it changes must not depend on the order.
        """
        with self.store.transaction() as db:
            aside = [Event(*row[:3]) for row in self.quarantined()]
            db.execute("DELETE FROM quarantine WHERE name = ?", (self.name,))
            bad = self._applied(db, aside)
            db.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?)", bad)
        return Progress(len(aside), len(bad))

    def quarantined(self) -> list[Quarantined]:
        """Return the events that were put aside, in the order in which that happened."""
        query = "SELECT offset, key, body, why FROM quarantine WHERE name = ? ORDER BY rowid"
        return [Quarantined(*row) for row in self.store.all(query, (self.name,))]
