"""Keep a copy of the sources: delta feeds in, rights at once, texts after a whole round.

A page of entries and the cursor after it are written in one transaction: a process that is killed
goes on where the last whole page ended, and an entry that is read twice changes nothing, since of
each key the event with the highest ``seq`` holds. Entries that are no events are put aside with the
reason. What has been deleted is overwritten in the file.

Who may see a document never waits for a backlog: the lane ``access`` is read to its end before
every page of documents, and ``critical`` before the rest; the sinks hear of a page before it is
written. :func:`refresh` reads all sources to their end, stores the texts, and only then lets hold
what was gained (:mod:`casebook.serving.held_back`). So nobody sees an old text by a new right.

What it cannot do: see a change before the source tells it, or know of a text that the source tells
later than the right that came after it. A critical document is stored at the end of the round: in
seconds, as long as no source has a backlog.

A server that has lost its cursors is read again from the beginning, whatever numbers it now gives:
a *round* counts above all that was known before. It may have forgotten what it deleted: what it no
longer tells of is taken away at the end of that round, and comes back with the next change of it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.records import (
    DIRECTORY,
    SOURCES,
    Document,
    Event,
    as_json,
    event_of,
)
from casebook.cases.knowledge_assistant.world.sources import LANES
from casebook.llm.timing import Budget
from casebook.retrieval.kept_vectors import KeptVectors
from casebook.serving.deltas import ALL, FeedDown, Page, Reader, drain

#: Documents that are embedded before the rights are looked at again.
BATCH = 32
_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS state (
  kind TEXT, subject TEXT, source TEXT NOT NULL, seq INTEGER NOT NULL, entry TEXT NOT NULL,
  applied INTEGER NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_applied ON state (applied);
CREATE TABLE IF NOT EXISTS cursor (source TEXT, lane TEXT, cursor TEXT, PRIMARY KEY (source, lane));
CREATE TABLE IF NOT EXISTS aside (source TEXT, entry TEXT, why TEXT, PRIMARY KEY (source, entry));
CREATE TABLE IF NOT EXISTS above (source TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS round (source TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS told (
  source TEXT, kind TEXT, subject TEXT, PRIMARY KEY (source, kind, subject)) WITHOUT ROWID;
"""
_ROUND = "SELECT 1 FROM round WHERE source = ?"
_FORGOTTEN = """
SELECT entry FROM state WHERE source = ? AND NOT EXISTS (
  SELECT 1 FROM told WHERE told.source = state.source AND told.kind = state.kind
  AND told.subject = state.subject)
"""
#: Kind of an event → the kind and the payload that take it back.
_NOTHING: dict[str, tuple[str, Any]] = {
    "document": ("deleted", None),
    "grants": ("grants", ()),
    "members": ("members", ()),
    "user": ("user", False),
}


