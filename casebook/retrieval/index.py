"""The index on disk: articles with versions and validity, passages, vectors, in one SQLite file.

**What is never returned.** A passage is returned for a question asked at time *t* only if its
version is valid at *t* and no higher version of the same article in the same language has begun by
*t*. For that, each version has an effective end, the earlier of its ``valid_to`` and the
``valid_from`` of every higher version; an update recomputes it for the articles that it touches.

**Old or new.** ``build``, ``update``, ``delete`` and ``purge`` are one transaction each. A process
that is killed anywhere in one leaves the index as it was before (SQLite's write-ahead log); readers
in other processes go on with the old state until the commit, and see the new one at their next
question. Writers wait for one another.

**What an update costs.** Only articles that changed are cut and read again, and only passages
whose text is new are embedded: vectors are kept by the hash of their text. A reader takes over what
changed since its last question.

**What is read is what was written.** Each article, passage and vector has a checksum. Opening an
index reads all of them: a flipped bit is a fault with a name, never another answer. What was
removed is overwritten in the file.

Words are scored by BM25 over all stored passages, those included that are not valid now or that a
filter hides; ``purge`` removes what has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from casebook.retrieval.chunks import Article, Chunk, Chunker, as_utc, read_articles
from casebook.retrieval.dense import Embedder, check_vectors, content_hash
from casebook.retrieval.fusion import RRF_K
from casebook.retrieval.lexical import Postings, top
from casebook.retrieval.text import ANALYSERS

How = Literal["hybrid", "lexical", "dense"]
#: Says of each passage whether it may be returned; see :meth:`Index.search`.
Filter = Callable[[pd.DataFrame], np.ndarray]

#: "No end" among the times, which are stored as nanoseconds since 1970.
FOREVER = np.iinfo(np.int64).max
#: Seconds that a writer waits for another one.
WAIT = 60.0
#: A filter that leaves fewer than this share of the passages: only theirs are multiplied.
SELECTIVE = 0.2
_FORMAT = 2
#: Passages that a reader takes over at a time.
_BATCH = 5_000

_SCHEMA = """
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
class Passage:
    """A passage that was found.

    Attributes
    ----------
    article_id, language, version, title, heading, text, tags
        See :class:`~casebook.retrieval.chunks.Chunk`.
    start, end : int
        Characters of the article's text: where a citation points.
    valid_from, valid_to : Timestamp
        As the article states them; ``NaT`` for no end.
    score : float
        By which the passages are ordered.
    lexical_rank, dense_rank : int or None
        Among what may be returned; None where it is not among the first.
    lexical_score, dense_score : float or None
        BM25, cosine.
    """

    article_id: str
    language: str
    version: int
    title: str
    heading: str
    text: str
    tags: str
    start: int
    end: int
    valid_from: pd.Timestamp
    valid_to: pd.Timestamp
    score: float
    lexical_rank: int | None
    dense_rank: int | None
    lexical_score: float | None
    dense_score: float | None

    @property
    def citation(self) -> str:
        """Where it stands: article, language, version and characters."""
        return f"{self.article_id}/{self.language}/v{self.version}#{self.start}-{self.end}"


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
    """

    added: int = 0
    replaced: int = 0
    removed: int = 0
    unchanged: int = 0
    chunks: int = 0
    embedded: int = 0


def _nanoseconds(time: pd.Timestamp) -> int:
    return FOREVER if time is pd.NaT else time.as_unit("ns").value


def _time(nanoseconds: int) -> pd.Timestamp:
    return pd.NaT if nanoseconds == FOREVER else pd.Timestamp(nanoseconds)


def _article_hash(article: Article) -> str:
    what = [*article.key, article.title, article.text, article.tags]
    what += [_nanoseconds(article.valid_from), _nanoseconds(article.valid_to)]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _crc(*values: object) -> int:
    """Return the checksum of a row's values."""
    flat = b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
    return zlib.crc32(flat)


