"""What a reader of an index holds in memory, and how it takes over what has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.retrieval.lexical import Postings, top
from casebook.retrieval.rows import FOREVER

#: Says of each passage whether it may be returned; see :meth:`Index.search`.
Filter = Callable[[pd.DataFrame], np.ndarray]
#: A filter that leaves fewer than this share of the passages: only theirs are multiplied.
SELECTIVE = 0.2
#: Passages that a reader takes over at a time.
_BATCH = 5_000


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


class View:
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
