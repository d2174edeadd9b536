"""Keep a copy of the sources: delta feeds in, documents with passages and vectors out.

A page of entries and the cursor after it are written in one transaction: a process that is killed
goes on where the last whole page ended, and an entry that is read twice changes nothing, since of
each key the event with the highest ``seq`` holds. Entries that are no events are put aside with the
reason. A passage is embedded only if no passage in the store has the same text: a move, a new grant
or a saved page without a change costs no vector. What has been deleted is overwritten in the file.

Who may see a document never waits for vectors or for a backlog: the lane ``access`` is read to its
end before every page of documents, and ``critical`` before the rest. So at no page of a first sync
does somebody see a document that they may not see at its end.

What it cannot do: see a change before the source tells it; put the feeds of two servers in one
order (a user who leaves a group is out when the directory is read, which is why it comes first);
go past a document that the embedder cannot read (the sync raises, after the rights).

A server that has lost its cursors is read again from the beginning. It may have forgotten what it
deleted, so what it no longer tells of is taken away at the end of that round, and comes back with
the next change of it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from casebook.llm.timing import Budget, Sources
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import Embedder, check_vectors
from casebook.serving.deltas import ALL, Page, Reader, drain

from .records import DIRECTORY, SOURCES, Document, Event, as_json, event_of
from .world.sources import LANES

#: Windows of about 512 tokens with 64 in common, in words.
CHUNKS = Chunker("words", 380, 48)
#: Passages that are embedded in one call.
BATCH = 256
_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
  kind TEXT, subject TEXT, source TEXT NOT NULL, seq INTEGER NOT NULL, entry TEXT NOT NULL,
  applied INTEGER NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_applied ON state (applied);
CREATE TABLE IF NOT EXISTS chunk (
  document TEXT, n INTEGER, start INTEGER, stop INTEGER, digest TEXT NOT NULL,
  PRIMARY KEY (document, n)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_digest ON chunk (digest);
CREATE TABLE IF NOT EXISTS vector (digest TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursor (source TEXT, lane TEXT, cursor TEXT, PRIMARY KEY (source, lane));
CREATE TABLE IF NOT EXISTS aside (source TEXT, entry TEXT, why TEXT, PRIMARY KEY (source, entry));
CREATE TABLE IF NOT EXISTS round (source TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS told (
  source TEXT, kind TEXT, subject TEXT, PRIMARY KEY (source, kind, subject)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
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


def taken_away(event: Event) -> Event:
    """Return the event that takes back what the source no longer tells of."""
    kind, payload = _NOTHING[event.kind]
    return replace(event, seq=event.seq + 1, kind=kind, payload=payload)


class Item(NamedTuple):
    """A document as it is searched.

    Attributes
    ----------
    document : Document
    texts : tuple of str
        Its passages.
    vectors : ndarray
        Shape (passages, dimensions).
    """

    document: Document
    texts: tuple[str, ...]
    vectors: np.ndarray


class Mirror:
    """The copy, in one SQLite file; one process writes, with a thread for each source if it likes.

    Parameters
    ----------
    path : Path
    embedder : Embedder
        Whose vectors are kept; a file with those of another one is refused.
    sinks : sequence of callable
        Each is given the events of a page before anything is embedded or committed here, and while
        another source embeds: all of them, some twice, some late. The store of access rights is
        one.
    chunker : Chunker

    Attributes
    ----------
    counts : Counter
        ``taken``, ``old`` (repeated, or overtaken by a later event), ``aside``, ``embedded`` and
        ``kept`` (passages whose vector was there), since it was opened.
    """

    def __init__(
        self,
        path: Path,
        embedder: Embedder,
        sinks: Sequence[Callable[[list[Event]], Any]] = (),
        chunker: Chunker = CHUNKS,
    ) -> None:
        self.embedder, self.sinks, self.chunker = embedder, tuple(sinks), chunker
        self.counts: Counter = Counter()
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA secure_delete=ON;" + _SCHEMA)
        made = {"embedder": embedder.name, "chunker": str(chunker)}
        for name, value in made.items():
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        was = dict(self._db.execute("SELECT name, value FROM meta"))
        if was != made:
            self._db.close()
            raise ValueError(f"{path} was made with {was}, not {made}: take another file")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Taking in ---------------------------------------------------------------------------------

    def cursor(self, source: str, lane: str) -> str:
        """Return where a lane of a source goes on; '' at the beginning."""
        rows = self._db.execute(
            "SELECT cursor FROM cursor WHERE source = ? AND lane = ?", (source, lane)
        )
        return next((cursor for (cursor,) in rows), "")

    def take(self, source: str, lane: str, entries: Iterable[Any], cursor: str) -> None:
        """Take a page in: events, their passages and vectors, and the cursor, or nothing of it."""
        told, bad = self._read(source, entries)
        for sink in self.sinks:
            sink(told)
        with self._lock:
            news = self._news(told)
            with self._taking(news) as db:
                db.executemany("INSERT OR IGNORE INTO aside VALUES (?, ?, ?)", bad)
                db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (source, lane, cursor))
                if lane == ALL and db.execute(_ROUND, (source,)).fetchone():
                    keys = {(source, *event.key) for event in told}
                    db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", keys)
            self.counts.update({"taken": len(news), "aside": len(bad)})

    @contextmanager
    def _taking(self, events: list[Event]) -> Iterator[sqlite3.Connection]:
        """Write events with their passages and vectors, in one transaction with what follows."""
        documents = [event for event in events if event.key[0] == "document"]
        cut = {event.subject: self._cut(event) for event in documents}
        vectors = self._embedded({text for pieces in cut.values() for _, _, text in pieces})
        with self._writing() as db:
            for applied, event in enumerate(events, self.applied() + 1):
                row = (*event.key, event.source, event.seq, json.dumps(as_json(event)), applied)
                db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?)", row)
            for event in documents:
                self._replace(db, event.subject, cut[event.subject], vectors)
            yield db

    def begin(self, source: str) -> None:
        """Begin a round: from now on it counts what the source tells of in the lane ``all``."""
        with self._lock, self._writing() as db:
            db.execute("INSERT OR IGNORE INTO round VALUES (?)", (source,))
            db.execute("DELETE FROM told WHERE source = ?", (source,))

    def finish(self, source: str) -> None:
        """End a round, if there is one: take away what was not told of."""
        with self._lock:
            if not self._db.execute(_ROUND, (source,)).fetchone():
                return
            rows = self._db.execute(_FORGOTTEN, (source,)).fetchall()
            kept = [event_of(json.loads(entry)) for (entry,) in rows]
            lost = [taken_away(event) for event in kept if event.kind in _NOTHING]
            for sink in self.sinks:
                sink(lost)
            with self._taking(lost) as db:
                db.execute("DELETE FROM round WHERE source = ?", (source,))
                db.execute("DELETE FROM told WHERE source = ?", (source,))

    def _read(self, source: str, entries: Iterable[Any]) -> tuple[list[Event], list[tuple]]:
        """Return the events of a page, and what is none."""
        events, bad = [], []
        for entry in entries:
            try:
                event = event_of(entry)
                if event.source != source:
                    raise ValueError(f"{source} tells of {event.source}")
            except ValueError as error:
                bad.append((source, _named(entry), str(error)[:300]))
            else:
                events.append(event)
        return events, bad

    def _news(self, events: Iterable[Event]) -> list[Event]:
        """Return the last event of each key, unless a later one was taken before."""
        last: dict[tuple[str, str], Event] = {}
        for event in events:
            known = last.get(event.key)
            newer = event.seq > (known.seq if known else self._seq(event.key))
            self.counts["old"] += known is not None or not newer
            if newer:
                last[event.key] = event
        return sorted(last.values(), key=lambda event: event.seq)

    def _seq(self, key: tuple[str, str]) -> int:
        rows = self._db.execute("SELECT seq FROM state WHERE kind = ? AND subject = ?", key)
        return next((seq for (seq,) in rows), -1)

    def _cut(self, event: Event) -> list[tuple[int, int, str]]:
        """Return start, end and searched text of the passages of a document."""
        document = event.payload
        if not isinstance(document, Document):
            return []
        spans = self.chunker.spans(document.body) or [(0, 0)]
        return [(a, b, f"{document.title}\n{document.body[a:b]}") for a, b in spans]

    def _embedded(self, texts: set[str]) -> dict[str, bytes]:
        """Return the vectors, by digest, of the texts that have none in the store."""
        new = {_digest(text): text for text in sorted(texts)}
        for digest in list(new):
            if self._db.execute("SELECT 1 FROM vector WHERE digest = ?", (digest,)).fetchone():
                del new[digest]
        self.counts.update({"embedded": len(new), "kept": len(texts) - len(new)})
        found, digests = {}, list(new)
        for start in range(0, len(digests), BATCH):
            some = digests[start : start + BATCH]
            vectors = self.embedder.encode([new[digest] for digest in some])
            vectors = check_vectors(vectors, len(some), self.embedder.dimensions)
            found.update(zip(some, map(np.ndarray.tobytes, vectors), strict=True))
        return found

    def _replace(
        self, db: sqlite3.Connection, document: str, pieces: list, vectors: Mapping[str, bytes]
    ) -> None:
        """Write a document's passages; vectors that no passage has any more go."""
        rows = db.execute("SELECT digest FROM chunk WHERE document = ?", (document,))
        before = {digest for (digest,) in rows}
        db.execute("DELETE FROM chunk WHERE document = ?", (document,))
        for n, (start, stop, text) in enumerate(pieces):
            digest = _digest(text)
            before.discard(digest)
            if digest in vectors:
                db.execute("INSERT OR IGNORE INTO vector VALUES (?, ?)", (digest, vectors[digest]))
            db.execute(
                "INSERT INTO chunk VALUES (?, ?, ?, ?, ?)", (document, n, start, stop, digest)
            )
        for digest in before:
            db.execute(
                "DELETE FROM vector WHERE digest = ? AND NOT EXISTS "
                "(SELECT 1 FROM chunk WHERE chunk.digest = vector.digest)",
                (digest,),
            )

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
        return self._db.execute("SELECT COALESCE(MAX(applied), 0) FROM state").fetchone()[0]

    def since(self, applied: int = 0) -> list[Event]:
        """Return the events that hold and were taken in after a change, in order."""
        with self._lock:
            rows = self._db.execute(
                "SELECT entry FROM state WHERE applied > ? ORDER BY applied", (applied,)
            ).fetchall()
        return [event_of(json.loads(entry)) for (entry,) in rows]

    def items(self, events: Iterable[Event]) -> Iterator[Item]:
        """Yield the documents of events with their passages and vectors.

        A document that has changed since is left out: a later :meth:`since` has it.
        """
        for event in events:
            document = event.payload
            if not isinstance(document, Document):
                continue
            with self._lock:
                rows = self._db.execute(
                    "SELECT start, stop, data FROM state JOIN chunk ON document = subject "
                    "JOIN vector USING (digest) "
                    "WHERE kind = 'document' AND subject = ? AND seq = ? ORDER BY n",
                    (document.id, event.seq),
                ).fetchall()
            if rows:
                texts = tuple(document.body[start:stop] for start, stop, _ in rows)
                vectors = np.stack([np.frombuffer(data, np.float32) for *_, data in rows])
                yield Item(document, texts, vectors)

    def aside(self) -> list[tuple[str, str, str]]:
        """Return what was put aside: source, hash of the entry, and reason."""
        return self._db.execute("SELECT source, entry, why FROM aside ORDER BY 1, 2").fetchall()

    def content(self) -> str:
        """Return a hash of all that is kept, cursors and order of arrival apart."""
        made = hashlib.sha256()
        for table, names in (
            ("state", "kind, subject, source, seq, entry"),
            ("chunk", "*"),
            ("vector", "*"),
        ):
            for row in self._db.execute(f"SELECT {names} FROM {table} ORDER BY 1, 2"):
                made.update(repr(row).encode())
        return made.hexdigest()


