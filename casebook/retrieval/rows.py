"""The rows of an index on disk: how versions and passages are written, and what tells damage.

Everything here runs inside a transaction that :class:`~casebook.retrieval.index.Index` opens.

Examples
--------
>>> crc("heading", 0, 12) == crc("heading", 0, 13)
False
>>> time_of(nanoseconds(pd.Timestamp("2026-01-01"))), nanoseconds(pd.NaT) == FOREVER
(Timestamp('2026-01-01 00:00:00'), True)
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.retrieval.chunks import Article, Chunk, Chunker
from casebook.retrieval.dense import Embedder, check_vectors, content_hash
from casebook.retrieval.text import ANALYSERS

#: "No end" among the times, which are stored as nanoseconds since 1970.
FOREVER = np.iinfo(np.int64).max
FORMAT = 3
#: Columns of the tables whose rows have a checksum.
_CHECKED = {"chunks": "heading, first, last, terms, hash", "vectors": "hash, vector"}

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS articles (
    id INTEGER PRIMARY KEY AUTOINCREMENT, article_id TEXT NOT NULL, language TEXT NOT NULL,
    version INTEGER NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, tags TEXT NOT NULL,
    begins INTEGER NOT NULL, valid_to INTEGER NOT NULL, ends INTEGER NOT NULL,
    hash TEXT NOT NULL, changed INTEGER NOT NULL, UNIQUE (article_id, language, version));
CREATE INDEX IF NOT EXISTS articles_changed ON articles (changed);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, article INTEGER NOT NULL REFERENCES articles (id),
    heading TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    terms TEXT NOT NULL, hash TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS chunks_article ON chunks (article);
CREATE INDEX IF NOT EXISTS chunks_hash ON chunks (hash);
CREATE TABLE IF NOT EXISTS vectors (
    hash TEXT PRIMARY KEY, vector BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS removals (generation INTEGER NOT NULL, article INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS removals_generation ON removals (generation);
"""


class IndexFault(RuntimeError):
    """The file is no index, or another one than the caller takes it for."""


@dataclass(frozen=True)
class Changes:
    """What a write did.

    Attributes
    ----------
    added, replaced, removed, unchanged : int
        Versions of articles.
    chunks : int
        Passages that were written.
    embedded : int
        Texts that were embedded; the others' vectors were there.
    never : int
        Versions written that are in force at no time: a higher one began before them.
    """

    added: int = 0
    replaced: int = 0
    removed: int = 0
    unchanged: int = 0
    chunks: int = 0
    embedded: int = 0
    never: int = 0


def nanoseconds(time: pd.Timestamp) -> int:
    return FOREVER if time is pd.NaT else time.as_unit("ns").value


def time_of(count: int) -> pd.Timestamp:
    return pd.NaT if count == FOREVER else pd.Timestamp(count)


def article_hash(article: Article) -> str:
    what = [*article.key, article.title, article.text, article.tags]
    what += [nanoseconds(article.valid_from), nanoseconds(article.valid_to)]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def crc(*values: object) -> int:
    """Return the checksum of a row's values."""
    flat = b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
    return zlib.crc32(flat)


def seal_of(meta: Mapping[str, str]) -> str:
    """Return the checksum of what an index says of itself."""
    return str(crc(*(f"{k}={v}" for k, v in sorted(meta.items()) if k != "seal")))


