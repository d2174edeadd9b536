"""An event log and its consumer: nothing is lost and nothing is applied twice, also when killed.

:class:`EventLog` keeps events in a file of SQLite; :class:`RedisLog` keeps them in a Redis stream,
with the same three methods. :class:`Consumer` reads either, batch by batch. It writes what the
events change and how far it has read in *one transaction* of one database: after a kill both are
there or neither, and it reads on from where it was. An event that cannot be decoded or applied is
put aside with the reason, and the rest of its batch goes on. What no later event would show is an
error at once: a store of another schema, a log that is not the one that was read, events that were
deleted before they were read.

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

import json
import sqlite3
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

#: Before the first event.
BEGINNING = "0"
#: Characters of an event; a longer one is refused by the log.
LONGEST = 100_000
#: Events that are read and applied together; those that are kept after they were put aside.
BATCH, MOST_ASIDE = 500, 100_000
#: Seconds until a server that does not answer is an error.
TIMEOUT = 10.0
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
    fault : str
        Why it is no event, if it is none: another program has written it.
    """

    offset: str
    key: str
    body: str
    fault: str = ""


class Extent(NamedTuple):
    """What a log holds, without its bodies.

    Attributes
    ----------
    origin : str
        Made with the log: another one in its place has another.
    added : int
        Events that were ever appended.
    gone : int
        Those of them that were deleted, the oldest first.
    """

    origin: str
    added: int
    gone: int


class Log(Protocol):
    """What a consumer needs of a log."""

    def append(self, events: Iterable[tuple[str, str]]) -> str: ...

    def read(self, after: str = BEGINNING, n: int = BATCH) -> list[Event]: ...

    def extent(self) -> Extent: ...

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
            "(offset INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, body TEXT NOT NULL);"
            "CREATE TABLE IF NOT EXISTS origin (one INTEGER PRIMARY KEY, id TEXT NOT NULL);",
        )
        if not self.all("SELECT id FROM origin"):
            with self.transaction() as db:
                query = "INSERT INTO origin VALUES (1, ?) ON CONFLICT DO NOTHING"
                db.execute(query, (uuid.uuid4().hex,))

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

    def extent(self) -> Extent:
        """Return how many events were appended and deleted; no body is read."""
        query = (
            "SELECT (SELECT id FROM origin), "
            "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), "
            "(SELECT min(offset) - 1 FROM events)"
        )
        origin, added, gone = self.all(query)[0]
        return Extent(origin, added, added if gone is None else gone)


class RedisLog:
    """A log in a Redis stream, where a server is there.

    Parameters
    ----------
    url : str
        Such as ``"redis://127.0.0.1:6379/0"``.
    stream : str
        Its key; another one, with ``:origin`` after it, names the stream.
    timeout : float
        Seconds until a server that does not answer is an error. A command is not sent again by
        itself: an append whose answer was lost would be there twice.

    Notes
    -----
    How durable an append is, is the server's setting: with ``appendfsync always`` as the file's.
    Delete the oldest events only (``XTRIM``): of one in the middle (``XDEL``) a consumer cannot
    tell whether it was read. The server is Redis 7 or later, which counts what was appended.
    """

    #: Bytes that are no UTF-8 are shown as such: the event goes aside, and does not stop the read.
    OPTIONS: ClassVar = {"decode_responses": True, "encoding_errors": "backslashreplace"}

    def __init__(self, url: str, stream: str = "events", timeout: float = TIMEOUT) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.stream = stream
        waits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        never = Retry(NoBackoff(), 0)
        self._redis = redis.Redis.from_url(url, **self.OPTIONS, **waits, retry=never)

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
        return [_event(offset, fields) for offset, fields in found]

    def extent(self) -> Extent:
        """Return how many events were appended and deleted; no body is read."""
        name = f"{self.stream}:origin"
        self._redis.set(name, uuid.uuid4().hex, nx=True)
        origin = self._redis.get(name)
        if not self._redis.exists(self.stream):
            return Extent(origin, 0, 0)
        about = self._redis.xinfo_stream(self.stream)
        return Extent(origin, about["entries-added"], about["entries-added"] - about["length"])

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _event(offset: str, fields: dict[str, str]) -> Event:
    """Return an entry of a stream as an event, also if another program has written it."""
    if missing := {"key", "body"} - {*fields}:
        text = json.dumps(fields)[:LONGEST]
        return Event(offset, "", text, f"an entry without {' and '.join(sorted(missing))}")
    return Event(offset, fields["key"], fields["body"])


# The consumer --------------------------------------------------------------------------------


class OtherSchema(RuntimeError):
    """The store was made for other tables than this program's."""


class LogChanged(RuntimeError):
    """The log is not the one that was read so far, or has lost events that were not read."""


def number_of(schema: str) -> int:
    """Return a number that another schema does not have; white space makes no difference."""
    return zlib.crc32(" ".join(schema.split()).encode()) >> 1


class Store(_Database):
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
