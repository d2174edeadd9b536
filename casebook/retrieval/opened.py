"""The file of an index while it is open: connections, transactions, and what tells a lost change.

A writer keeps its changes in a log beside the file (SQLite's write-ahead log) until the commit, and
folds them into the file right after it. What was committed last is noted in a small file beside
(``-state``): where the log is lost or damaged before it was folded, the index is older than its
note, and is refused.

A process that may not write opens the file with the log where a writer is at work, and the file
alone where none is; it looks before each question whether that has changed. A file that was put in
the place of another one is opened anew, and read as a whole first.

Examples
--------
>>> import tempfile
>>> from casebook.retrieval.index import Index
>>> names = ["article_id", "version", "language", "title", "text", "valid_from", "valid_to"]
>>> row = ("a", 1, "en", "Storage", "For 7 days.", pd.Timestamp("2026-01-01"), pd.NaT)
>>> with tempfile.TemporaryDirectory() as folder:
...     with Index.build(Path(folder) / "a.db", pd.DataFrame([row], columns=names)) as index:
...         note = index.beside("-state").read_text()
>>> len(note.split())
3
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

from casebook.project import write_whole
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import Embedder
from casebook.retrieval.rows import FORMAT, IndexFault, Rows, seal_of
from casebook.retrieval.text import ANALYSERS
from casebook.retrieval.view import View

#: Seconds that a writer waits for another one.
WAIT = 60.0


class Opened(Rows):
    """The part of an index that holds its file open."""

    def __init__(self, path: Path, embedder: Embedder | None, read_only: bool = False) -> None:
        self.path, self.embedder, self.read_only = Path(path), embedder, read_only
        self._lock = threading.RLock()
        self._view: View | None = None
        #: What :meth:`articles` found last, and the state of the file at that time.
        self._listed: tuple[tuple | None, pd.DataFrame] = (None, pd.DataFrame())
        self.chunker, self.analyser = Chunker(), "words"
        self._connect()
        #: The file that is open, as :meth:`_seen` told it; nothing before it is made.
        self._file: tuple | None = self._seen() if self.path.is_file() else None

    def beside(self, end: str) -> Path:
        """Return a file beside the index: its log (``-wal``) or the note of its last change."""
        return self.path.with_name(self.path.name + end)

    def _connect(self) -> None:
        self._alone = self.read_only and not self.beside("-shm").exists()
        log = self.beside("-wal")
        if self._alone and log.is_file() and log.stat().st_size:
            raise IndexFault(
                f"{self.path} may not be written, and its last changes stand in {log.name}: open "
                "and close it once where it may be."
            )
        mode = ("?mode=ro" if self.read_only else "") + ("&immutable=1" if self._alone else "")
        self._db = sqlite3.connect(
            self.path.absolute().as_uri() + mode,
            timeout=WAIT,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        self._db.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def _seen(self) -> tuple:
        """Return which file stands at the path, and what changes with it where nobody says so."""
        try:
            file = os.stat(self.path)
        except FileNotFoundError as error:
            raise IndexFault(f"{self.path} is gone: make an index by Index.build.") from error
        if not self._alone:
            return (file.st_dev, file.st_ino)
        writer = self.beside("-shm").exists()
        return (file.st_dev, file.st_ino), file.st_mtime_ns, file.st_size, writer

    def _look_again(self) -> None:
        """Open what stands at the path now, where it is another file or state than before."""
        seen = self._seen()
        if self._file is None or self._file == seen:
            self._file = seen
            return
        another = self._file[0] != seen[0] if self._alone else True
        self._file = ("unknown",)
        self._db.close()
        self._connect()
        if another:
            self._view, self._listed = None, (None, pd.DataFrame())
            self._adopt(self._meta())
            self._refuse_damage()
        self._file = self._seen()

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        with self._lock:
            writes = kind == "IMMEDIATE"
            if writes and self.read_only:
                raise IndexFault(f"{self.path} was opened to be read only: it is not changed.")
            self._look_again()
            if writes:  # on disk before it counts as committed
                self._db.execute("PRAGMA synchronous = FULL")
            try:
                self._db.execute(f"BEGIN {kind}")
                yield
                self._db.execute("COMMIT")
                if self._alone and self._seen() != self._file:
                    raise IndexFault(f"{self.path} was changed while it was read: ask again.")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if getattr(error, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
                    raise IndexFault(f"{self.path} is damaged ({error}): build it anew.") from error
                raise
            if writes:
                self._fold()

    def _fold(self) -> None:
        """Note what was committed, and fold the log into the file; a reader may make it wait."""
        meta = self._meta()
        note = f"{meta['made']} {meta['epoch']} {meta['generation']}\n"
        # What is committed stays so on a full disk: the log has it, and the next write folds it.
        with suppress(OSError, sqlite3.OperationalError):
            write_whole(self.beside("-state"), note.encode())
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _meta(self) -> dict[str, str]:
        try:
            meta = dict(self._db.execute("SELECT key, value FROM meta"))
        except (sqlite3.DatabaseError, UnicodeError) as error:
            raise IndexFault(
                f"{self.path} holds no index ({error}): make one by Index.build."
            ) from error
        if meta.get("format") != str(FORMAT):
            raise IndexFault(f"{self.path} has format {meta.get('format')}, not {FORMAT}.")
        return meta

    def _adopt(self, meta: dict[str, str]) -> None:
        """Take over how the index was built."""
        try:
            kind, size, overlap = meta["chunker"].split("/")
            self.chunker, self.analyser = Chunker(kind, int(size), int(overlap)), meta["analyser"]
            int(meta["epoch"]), int(meta["generation"])
            known = self.analyser in ANALYSERS and meta["seal"] == seal_of(meta)
        except (KeyError, ValueError):
            known = False
        if not known:
            raise IndexFault(
                f"{self.path} does not say how it was built, or not as it was written: build it "
                "anew."
            )
        if self.embedder is not None and meta["embedder"] != self.embedder.name:
            raise IndexFault(
                f"{self.path} holds vectors of {meta['embedder'] or 'no embedder'}, not of "
                f"{self.embedder.name}: open it with that one, or build it anew."
            )

    def _refuse_damage(self, verify: bool = True) -> None:
        """Refuse an index that is older than the note of its last change, or damaged."""
        meta, note = self._meta(), self.beside("-state")
        made, *last = (note.read_text("utf8", "replace").split() if note.is_file() else []) or [""]
        there = int(meta["epoch"]), int(meta["generation"])
        noted = tuple(int(n) for n in last if n.isdecimal() and len(n) < 19)
        if made == meta["made"] and len(noted) == 2 and noted > there:
            raise IndexFault(
                f"{self.path} is older than its last change: {self.beside('-wal').name} was lost "
                "or damaged. Build it anew; or, if an old copy was put back on purpose, remove "
                f"{note.name}."
            )
        if verify and (found := self._damage()):
            raise IndexFault(
                f"{self.path} is damaged: {'; '.join(found[:3])}. Build it anew from the articles."
            )