class Rows:
    """The part of an index that writes rows and compares them with their checksums."""

    _db: sqlite3.Connection
    embedder: Embedder | None
    chunker: Chunker
    analyser: str

    def _next(self) -> int:
        """Count the generation up and return it."""
        (old,) = self._db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        self._say(generation=int(old) + 1)
        return int(old) + 1

    def _say(self, **values: object) -> None:
        """Write what the index says of itself, with its checksum, in one statement."""
        said = {name: str(value) for name, value in values.items()}
        meta = dict(self._db.execute("SELECT key, value FROM meta")) | said
        rows = [*said.items(), ("seal", seal_of(meta))]
        places = ", ".join(["(?, ?)"] * len(rows))
        self._db.execute(
            f"INSERT OR REPLACE INTO meta VALUES {places}", [v for row in rows for v in row]
        )

    def _put(self, articles: Sequence[Article]) -> Changes:
        """Write versions of articles, inside a transaction."""
        there = {article.key: self._stored(article) for article in articles}
        changed = [
            a for a in articles if there[a.key] is None or there[a.key][1] != article_hash(a)
        ]
        unchanged = len(articles) - len(changed)
        if not changed:
            return Changes(unchanged=unchanged)
        generation = self._next()
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM articles").fetchone()
        replaced = [there[a.key][0] for a in changed if there[a.key] is not None]
        self._remove_rows(replaced, generation)
        chunks = [chunk for article in changed for chunk in self._insert(article, generation)]
        embedded = self._embed(chunks)
        self._sweep()
        for article_id, language in {(a.article_id, a.language) for a in changed}:
            self._set_ends(article_id, language, generation)
        (never,) = self._db.execute(
            "SELECT count(*) FROM articles WHERE changed = ? AND ends <= begins AND id > ?",
            (generation, last),
        ).fetchone()
        counts = len(changed) - len(replaced), len(replaced), 0, unchanged, len(chunks)
        return Changes(*counts, embedded, never)

    def _stored(self, article: Article) -> tuple[int, str] | None:
        return self._db.execute(
            "SELECT id, hash FROM articles WHERE article_id = ? AND language = ? AND version = ?",
            article.key,
        ).fetchone()

    def _insert(self, article: Article, generation: int) -> list[Chunk]:
        end = nanoseconds(article.valid_to)
        row = self._db.execute(
            "INSERT INTO articles (article_id, language, version, title, text, tags, begins, "
            "valid_to, ends, hash, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *article.key,
                article.title,
                article.text,
                article.tags,
                nanoseconds(article.valid_from),
                end,
                end,
                article_hash(article),
                generation,
            ),
        ).lastrowid
        chunks = self.chunker(article)
        self._db.executemany(
            "INSERT INTO chunks (article, heading, first, last, terms, hash, crc) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(row, *values, crc(*values)) for values in map(self._chunk_row, chunks)],
        )
        return chunks

    def _chunk_row(self, chunk: Chunk) -> tuple[str, int, int, str, str]:
        """Return heading, start, end, terms and hash of a passage."""
        terms = ANALYSERS[self.analyser](chunk.indexed, chunk.article.language)
        return chunk.heading, chunk.start, chunk.end, " ".join(terms), content_hash(chunk.indexed)

    def _embed(self, chunks: Sequence[Chunk]) -> int:
        """Embed the texts whose vectors are not there yet and return their number."""
        if self.embedder is None:
            return 0
        texts = {content_hash(chunk.indexed): chunk.indexed for chunk in chunks}
        known = "SELECT 1 FROM vectors WHERE hash = ?"
        new = [key for key in texts if self._db.execute(known, (key,)).fetchone() is None]
        if new:
            made = self.embedder.encode([texts[key] for key in new])
            made = check_vectors(made, len(new), self.embedder.dimensions)
            rows = [
                (key, v.tobytes(), crc(key, v.tobytes())) for key, v in zip(new, made, strict=True)
            ]
            self._db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", rows)
        return len(new)

    def _set_ends(self, article_id: str, language: str, generation: int) -> None:
        """Set the effective ends of an article's versions in one language."""
        rows = self._db.execute(
            "SELECT id, begins, valid_to, ends FROM articles "
            "WHERE article_id = ? AND language = ? ORDER BY version DESC",
            (article_id, language),
        ).fetchall()
        replaced = FOREVER  # from when a higher version stands in
        for row, begins, valid_to, ends in rows:
            if (now := min(valid_to, replaced)) != ends:
                self._db.execute(
                    "UPDATE articles SET ends = ?, changed = ? WHERE id = ?", (now, generation, row)
                )
            replaced = min(replaced, begins)

    def _drop(self, rows: Sequence[int]) -> Changes:
        """Remove versions, inside a transaction; what a removed one replaced is valid again."""
        if not rows:
            return Changes()
        generation = self._next()
        touched = {
            self._db.execute(
                "SELECT article_id, language FROM articles WHERE id = ?", (row,)
            ).fetchone()
            for row in rows
        }
        self._remove_rows(rows, generation)
        self._sweep()
        for article_id, language in touched:
            self._set_ends(article_id, language, generation)
        return Changes(removed=len(rows))

    def _remove_rows(self, rows: Sequence[int], generation: int) -> None:
        one = [(row,) for row in rows]
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS freed (hash TEXT PRIMARY KEY)")
        self._db.executemany(
            "INSERT OR IGNORE INTO freed SELECT hash FROM chunks WHERE article = ?", one
        )
        self._db.executemany("DELETE FROM chunks WHERE article = ?", one)
        self._db.executemany("DELETE FROM articles WHERE id = ?", one)
        self._db.executemany(
            "INSERT INTO removals VALUES (?, ?)", [(generation, row) for row in rows]
        )

    def _sweep(self) -> None:
        """Remove the vectors of removed passages that no other passage shares."""
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS freed (hash TEXT PRIMARY KEY)")
        self._db.execute(
            "DELETE FROM vectors WHERE hash IN (SELECT hash FROM freed) AND NOT EXISTS "
            "(SELECT 1 FROM chunks WHERE chunks.hash = vectors.hash)"
        )
        self._db.execute("DELETE FROM freed")

    def _stored_articles(self) -> Iterator[tuple[int, Article, int, str]]:
        """Yield row, article, effective end and hash of each version, the highest first."""
        rows = self._db.execute(
            "SELECT id, article_id, version, language, title, text, begins, valid_to, tags, ends, "
            "hash FROM articles ORDER BY article_id, language, version DESC"
        )
        for row, *what, end, stamp in rows:
            times = time_of(what[5]), time_of(what[6])
            yield row, Article(*what[:5], *times, what[7]), end, stamp

    def _damage(self) -> list[str]:
        """Return what is not as it was written: a line for each fault."""
        try:
            (sound,) = self._db.execute("PRAGMA integrity_check").fetchone()
            found = [] if sound == "ok" else [f"SQLite: {sound}"]
            ends: dict[tuple[str, str], int] = {}
            for _, article, end, stamp in self._stored_articles():
                if stamp != article_hash(article):
                    found.append(f"{article.key} was altered")
                group = article.article_id, article.language
                replaced = ends.get(group, FOREVER)
                if end != min(nanoseconds(article.valid_to), replaced):
                    found.append(f"{article.key} has a wrong effective end")
                ends[group] = min(replaced, nanoseconds(article.valid_from))
            for what, columns in _CHECKED.items():
                rows = self._db.execute(f"SELECT {columns}, crc FROM {what}")
                wrong = sum(kept != crc(*values) for *values, kept in rows)
                found += [f"{wrong} {what} do not fit their checksum"] if wrong else []
        except (sqlite3.DatabaseError, ValueError, OverflowError, TypeError) as error:
            return [f"it cannot be read ({error})"]
        return found

    def _article_faults(self, row: int, article: Article) -> list[str]:
        stored = self._db.execute(
            "SELECT heading, first, last, terms, hash FROM chunks WHERE article = ? ORDER BY id",
            (row,),
        ).fetchall()
        made = [self._chunk_row(chunk) for chunk in self.chunker(article)]
        return [] if stored == made else [f"{article.key} has other passages than its text"]

    def _mismatches(self, embedded: bool) -> list[str]:
        """Return where articles, passages and vectors do not belong together."""
        found = []
        for row, article, _, _ in self._stored_articles():
            found += self._article_faults(row, article)
        lone = "FROM chunks WHERE article NOT IN (SELECT id FROM articles)"
        idle = "FROM vectors WHERE hash NOT IN (SELECT hash FROM chunks)"
        for what, clause in (("passages without an article", lone), ("idle vectors", idle)):
            if n := self._db.execute(f"SELECT count(*) {clause}").fetchone()[0]:
                found.append(f"{n} {what}")
        if embedded:
            bare = "FROM chunks WHERE hash NOT IN (SELECT hash FROM vectors)"
            if n := self._db.execute(f"SELECT count(*) {bare}").fetchone()[0]:
                found.append(f"{n} passages without a vector")
        vectors = self._db.execute("SELECT vector FROM vectors").fetchall()
        lengths = [float(np.linalg.norm(np.frombuffer(v, np.float32))) for (v,) in vectors]
        if n := int((np.abs(np.array(lengths) - 1) > 0.01).sum()):
            found.append(f"{n} vectors are not of length 1")
        return found