class Mirror:
    """The copy, in one SQLite file; one process writes, with a thread for each source if it likes.

    Parameters
    ----------
    path : Path
    sinks : sequence of callable
        Each is given the events of a page before anything is committed here: all of them, some
        twice, some late. The store of access rights is one.

    Attributes
    ----------
    counts : Counter
        ``taken``, ``old`` (repeated, or overtaken by a later event) and ``aside``, since it was
        opened.
    """

    def __init__(self, path: Path, sinks: Sequence[Callable[[list[Event]], Any]] = ()) -> None:
        self.sinks, self.counts = tuple(sinks), Counter()
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Taking in ---------------------------------------------------------------------------------

    def cursor(self, source: str, lane: str) -> str:
        """Return where a lane of a source goes on; '' at the beginning."""
        query = "SELECT cursor FROM cursor WHERE source = ? AND lane = ?"
        return self._one(query, (source, lane), "")

    def take(self, source: str, lane: str, entries: Iterable[Any], cursor: str) -> None:
        """Take a page in: events and the cursor, or nothing of it."""
        told, bad = self._read(source, entries)
        for sink in self.sinks:
            sink(told)
        with self._lock, self._writing() as db:
            news = self._news(told)
            self._keep(news)
            db.executemany("INSERT OR IGNORE INTO aside VALUES (?, ?, ?)", bad)
            db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (source, lane, cursor))
            if lane == ALL and self.in_round(source):
                keys = {(source, *event.key) for event in told}
                db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", keys)
            self.counts.update({"taken": len(news), "aside": len(bad)})

    def _keep(self, events: Iterable[Event]) -> None:
        for applied, event in enumerate(events, self.applied() + 1):
            row = (*event.key, event.source, event.seq, json.dumps(as_json(event)), applied)
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?)", row)

    def in_round(self, source: str) -> bool:
        """Say whether a source is being read again from the beginning."""
        return bool(self._one(_ROUND, (source,), 0))

    def begin(self, source: str, anew: bool = True) -> None:
        """Begin a round: count what the source tells of in the lane ``all``.

        Parameters
        ----------
        source : str
        anew : bool
            Whether its numbers count above all that it told before, as those of a server that was
            restored from a copy may be lower.
        """
        with self._lock, self._writing() as db:
            db.execute("INSERT OR IGNORE INTO round VALUES (?)", (source,))
            db.execute("DELETE FROM told WHERE source = ?", (source,))
            if anew:
                highest = "SELECT MAX(seq) + 2 FROM state WHERE source = ?"
                top = self._one(highest, (source,), 0) or 0
                db.execute("INSERT OR REPLACE INTO above VALUES (?, ?)", (source, top))

    def finish(self, source: str) -> None:
        """End a round, if there is one: take away what was not told of."""
        with self._lock:
            if not self.in_round(source):
                return
            rows = self._db.execute(_FORGOTTEN, (source,)).fetchall()
            kept = [event_of(json.loads(entry)) for (entry,) in rows]
            gone = [
                replace(one, seq=one.seq + 1, kind=kind, payload=payload)
                for one in kept
                if one.kind in _NOTHING
                for kind, payload in [_NOTHING[one.kind]]
            ]
            for sink in self.sinks:
                sink(gone)
            with self._writing() as db:
                self._keep(gone)
                db.execute("DELETE FROM round WHERE source = ?", (source,))
                db.execute("DELETE FROM told WHERE source = ?", (source,))

    def _read(self, source: str, entries: Iterable[Any]) -> tuple[list[Event], list[tuple]]:
        """Return the events of a page, and what is none."""
        events, bad = [], []
        above = self._one("SELECT seq FROM above WHERE source = ?", (source,), 0)
        for entry in entries:
            try:
                event = event_of(entry)
                if event.source != source:
                    raise ValueError(f"{source} tells of {event.source}")
            except ValueError as error:
                # Its hash alone: what it says is not kept where nobody asks who may see it.
                named = hashlib.sha256(json.dumps(entry).encode()).hexdigest()
                bad.append((source, named, str(error)[:300]))
            else:
                events.append(replace(event, seq=event.seq + above))
        return events, bad

    def _news(self, events: Iterable[Event]) -> list[Event]:
        """Return the last event of each key, unless a later one was taken before."""
        last: dict[tuple[str, str], Event] = {}
        query = "SELECT seq FROM state WHERE kind = ? AND subject = ?"
        for event in events:
            known = last.get(event.key)
            newer = event.seq > (known.seq if known else self._one(query, event.key, -1))
            self.counts["old"] += known is not None or not newer
            if newer:
                last[event.key] = event
        return sorted(last.values(), key=lambda event: event.seq)

    def _one(self, query: str, values: tuple, otherwise: Any) -> Any:
        return next((value for (value,) in self._db.execute(query, values)), otherwise)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Giving out --------------------------------------------------------------------------------

    def applied(self) -> int:
        """Return the number of the last change, for :meth:`since`."""
        return self._one("SELECT COALESCE(MAX(applied), 0) FROM state", (), 0)

    def since(self, applied: int = 0) -> list[Event]:
        """Return the events that hold and were taken in after a change, in order."""
        query = "SELECT entry FROM state WHERE applied > ? ORDER BY applied"
        with self._lock:
            rows = self._db.execute(query, (applied,)).fetchall()
        return [event_of(json.loads(entry)) for (entry,) in rows]

    def aside(self) -> list[tuple[str, str, str]]:
        """Return what was put aside: source, hash of the entry, and reason."""
        return self._db.execute("SELECT source, entry, why FROM aside ORDER BY 1, 2").fetchall()

    def content(self) -> str:
        """Return a hash of all that is kept, cursors and order of arrival apart."""
        rows = self._db.execute("SELECT kind, subject, source, seq, entry FROM state ORDER BY 1, 2")
        return hashlib.sha256("".join(map(repr, rows)).encode()).hexdigest()