class Index:
    """A searchable index of articles in a file; made by :meth:`build`, opened by :meth:`open`.

    It may be used from several threads, and from several processes that each open it. Close it,
    or use it in a ``with`` statement.
    """

    def __init__(self, path: Path, embedder: Embedder | None, read_only: bool = False) -> None:
        self.path, self.embedder, self.read_only = Path(path), embedder, read_only
        self._lock = threading.RLock()
        where = self.path.absolute().as_uri() + ("?mode=ro&immutable=1" if read_only else "")
        self._db = sqlite3.connect(
            where, timeout=WAIT, isolation_level=None, check_same_thread=False, uri=True
        )
        self._db.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
        self._view: _View | None = None
        #: What :meth:`articles` found last, and the state of the file at that time.
        self._listed: tuple[list | None, pd.DataFrame] = (None, pd.DataFrame())
        self.chunker, self.analyser = Chunker(), "words"

    # Opening and closing

    @classmethod
    def build(
        cls,
        path: Path,
        articles: pd.DataFrame,
        embedder: Embedder | None = None,
        chunker: Chunker | None = None,
        analyser: str = "words",
    ) -> Index:
        """Make an index, or make the one at ``path`` anew.

        Parameters
        ----------
        path : Path
            Of the file. If it holds an index, readers of that one see the new one after the
            commit, and the old one if the build is cut off.
        articles : DataFrame
            See :func:`~casebook.retrieval.chunks.read_articles`.
        embedder : Embedder, optional
            Without one the index is searched by words alone.
        chunker : Chunker, optional
            Sections under headings, of 200 words at most, by default.
        analyser : str
            Name in :data:`~casebook.retrieval.text.ANALYSERS`.

        Returns
        -------
        Index

        Raises
        ------
        ValueError
            On faulty articles or an unknown analyser.
        IndexFault
            If the file is there and is no index.
        """
        if analyser not in ANALYSERS:
            raise ValueError(f"No analyser {analyser!r}; there: {', '.join(ANALYSERS)}.")
        read = read_articles(articles)
        index = cls(path, embedder)
        index.chunker, index.analyser = chunker or Chunker(), analyser
        try:
            index._rebuild(read)
        except BaseException as error:
            index.close()
            if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
                raise IndexFault(f"{path} is there and is no index.") from error
            raise
        return index

    @classmethod
    def open(
        cls,
        path: Path,
        embedder: Embedder | None = None,
        verify: bool = True,
        read_only: bool = False,
    ) -> Index:
        """Open an index, once all that it holds was read and found as it was written.

        Parameters
        ----------
        path : Path
        embedder : Embedder, optional
            The one that it was built with. Without it the index is searched by words alone.
        verify : bool
            Whether all checksums are compared; the time grows with the size of the file.
        read_only : bool
            For a file that this process may not write. So is every file without the right to.

        Returns
        -------
        Index

        Raises
        ------
        FileNotFoundError
            If there is no file.
        IndexFault
            If the file is no index, its build never came to an end, it was built with another
            embedder, or something in it is not as it was written; if it may not be written and its
            last changes stand in a log beside it.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No index at {path}: make one by Index.build.")
        read_only = read_only or not os.access(path, os.W_OK)
        log = path.with_name(path.name + "-wal")
        if read_only and log.is_file() and log.stat().st_size:
            raise IndexFault(
                f"{path} may not be written, and its last changes stand in {log.name}: open and "
                "close it once where it may be."
            )
        index = cls(path, embedder, read_only)
        try:
            index._adopt(index._meta())
            if verify and (found := index._damage()):
                raise IndexFault(
                    f"{path} is damaged: {'; '.join(found[:3])}. Build it anew from the articles."
                )
        except BaseException:
            index.close()
            raise
        return index

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _meta(self) -> dict[str, str]:
        try:
            meta = dict(self._db.execute("SELECT key, value FROM meta"))
        except (sqlite3.DatabaseError, UnicodeError) as error:
            raise IndexFault(
                f"{self.path} holds no index ({error}): make one by Index.build."
            ) from error
        if meta.get("format") != str(_FORMAT):
            raise IndexFault(f"{self.path} has format {meta.get('format')}, not {_FORMAT}.")
        return meta

    def _adopt(self, meta: dict[str, str]) -> None:
        """Take over how the index was built."""
        try:
            kind, size, overlap = meta["chunker"].split("/")
            self.chunker, self.analyser = Chunker(kind, int(size), int(overlap)), meta["analyser"]
            int(meta["epoch"]), int(meta["generation"])
            known = self.analyser in ANALYSERS and "embedder" in meta
        except (KeyError, ValueError):
            known = False
        if not known:
            raise IndexFault(f"{self.path} does not say how it was built: build it anew.")
        if self.embedder is not None and meta["embedder"] != self.embedder.name:
            raise IndexFault(
                f"{self.path} holds vectors of {meta['embedder'] or 'no embedder'}, not of "
                f"{self.embedder.name}: open it with that one, or build it anew."
            )

    # Writing

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        with self._lock:
            if kind == "IMMEDIATE":  # on disk before it counts as committed
                self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"BEGIN {kind}")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if getattr(error, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
                    raise IndexFault(f"{self.path} is damaged ({error}): build it anew.") from error
                raise

    def _rebuild(self, articles: Sequence[Article]) -> None:
        with self._lock:
            self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction("IMMEDIATE"):
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            before = dict(self._db.execute("SELECT key, value FROM meta"))
            for table in ("chunks", "articles", "removals", "vectors"):
                self._db.execute(f"DELETE FROM {table}")
            meta = {
                "format": _FORMAT,
                "epoch": int(before.get("epoch", 0)) + 1,
                "generation": int(before.get("generation", 0)),
                "chunker": self.chunker,
                "analyser": self.analyser,
                "embedder": self.embedder.name if self.embedder else "",
            }
            self._db.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(k, str(v)) for k, v in meta.items()]
            )
            self._put(articles)
        # The log of a large build is folded into the file; a reader may make it wait for a time.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def update(self, articles: pd.DataFrame) -> Changes:
        """Add versions of articles, or replace those that are there under the same number.

        Parameters
        ----------
        articles : DataFrame
            See :func:`~casebook.retrieval.chunks.read_articles`. A version that stands in
            the index as given costs nothing; versions that are not given stay.

        Returns
        -------
        Changes

        Raises
        ------
        ValueError
            On faulty articles; the index is as before.
        IndexFault
            If the index has vectors and was opened without the embedder.
        """
        read = read_articles(articles)
        with self._transaction("IMMEDIATE"):
            self._may_write()
            return self._put(read)

    def delete(self, article_ids: Iterable[str]) -> Changes:
        """Remove articles with all their versions and languages.

        Parameters
        ----------
        article_ids : iterable of str
            Those that are not there are passed over.

        Returns
        -------
        Changes
        """
        ids = [article_ids] if isinstance(article_ids, str) else list(article_ids)
        with self._transaction("IMMEDIATE"):
            found = [
                row
                for article_id in ids
                for (row,) in self._db.execute(
                    "SELECT id FROM articles WHERE article_id = ?", (article_id,)
                )
            ]
            return self._drop(found)

    def purge(self, before: object) -> Changes:
        """Remove the versions whose effective end is at or before a time.

        Parameters
        ----------
        before : Timestamp
            A question about an earlier time finds less afterwards.

        Returns
        -------
        Changes
        """
        end = _nanoseconds(as_utc(before))
        with self._transaction("IMMEDIATE"):
            rows = self._db.execute("SELECT id FROM articles WHERE ends <= ?", (end,)).fetchall()
            return self._drop([row for (row,) in rows])

    def _may_write(self) -> None:
        meta = self._meta()
        if self.read_only:
            raise IndexFault(f"{self.path} was opened to be read only: it is not changed.")
        self._adopt(meta)
        if meta["embedder"] and self.embedder is None:
            raise IndexFault(
                f"{self.path} holds vectors of {meta['embedder']}: open it with that embedder to "
                "change it, or the new passages would have none."
            )

    def _next(self) -> int:
        """Count the generation up and return it."""
        (old,) = self._db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (str(int(old) + 1),))
        return int(old) + 1

    def _put(self, articles: Sequence[Article]) -> Changes:
        """Write versions of articles, inside a transaction."""
        there = {article.key: self._stored(article) for article in articles}
        changed = [
            a for a in articles if there[a.key] is None or there[a.key][1] != _article_hash(a)
        ]
        unchanged = len(articles) - len(changed)
        if not changed:
            return Changes(unchanged=unchanged)
        generation = self._next()
        replaced = [there[a.key][0] for a in changed if there[a.key] is not None]
        self._remove_rows(replaced, generation)
        chunks = [chunk for article in changed for chunk in self._insert(article, generation)]
        embedded = self._embed(chunks)
        self._sweep()
        for article_id, language in {(a.article_id, a.language) for a in changed}:
            self._set_ends(article_id, language, generation)
        return Changes(
            len(changed) - len(replaced), len(replaced), 0, unchanged, len(chunks), embedded
        )

    def _stored(self, article: Article) -> tuple[int, str] | None:
        return self._db.execute(
            "SELECT id, hash FROM articles WHERE article_id = ? AND language = ? AND version = ?",
            article.key,
        ).fetchone()

    def _insert(self, article: Article, generation: int) -> list[Chunk]:
        end = _nanoseconds(article.valid_to)
        row = self._db.execute(
            "INSERT INTO articles (article_id, language, version, title, text, tags, begins, "
            "valid_to, ends, hash, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *article.key,
                article.title,
                article.text,
                article.tags,
                _nanoseconds(article.valid_from),
                end,
                end,
                _article_hash(article),
                generation,
            ),
        ).lastrowid
        chunks = self.chunker(article)
        self._db.executemany(
            "INSERT INTO chunks (article, heading, first, last, terms, hash, crc) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(row, *values, _crc(*values)) for values in map(self._chunk_row, chunks)],
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
                (key, v.tobytes(), _crc(key, v.tobytes())) for key, v in zip(new, made, strict=True)
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

    # Reading

    def search(
        self,
        query: str,
        k: int = 8,
        at: object | None = None,
        where: Filter | None = None,
        how: How | None = None,
        language: str = "en",
        depth: int = 100,
    ) -> list[Passage]:
        """Return the passages that answer a question best, at a time.

        Parameters
        ----------
        query : str
        k : int
            At most.
        at : Timestamp, optional
            Time of the question, now by default; without a zone it is in UTC.
        where : callable, optional
            Called with a frame of all passages (``article_id``, ``language``, ``version``,
            ``title``, ``heading``, ``tags``, ``valid_from``, ``valid_to``); returns for each
            whether it may be returned. What it hides takes part in no ranking.
        how : {"hybrid", "lexical", "dense"}, optional
            Reciprocal rank fusion of words and vectors, or one of them. Hybrid by default, where
            there is an embedder.
        language : str
            Of the question, for its stems. Passages of every language are searched.
        depth : int
            Of each ranking, before they are fused.

        Returns
        -------
        list of Passage
            Best first; equal scores in the order of article, language, version and place. A
            ranking by words finds only passages with a common term.

        Raises
        ------
        ValueError
            If k or depth is below 1, or the filter does not give one truth value for each
            passage.
        IndexFault
            If vectors are asked for and the index was opened without an embedder.
        """
        how = how or ("hybrid" if self.embedder else "lexical")
        if k < 1 or depth < 1:
            raise ValueError(f"k is {k} and depth {depth}: both must be at least 1.")
        if how not in ("hybrid", "lexical", "dense"):
            raise ValueError(f"{how!r} is none of hybrid, lexical, dense.")
        if how != "lexical" and self.embedder is None:
            raise IndexFault("The index was opened without an embedder: search it by words.")
        now = pd.Timestamp.now("UTC") if at is None else at
        time, depth = _nanoseconds(as_utc(now)), max(depth, k)
        vector = None if how == "lexical" else self.embedder.encode([query])[0]
        terms = ANALYSERS[self.analyser](query, language)
        with self._transaction("DEFERRED"):
            view = self._current()
            allowed = view.allowed(time, where)
            rankings = {}
            if how != "dense":
                rankings["lexical"] = view.by_words(terms, allowed, depth)
            if vector is not None:
                rankings["dense"] = view.by_vector(vector, allowed, depth)
            return self._passages(view, rankings, k)

    def _current(self) -> _View:
        """Return the state of this transaction, from the one before and what changed since."""
        rows = self._db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'generation')")
        state = {key: int(value) for key, value in rows}
        epoch, generation = state["epoch"], state["generation"]
        view, self._view = self._view, None  # back in place once it is whole
        if view is None or view.epoch != epoch or view.wasteful():
            self._adopt(self._meta())
            view = _View(epoch, self.embedder.dimensions if self.embedder else 0)
            view.load_all(self._db)
        elif view.generation != generation:
            view.catch_up(self._db)
        view.generation = generation
        self._view = view
        return view

    def _passages(
        self, view: _View, rankings: dict[str, tuple[np.ndarray, np.ndarray]], k: int
    ) -> list[Passage]:
        """Fuse the rankings and read the best passages."""
        ranks = {n: {int(p): r for r, p in enumerate(ps, 1)} for n, (ps, _) in rankings.items()}
        values = {
            name: {int(p): float(s) for p, s in zip(places, scores, strict=True)}
            for name, (places, scores) in rankings.items()
        }
        fused: dict[int, float] = {}
        for name in rankings:
            for place, rank in ranks[name].items():
                score = values[name][place] if len(rankings) == 1 else 1 / (RRF_K + rank)
                fused[place] = fused.get(place, 0.0) + score
        best = sorted(fused, key=lambda place: (-fused[place], view.keys[place]))[:k]
        found = []
        for place in best:
            row = self._db.execute(
                "SELECT a.article_id, a.language, a.version, a.title, c.heading, "
                "substr(a.text, c.first + 1, c.last - c.first), a.tags, c.first, c.last, "
                "a.begins, a.valid_to FROM chunks c JOIN articles a ON a.id = c.article "
                "WHERE c.id = ?",
                (view.chunks[place],),
            ).fetchone()
            scores = [(m.get(n) or {}).get(place) for m in (ranks, values) for n in _NAMES]
            times = _time(row[9]), _time(row[10])
            found.append(Passage(*row[:9], *times, fused[place], *scores))
        return found

    def articles(self) -> pd.DataFrame:
        """Return what is stored: a row for each version, with its effective end.

        Returns
        -------
        DataFrame
            ``article_id``, ``language``, ``version``, ``title``, ``valid_from``, ``valid_to``,
            ``ends``, ``hash`` (of all that the version says), ``chunks``; in the order of their
            keys.
        """
        with self._transaction("DEFERRED"):
            stamp = self._db.execute(
                "SELECT value FROM meta WHERE key IN ('epoch', 'generation') ORDER BY key"
            ).fetchall()
            if self._listed[0] == stamp:
                return self._listed[1].copy()
            rows = self._db.execute(
                "SELECT article_id, language, version, title, begins, valid_to, ends, hash, "
                "(SELECT count(*) FROM chunks WHERE article = articles.id) FROM articles "
                "ORDER BY article_id, language, version"
            ).fetchall()
        names = ["article_id", "language", "version", "title", "valid_from", "valid_to", "ends"]
        frame = pd.DataFrame(rows, columns=[*names, "hash", "chunks"])
        for column in names[4:]:
            frame[column] = pd.to_datetime(frame[column].map(_time))
        self._listed = stamp, frame
        return frame.copy()

    def state(self) -> tuple[int, ...]:
        """Return what changes with every write: of two equal states the content is the same."""
        rows = self._db.execute(
            "SELECT value FROM meta WHERE key IN ('epoch', 'generation') ORDER BY key"
        )
        return tuple(int(value) for (value,) in rows)

    def size(self) -> dict[str, int]:
        """Return the numbers of ``articles`` (versions), ``chunks``, ``vectors`` and ``bytes``."""
        tables = ("articles", "chunks", "vectors")
        with self._transaction("DEFERRED"):
            counts = {
                t: self._db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables
            }
        files = [self.path.with_name(self.path.name + end) for end in ("", "-wal")]
        return counts | {"bytes": sum(f.stat().st_size for f in files if f.is_file())}

    def check(self) -> list[str]:
        """Return what is wrong in the file: a line for each fault, none in a sound index.

        All checksums must fit. Each version must have just the passages that its text is cut into,
        each passage its terms and its vector (of length 1), each effective end must follow from the
        versions, and no vector may be left over.
        """
        with self._transaction("DEFERRED"):
            self._adopt(self._meta())
            found = self._damage()
            for row, article, _, _ in self._stored_articles():
                found += self._article_faults(row, article)
            lone = "FROM chunks WHERE article NOT IN (SELECT id FROM articles)"
            idle = "FROM vectors WHERE hash NOT IN (SELECT hash FROM chunks)"
            for what, clause in (("passages without an article", lone), ("idle vectors", idle)):
                if n := self._db.execute(f"SELECT count(*) {clause}").fetchone()[0]:
                    found.append(f"{n} {what}")
            if self._meta()["embedder"]:
                bare = "FROM chunks WHERE hash NOT IN (SELECT hash FROM vectors)"
                if n := self._db.execute(f"SELECT count(*) {bare}").fetchone()[0]:
                    found.append(f"{n} passages without a vector")
            vectors = self._db.execute("SELECT vector FROM vectors").fetchall()
            lengths = [float(np.linalg.norm(np.frombuffer(v, np.float32))) for (v,) in vectors]
            if n := int((np.abs(np.array(lengths) - 1) > 0.01).sum()):
                found.append(f"{n} vectors are not of length 1")
        return found

    def _stored_articles(self) -> Iterator[tuple[int, Article, int, str]]:
        """Yield row, article, effective end and hash of each version, the highest first."""
        rows = self._db.execute(
            "SELECT id, article_id, version, language, title, text, begins, valid_to, tags, ends, "
            "hash FROM articles ORDER BY article_id, language, version DESC"
        )
        for row, *what, end, stamp in rows:
            times = _time(what[5]), _time(what[6])
            yield row, Article(*what[:5], *times, what[7]), end, stamp

    def _damage(self) -> list[str]:
        """Return what is not as it was written: a line for each fault."""
        try:
            (sound,) = self._db.execute("PRAGMA integrity_check").fetchone()
            found = [] if sound == "ok" else [f"SQLite: {sound}"]
            ends: dict[tuple[str, str], int] = {}
            for _, article, end, stamp in self._stored_articles():
                if stamp != _article_hash(article):
                    found.append(f"{article.key} was altered")
                group = article.article_id, article.language
                replaced = ends.get(group, FOREVER)
                if end != min(_nanoseconds(article.valid_to), replaced):
                    found.append(f"{article.key} has a wrong effective end")
                ends[group] = min(replaced, _nanoseconds(article.valid_from))
            for what, columns in _CHECKED.items():
                rows = self._db.execute(f"SELECT {columns}, crc FROM {what}")
                wrong = sum(crc != _crc(*values) for *values, crc in rows)
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


#: Columns of the tables whose rows have a checksum.
_CHECKED = {"chunks": "heading, first, last, terms, hash", "vectors": "hash, vector"}
_NAMES = ("lexical", "dense")


class _View:
    """What a reader holds in memory: the passages of one generation.

    A passage has a place; the places of removed ones are not used again until everything is
    loaded anew.
    """

    def __init__(self, epoch: int, dimensions: int) -> None:
        self.epoch, self.generation, self.n = epoch, 0, 0
        self.chunks: list[int] = []
        self.keys: list[tuple[str, str, int, int]] = []
        self._rows: list[tuple] = []
        self._where: pd.DataFrame | None = None
        self._places: dict[int, range] = {}
        self._begins = np.zeros(0, np.int64)
        self._ends = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, dimensions), np.float32)
        self._dead = 0
        self._postings = Postings()

    def wasteful(self) -> bool:
        """Say whether most places are those of removed passages."""
        return self._dead > max(1000, self.n - self._dead)

    def load_all(self, db: sqlite3.Connection) -> None:
        """Take over all passages."""
        self._room(db.execute("SELECT count(*) FROM chunks").fetchone()[0])
        self.load(db, "1")

    def load(self, db: sqlite3.Connection, condition: str, *values: object) -> None:
        """Take over the passages of the articles that meet a condition."""
        dimensions = self._vectors.shape[1]
        vector = "(SELECT vector FROM vectors v WHERE v.hash = c.hash)" if dimensions else "NULL"
        rows = db.execute(
            f"SELECT a.id, c.id, a.article_id, a.language, a.version, a.title, c.heading, a.tags, "
            f"a.begins, a.valid_to, a.ends, c.first, c.terms, {vector} FROM articles a "
            f"JOIN chunks c ON c.article = a.id WHERE {condition} ORDER BY a.id, c.id",
            values,
        )
        while batch := rows.fetchmany(_BATCH):
            self._take(batch)

    def _take(self, batch: Sequence[tuple]) -> None:
        """Give places to passages."""
        first, vectors, terms, begins, ends = self.n, [], [], [], []
        for row, chunk, *what, a, valid_to, end, start, text, vector in batch:
            name, code, version = what[:3]
            place = first + len(begins)
            self._places[row] = range(self._places.get(row, range(place, place)).start, place + 1)
            self.chunks.append(chunk)
            self.keys.append((name, code, version, start))
            self._rows.append((*what, a, valid_to))
            begins.append(a)
            ends.append(end)
            terms.append(text.split())
            vectors.append(vector)
        self.n += len(batch)
        self._room(self.n)
        self._begins[first : self.n], self._ends[first : self.n] = begins, ends
        if dimensions := self._vectors.shape[1]:
            flat = np.frombuffer(b"".join(vectors), np.float32)
            self._vectors[first : self.n] = flat.reshape(-1, dimensions)
        self._postings.add(first, terms)
        self._where = None

    def _room(self, n: int) -> None:
        """Make the arrays long enough for n places, and half as long again at least."""
        if n <= len(self._begins):
            return
        more = max(n, int(1.5 * len(self._begins))) - len(self._begins)
        empty = np.zeros(more, np.int64)
        self._begins, self._ends = (
            np.concatenate([old, empty]) for old in (self._begins, self._ends)
        )
        if self._vectors.shape[1]:
            block = np.zeros((more, self._vectors.shape[1]), np.float32)
            self._vectors = np.concatenate([self._vectors, block])

    def catch_up(self, db: sqlite3.Connection) -> None:
        """Take over what was removed, replaced and added since this generation."""
        seen = self.generation
        removed = db.execute("SELECT article FROM removals WHERE generation > ?", (seen,))
        for (row,) in removed.fetchall():
            places = self._places.pop(row, range(0))  # added and removed since: never seen
            self._ends[places.start : places.stop] = np.iinfo(np.int64).min
            self._postings.remove(places)
            self._dead += len(places)
        changed = db.execute("SELECT id, ends FROM articles WHERE changed > ?", (seen,)).fetchall()
        for row, end in changed:
            places = self._places.get(row, range(0))
            self._ends[places.start : places.stop] = end
        for row, _ in changed:
            if row not in self._places:
                self.load(db, "a.id = ?", row)

    def allowed(self, time: int, where: Filter | None) -> np.ndarray:
        """Return the places that may be returned at a time."""
        valid = (self._begins[: self.n] <= time) & (time < self._ends[: self.n])
        if where is not None:
            valid &= self._answer(where)
        return np.flatnonzero(valid)

    def _answer(self, where: Filter) -> np.ndarray:
        if self._where is None:
            names = ["article_id", "language", "version", "title", "heading", "tags"]
            frame = pd.DataFrame(self._rows, columns=[*names, "valid_from", "valid_to"])
            for column in ("valid_from", "valid_to"):
                times = frame[column].where(frame[column] != FOREVER, np.iinfo(np.int64).min)
                frame[column] = pd.to_datetime(times)  # the least integer is NaT
            self._where = frame
        answer = np.asarray(where(self._where.copy(deep=False)))
        if answer.shape != (self.n,) or answer.dtype != bool:
            raise ValueError(
                f"The filter gave {answer.dtype} of shape {answer.shape}; it must give one truth "
                f"value for each of {self.n} passages."
            )
        return answer

    def by_words(
        self, terms: Sequence[str], allowed: np.ndarray, depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return places and BM25 scores of the best, best first."""
        scores = self._postings.scores(terms, self.n)[allowed]
        return self._best(allowed, scores, depth, 0.0)

    def by_vector(
        self, vector: np.ndarray, allowed: np.ndarray, depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return places and cosines of the best, best first."""
        if len(allowed) < SELECTIVE * self.n:
            scores = self._vectors[allowed] @ vector
        else:
            scores = (self._vectors[: self.n] @ vector)[allowed]
        return self._best(allowed, scores.round(5), depth, -np.inf)

    def _best(
        self, allowed: np.ndarray, scores: np.ndarray, depth: int, above: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best in an order that does not depend on when they were added."""
        # Everything that equals the last score takes part before the keys decide.
        chosen = top(scores, depth, above)
        if len(chosen) == depth:
            chosen = np.flatnonzero(scores >= scores[chosen[-1]])
        order = sorted(chosen, key=lambda i: (-scores[i], self.keys[allowed[i]]))[:depth]
        return allowed[order], scores[order]
