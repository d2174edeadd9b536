"""The copy of the sources, in one file: what holds of each thing, and where each feed goes on.

A page of entries and the cursor after it are written in one transaction: a process that is killed
goes on where the last whole page ended, and an entry that is read twice changes nothing, since of
each key the event with the highest ``seq`` holds. The sinks hear of a page before it is written,
and under the same lock, so that nobody reads a copy that knows more than they do.

**What is no event** is put aside with the reason, and what it speaks of is hidden until a good
event comes: it may have been a loss of rights.

**Editions.** The source's numbers of versions are shown, and nothing is decided by them: a document
that is deleted and written again, or a server that is restored, may use a number twice. Each
version that is taken in gets our own, which only rises, also from one copy to the next.

**Rounds.** A server that has lost its cursors is read again from the beginning, in all lanes,
whatever numbers it now gives: a *round* counts above all that was known before. It may have
forgotten what it deleted: what it no longer tells of is taken away at the end of the round, and
comes back with the next change of it. Numbers reach for 512 rounds at the least.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from casebook.cases.knowledge_assistant.records import (
    BadEntry,
    Document,
    Event,
    as_json,
    closing,
    event_of,
)
from casebook.data.private import private
from casebook.serving.deltas import ALL

_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS copy (id TEXT NOT NULL, begun INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS state (
  kind TEXT, subject TEXT, source TEXT NOT NULL, seq INTEGER NOT NULL, entry TEXT NOT NULL,
  applied INTEGER NOT NULL, edition INTEGER NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_applied ON state (applied);
CREATE TABLE IF NOT EXISTS cursor (source TEXT, lane TEXT, cursor TEXT, PRIMARY KEY (source, lane));
CREATE TABLE IF NOT EXISTS aside (source TEXT, entry TEXT, why TEXT, PRIMARY KEY (source, entry));
CREATE TABLE IF NOT EXISTS above (source TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS round (source TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS told (
  source TEXT, kind TEXT, subject TEXT, PRIMARY KEY (source, kind, subject)) WITHOUT ROWID;
"""
_ROUND = "SELECT 1 FROM round WHERE source = ?"
_KEPT = "SELECT source, entry, seq, edition FROM state WHERE "
_FORGOTTEN = f"""
{_KEPT} source = ? AND NOT EXISTS (
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
        Made if need be, for its owner alone.
    sinks : sequence of callable
        Each is given the events of a page before anything is committed here: all of them, some
        twice, some late, documents under our numbers. The store of access rights is one.

    Attributes
    ----------
    id : str
        Of this copy, for :meth:`.Access.fed_by`.
    counts : Counter
        ``taken``, ``old`` (repeated, or overtaken by a later event) and ``aside``, since it was
        opened.
    refreshing : Lock
        Held by :func:`.connectors.refresh`.
    unstored : dict of str to str
        Documents whose text could not be stored, and the error's name; they are tried again.
    failed : dict of str to str
        Sources that did not answer the last time, and the error's name.
    """

    def __init__(self, path: Path, sinks: Sequence[Callable[[list[Event]], Any]] = ()) -> None:
        private(path)
        self.sinks, self.counts = tuple(sinks), Counter()
        self.refreshing, self._lock = threading.RLock(), threading.RLock()
        self.unstored, self.failed = dict[str, str](), dict[str, str]()
        self._opened, self._ended = time.monotonic(), dict[str, float]()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)
        with self._writing() as db:
            new = uuid.uuid4().hex, int(time.time())
            db.execute("INSERT INTO copy SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM copy)", new)
            self.id, self._begun = db.execute("SELECT id, begun FROM copy").fetchone()

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
        with self._lock, self._writing() as db:
            told, bad = self._read(source, entries)
            self._tell(told)
            news = self._news(told)
            self._keep(news)
            db.executemany("INSERT OR IGNORE INTO aside VALUES (?, ?, ?)", bad)
            db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (source, lane, cursor))
            if lane == ALL and self.in_round(source):
                keys = {(source, *event.key) for event in told}
                db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", keys)
            self.counts.update({"taken": len(news), "aside": len(bad)})

    def _tell(self, events: list[Event]) -> None:
        """Let the sinks know of events, those of documents under our numbers."""
        told = [self._numbered(one, self._edition(one)) for one in events]
        for sink in self.sinks:
            sink(told)

    @staticmethod
    def _numbered(event: Event, edition: int) -> Event:
        if isinstance(event.payload, Document):
            return replace(event, payload=event.payload.edition(edition))
        return event

    def _edition(self, event: Event) -> int:
        """Return our number of an event that is news: one more than the last of its document."""
        query = "SELECT edition FROM state WHERE kind = ? AND subject = ?"
        return max(
            self._begun, self._one(query, event.key, 0) + isinstance(event.payload, Document)
        )

    def _keep(self, events: Iterable[Event]) -> None:
        for applied, event in enumerate(events, self.applied() + 1):
            entry = json.dumps(as_json(replace(event, seq=0)))
            row = (*event.key, event.source, event.seq, entry, applied, self._edition(event))
            self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def in_round(self, source: str) -> bool:
        """Say whether a source is being read again from the beginning."""
        return bool(self._one(_ROUND, (source,), 0))

    def begin(self, source: str) -> None:
        """Begin a round: read all lanes from the beginning, and count what ``all`` tells of.

        Numbers count above all that the source told before, as those of a server that was restored
        from a copy may be lower.

        Raises
        ------
        OverflowError
            If there is no number above any more: delete the copy, and the rights with it.
        """
        with self._lock, self._writing() as db:
            db.execute("INSERT OR IGNORE INTO round VALUES (?)", (source,))
            for table in ("told", "cursor"):
                db.execute(f"DELETE FROM {table} WHERE source = ?", (source,))
            top = self._one("SELECT MAX(seq) FROM state WHERE source = ?", (source,), None)
            above = 0 if top is None else (top // 2 + 1) * 2
            if above + 2**54 >= 2**63:
                raise OverflowError(f"{source} has begun anew too often.")
            db.execute("INSERT OR REPLACE INTO above VALUES (?, ?)", (source, above))

    def finish(self, source: str) -> None:
        """End a round, if there is one: take away what was not told of."""
        with self._lock:
            if not self.in_round(source):
                return
            with self._writing() as db:
                rows = db.execute(_FORGOTTEN, (source,)).fetchall()
                gone = [
                    replace(one, seq=one.seq + 1, kind=kind, payload=payload)
                    for one, _ in map(_kept, rows)
                    if one.kind in _NOTHING and one.payload is not None
                    for kind, payload in [_NOTHING[one.kind]]
                ]
                self._tell(gone)
                self._keep(gone)
                db.execute("DELETE FROM round WHERE source = ?", (source,))
                db.execute("DELETE FROM told WHERE source = ?", (source,))

    def _read(self, source: str, entries: Iterable[Any]) -> tuple[list[Event], list[tuple]]:
        """Return the events of a page in their order, and what is none.

        Numbers are doubled: what hides the subject of a bad entry comes just before a good event
        of the same number.
        """
        events, bad, last = list[Event](), [], -1
        above = self._one("SELECT seq FROM above WHERE source = ?", (source,), 0)
        for entry in entries:
            try:
                event = event_of(entry)
                if event.source != source:
                    raise BadEntry(f"{source} tells of {event.source}")
                last = max(last, above + 2 * event.seq + 1)
                events.append(replace(event, seq=above + 2 * event.seq + 1))
            except Exception as error:
                why = getattr(error, "why", type(error).__name__)
                # Its hash alone: what it says is not kept where nobody asks who may see it.
                named = hashlib.sha256(json.dumps(entry).encode()).hexdigest()
                bad.append((source, named, why[:300]))
                if event := closing(entry, source):
                    events.append(self._shut(event, above, last))
        return sorted(events, key=lambda event: event.seq), bad

    def _shut(self, event: Event, above: int, last: int) -> Event:
        """Number what hides a subject.

        If its own number cannot be read: after what was told before it, or if this begins a page,
        after all that is known.
        """
        if event.seq >= 0:
            return replace(event, seq=above + 2 * event.seq)
        if last >= 0:
            return replace(event, seq=last + 1)
        query = "SELECT seq FROM state WHERE kind = ? AND subject = ?"
        known = self._one(query, event.key, above - 1)
        return replace(event, seq=known + known % 2)

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
        with self._lock:
            return next((value for (value,) in self._db.execute(query, values)), otherwise)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have ended it
                self._db.execute("ROLLBACK")
            raise

    # Giving out --------------------------------------------------------------------------------

    def applied(self) -> int:
        """Return the number of the last change, for :meth:`since`."""
        return self._one("SELECT COALESCE(MAX(applied), 0) FROM state", (), 0)

    def since(self, applied: int = 0) -> list[Event]:
        """Return the events that hold and were taken in after a change, in order, as told."""
        return [event for event, _ in self._since(applied)]

    def _since(self, applied: int) -> list[tuple[Event, int]]:
        with self._lock:
            query = f"{_KEPT} applied > ? ORDER BY applied"
            return [_kept(row) for row in self._db.execute(query, (applied,)).fetchall()]

    def news(self, applied: int = 0, also: Collection[str] = ()) -> tuple[list[Event], int]:
        """Return what holds and came after a change, and the number of the last: in one look.

        Parameters
        ----------
        applied : int
        also : collection of str
            Documents that are wanted whenever they came.

        Returns
        -------
        list of Event
            In order, documents under our numbers.
        int
        """
        with self._lock:
            found, last = self._since(applied), self.applied()
            query = f"{_KEPT} kind = 'document' AND subject = ? AND applied <= ?"
            for name in also:
                found += map(_kept, self._db.execute(query, (name, applied)).fetchall())
        return [self._numbered(event, edition) for event, edition in found], last

    def aside(self) -> list[tuple[str, str, str]]:
        """Return what was put aside: source, hash of the entry, and reason."""
        with self._lock:
            query = "SELECT source, entry, why FROM aside ORDER BY 1, 2"
            return self._db.execute(query).fetchall()

    def ended(self, sources: Iterable[str]) -> None:
        """Note that sources were read to their end just now."""
        self._ended |= dict.fromkeys(sources, time.monotonic())

    def lags(self, sources: Iterable[str]) -> dict[str, float]:
        """Return the seconds since each source was last read to its end (or this was opened)."""
        now = time.monotonic()
        return {one: now - self._ended.get(one, self._opened) for one in sources}

    def troubles(self) -> dict[str, str]:
        """Return what somebody has to look at, by source; no text, and no name of a document."""
        told = {source: f"does not answer: {why}" for source, why in self.failed.items()}
        counted = Counter(source for source, *_ in self.aside())
        for source, n in counted.items():
            told[f"{source} (entries)"] = f"{n:,} are no events; what they speak of is hidden"
        refused = Counter((name.split(":")[0], why) for name, why in self.unstored.items())
        for (source, why), n in sorted(refused.items()):
            told[f"{source} (texts, {why})"] = f"{n:,} cannot be stored and are hidden"
        return told

    def scrub(self) -> None:
        """Empty the log beside the file, in which replaced texts still stand."""
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def content(self) -> str:
        """Return a hash of all that is kept, cursors and order of arrival apart."""
        with self._lock:
            query = "SELECT kind, subject, source, seq, entry FROM state ORDER BY 1, 2"
            return hashlib.sha256("".join(map(repr, self._db.execute(query))).encode()).hexdigest()


def _kept(row: tuple[str, str, int, int]) -> tuple[Event, int]:
    """Return the event of a row as its source told it, and our number."""
    source, entry, seq, edition = row
    sent = json.loads(entry)
    event = closing(sent, source) if sent["payload"] is None else event_of(sent)
    assert event is not None
    return replace(event, seq=seq), edition