class Connector:
    """Keeps one source's part of a mirror up to date.

    Parameters
    ----------
    source : str
    url : str
        Of its server.
    mirror : Mirror
    budget : Budget
        For one page.
    """

    def __init__(
        self,
        source: str,
        url: str,
        mirror: Mirror,
        budget: Budget | None = None,
    ) -> None:
        if source not in (*SOURCES, DIRECTORY):
            raise ValueError(f"{source!r} is no source: {', '.join((*SOURCES, DIRECTORY))}")
        self.source, self.mirror = source, mirror
        self.reader = Reader(url, budget)

    def sync(self, pages: int | None = None, limit: int = 200, lanes: Sequence[str] = LANES) -> int:
        """Read what is new, urgent lanes first; return how many pages were taken.

        Raises
        ------
        FeedDown
            If the server does not answer within the budget; what was read is kept.
        """
        return drain(
            self.reader,
            self._take,
            lambda lane: self.mirror.cursor(self.source, lane),
            lanes,
            limit,
            pages,
            self._lost,
        )

    def _lost(self, lane: str) -> None:
        """Begin a round: the fast lanes are read first, and what they tell counts above all."""
        first = lane == LANES[0] or not self.mirror.in_round(self.source)
        if first or lane == ALL:
            self.mirror.begin(self.source, anew=first)

    def _take(self, lane: str, page: Page) -> None:
        self.mirror.take(self.source, lane, page.entries, page.cursor)
        if lane == ALL and not page.more:
            self.mirror.finish(self.source)


def connectors(url: str, mirror: Mirror, **how: Any) -> list[Connector]:
    """Return the connectors of all servers behind an address; the directory comes first."""
    return [Connector(one, f"{url}/{one}", mirror, **how) for one in (DIRECTORY, *SOURCES)]


def refresh(links: Iterable[Connector], library: Library, applied: int = 0) -> int:
    """Read all sources to their end, store the texts, and let what was gained hold.

    A backlog is embedded first, and losses of rights are read after every :data:`BATCH` documents
    of it. Then all texts are stored at once: no right changes between them and the last event.

    Parameters
    ----------
    links : iterable of Connector
        Of one mirror, among whose sinks is ``library.access.apply``.
    library : Library
    applied : int
        What this returned the last time; 0 for a library that is empty.

    Returns
    -------
    int
        The same as before if a source did not answer. Texts and gains of that source then wait,
        and what people gain in the directory, as nobody knows what has changed there.
    """
    links = [*links]
    mirror, down = links[0].mirror, _down(links)
    if isinstance(library.embedder, KeptVectors):
        told = [one.payload for one in mirror.since(applied) if isinstance(one.payload, Document)]
        for start in range(0, len(told), BATCH):
            library.warm(told[start : start + BATCH])
            _down(links, LANES[:1])
        down = _down(links)
    events, now, heard = mirror.since(applied), mirror.applied(), library.access.heard()
    events = [event for event in events if event.source not in down]
    for event in events:
        if event.kind == "deleted":
            library.drop(event.subject)
    stored = {leaf.document for leaf in library.leaves.values()}
    told = (event.payload for event in events if isinstance(event.payload, Document))
    library.take(page for page in told if page not in stored)
    library.access.settle(heard, down | ({DIRECTORY} if down else set()))
    return applied if down else now


def _down(links: Iterable[Connector], lanes: Sequence[str] = LANES) -> set[str]:
    """Read lanes of all sources to their end; return the sources that did not answer."""
    down = set()
    for link in links:
        try:
            link.sync(lanes=lanes)
        except FeedDown:
            down.add(link.source)
    return down


def index_hours(
    documents: int, passages_each: float, passages_a_second: float, documents_a_second: float
) -> float:
    """Return the hours to read and embed a whole collection with one worker, by arithmetic.

    Parameters
    ----------
    documents : int
    passages_each : float
    passages_a_second : float
        Of the embedder, measured.
    documents_a_second : float
        Of reading and writing without embedding, measured.

    Examples
    --------
    >>> round(index_hours(500_000, 2, 24, 1_000), 1)  # MiniLM on two threads
    11.7
    """
    return documents * (passages_each / passages_a_second + 1 / documents_a_second) / 3600
