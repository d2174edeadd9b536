"""An event log: events are appended, read in order, and never changed.

:class:`EventLog` keeps them in a file of SQLite; :class:`~casebook.serving.redislog.RedisLog` keeps
them in a Redis stream, with the same methods. :class:`~casebook.serving.consumer.Consumer` reads
either.

Examples
--------
>>> import tempfile, pathlib
>>> folder = tempfile.TemporaryDirectory()
>>> log = EventLog(pathlib.Path(folder.name) / "log.db")
>>> log.append([("a", "1"), ("b", "two")])
'2'
>>> log.read(after="1")
[Event(offset='2', key='b', body='two', fault='')]
>>> log.extent().added, log.close(), folder.cleanup()
(2, None, None)
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

#: Before the first event.
BEGINNING = "0"
#: Characters of an event; a longer one is refused by the log.
LONGEST = 100_000
#: Events that are read together.
BATCH = 500


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


def checked(events: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
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


class Database:
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


class EventLog(Database):
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
        events = checked(events)
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