def _named(entry: Any) -> str:
    """Return a hash of an entry: what it says may not be kept where nobody asks who may see it."""
    return _digest(json.dumps(entry))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    sources : Sources
        Clock, sleep and chance.
    """

    def __init__(
        self,
        source: str,
        url: str,
        mirror: Mirror,
        budget: Budget | None = None,
        sources: Sources | None = None,
    ) -> None:
        if source not in (*SOURCES, DIRECTORY):
            raise ValueError(f"{source!r} is no source: {', '.join((*SOURCES, DIRECTORY))}")
        self.source, self.mirror = source, mirror
        self.reader = Reader(url, budget, sources=sources)

    def sync(self, pages: int | None = None, limit: int = 200) -> int:
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
            LANES,
            limit,
            pages,
            lambda lane: self.mirror.begin(self.source) if lane == ALL else None,
        )

    def _take(self, lane: str, page: Page) -> None:
        self.mirror.take(self.source, lane, page.entries, page.cursor)
        if lane == ALL and not page.more:
            self.mirror.finish(self.source)


def connectors(url: str, mirror: Mirror, **how: Any) -> list[Connector]:
    """Return the connectors of all servers behind an address; the directory comes first."""
    return [Connector(one, f"{url}/{one}", mirror, **how) for one in (DIRECTORY, *SOURCES)]


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
