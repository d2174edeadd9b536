"""Vectors by the hash of their text: what was embedded once is not embedded again.

A document that moves, gets another owner or is saved as it was costs nothing; one that is edited
costs the passages that changed. What is deleted is forgotten, since a text can be guessed from its
vector, and from its hash whoever has the file can find out whether a guessed text stood there: the
file is its owner's alone.

Examples
--------
>>> from casebook.retrieval.dense import Hashed
>>> kept = KeptVectors(Hashed(16))
>>> first = kept.encode(["a rule", "another rule"])
>>> bool((kept.encode(["a rule"]) == first[:1]).all()), dict(kept.counts)
(True, {'embedded': 2, 'kept': 1})
>>> kept.forget(["a rule"]), len(kept)
(1, 1)
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from casebook.data.private import private
from casebook.retrieval.dense import Embedder, check_vectors, query_vectors

#: Texts that are embedded in one call, and written before the next.
BATCH = 256
_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS vector (digest TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY);
"""


class KeptVectors:
    """An embedder that remembers, in a file of SQLite.

    Parameters
    ----------
    embedder : Embedder
    path : Path or str
        A file with vectors of another embedder is refused.

    Attributes
    ----------
    counts : Counter
        Different texts of each call: ``embedded``, and ``kept`` (whose vector was there).
    """

    def __init__(self, embedder: Embedder, path: Path | str = ":memory:") -> None:
        self.embedder, self.name, self.dimensions = embedder, embedder.name, embedder.dimensions
        self.counts: Counter = Counter()
        self._lock = threading.RLock()
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)
        self._db.execute(
            "INSERT INTO meta SELECT ? WHERE NOT EXISTS (SELECT * FROM meta)", (self.name,)
        )
        (was,) = self._db.execute("SELECT name FROM meta").fetchone()
        if was != self.name:
            self._db.close()
            raise ValueError(f"{path} has vectors of {was}, not {self.name}: take another file.")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, shape (texts, dimensions).

        Others may ask and write while the embedder works; a text that two of them bring at once is
        embedded twice.
        """
        named = {_digest(text): text for text in texts}
        with self._lock:
            found = {digest: data for digest in named if (data := self._get(digest))}
            new = [digest for digest in named if digest not in found]
            self.counts.update({"embedded": len(new), "kept": len(found)})
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            vectors = self.embedder.encode([named[digest] for digest in some])
            vectors = check_vectors(vectors, len(some), self.dimensions)
            rows = [*zip(some, map(np.ndarray.tobytes, vectors), strict=True)]
            self._write("INSERT OR REPLACE INTO vector VALUES (?, ?)", rows)
            found.update(rows)
        made = [np.frombuffer(found[_digest(text)], np.float32) for text in texts]
        return np.array(made, np.float32).reshape(len(made), self.dimensions)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of questions, by the embedder's own way: of them nothing is kept."""
        return check_vectors(query_vectors(self.embedder, texts), len(texts), self.dimensions)

    def forget(self, texts: Iterable[str]) -> int:
        """Overwrite the vectors of texts; who still needs one embeds it again.

        The file's log (``-wal``) is written into the file and emptied, so that they are gone from
        both; what a disk or a backup keeps of an emptied file is out of reach.
        """
        with self._lock:
            gone = self._write(
                "DELETE FROM vector WHERE digest = ?", [(_digest(t),) for t in texts]
            )
            if gone:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return gone

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM vector").fetchone()[0]

    def _get(self, digest: str) -> bytes | None:
        query = "SELECT data FROM vector WHERE digest = ?"
        return next((data for (data,) in self._db.execute(query, (digest,))), None)

    def _write(self, query: str, rows: Sequence[tuple]) -> int:
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            return self._db.executemany(query, rows).rowcount


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
