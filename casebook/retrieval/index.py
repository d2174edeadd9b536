"""The index on disk: articles with versions and validity, passages, vectors, in one SQLite file.

**What is never returned.** A passage is returned for a question asked at time *t* only if its
version is valid at *t* and no higher version of the same article in the same language has begun by
*t*. For that, each version has an effective end, the earlier of its ``valid_to`` and the
``valid_from`` of every higher version; an update recomputes it for the articles that it touches.

**Old or new.** ``build``, ``update``, ``delete`` and ``purge`` are one transaction each. A process
that is killed anywhere in one leaves the index as it was before; readers in other processes, those
that may not write too, go on with the old state until the commit, and see the new one at their next
question. Writers wait for one another. :mod:`~casebook.retrieval.opened` has how.

**What an update costs.** Only articles that changed are cut and read again, and only passages
whose text is new are embedded: vectors are kept by the hash of their text. A reader takes over what
changed since its last question.

**What is read is what was written.** Each article, passage and vector has a checksum. Opening an
index reads all of them: a flipped bit is a fault with a name, never another answer. What was
removed is overwritten in the file.

Words are scored by BM25 over all stored passages, also those that are not valid or hidden by a
filter; ``purge`` removes what has ended."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from casebook.retrieval.chunks import ARTICLE, Article, Chunker, moment, read_articles
from casebook.retrieval.dense import Embedder, query_vector
from casebook.retrieval.fusion import RRF_K
from casebook.retrieval.opened import Opened
from casebook.retrieval.rows import FORMAT, SCHEMA, Changes, IndexFault, nanoseconds, time_of
from casebook.retrieval.text import ANALYSERS
from casebook.retrieval.view import Filter, Passage, View

How = Literal["hybrid", "lexical", "dense"]


class Index(Opened):
    """A searchable index of articles in a file; made by :meth:`build`, opened by :meth:`open`.

    Several threads may use it, and several processes that each open it. Close it, or use ``with``.
    """

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
            For a file that this process may not write. So is every file without the right to, and
            every one in such a folder.

        Returns
        -------
        Index

        Raises
        ------
        FileNotFoundError
            If there is no file.
        IndexFault
            If the file is no index, its build never came to an end, it was built with another
            embedder, something in it is not as it was written, or its last change is lost; if it
            may not be written and its last changes stand in a log beside it.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No index at {path}: make one by Index.build.")
        read_only = read_only or not all(os.access(p, os.W_OK) for p in (path, path.parent))
        index = cls(path, embedder, read_only)
        try:
            index._adopt(index._meta())
            index._refuse_damage(verify)
        except BaseException:
            index.close()
            raise
        return index

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def _rebuild(self, articles: Sequence[Article]) -> None:
        with self._lock:
            self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction("IMMEDIATE"):
            for statement in SCHEMA.split(";\n"):
                self._db.execute(statement)
            before = dict(self._db.execute("SELECT key, value FROM meta"))
            for table in ("chunks", "articles", "removals", "vectors"):
                self._db.execute(f"DELETE FROM {table}")
            self._say(
                format=FORMAT,
                epoch=int(before.get("epoch", 0)) + 1,
                generation=int(before.get("generation", 0)),
                made=before.get("made") or secrets.token_hex(8),
                chunker=self.chunker,
                analyser=self.analyser,
                embedder=self.embedder.name if self.embedder else "",
            )
            self._put(articles)

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
            A question about an earlier time finds less afterwards. ``NaT`` is refused: it would
            be the end of everything that is in force.

        Returns
        -------
        Changes
        """
        end = nanoseconds(moment(before))
        with self._transaction("IMMEDIATE"):
            rows = self._db.execute("SELECT id FROM articles WHERE ends <= ?", (end,)).fetchall()
            return self._drop([row for (row,) in rows])

    def _may_write(self) -> None:
        meta = self._meta()
        self._adopt(meta)
        if meta["embedder"] and self.embedder is None:
            raise IndexFault(
                f"{self.path} holds vectors of {meta['embedder']}: open it with that embedder to "
                "change it, or the new passages would have none."
            )

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
            If k or depth is below 1, the time is missing, or the filter does not give one truth
            value for each passage.
        IndexFault
            If vectors are asked for and the index was opened without an embedder.
        EmbedderDown
            If the embedder gives no vector for the question: words may still answer it.
        """
        how = how or ("hybrid" if self.embedder else "lexical")
        if k < 1 or depth < 1:
            raise ValueError(f"k is {k} and depth {depth}: both must be at least 1.")
        if how not in ("hybrid", "lexical", "dense"):
            raise ValueError(f"{how!r} is none of hybrid, lexical, dense.")
        if how != "lexical" and self.embedder is None:
            raise IndexFault("The index was opened without an embedder: search it by words.")
        now = pd.Timestamp.now("UTC") if at is None else at
        time, depth = nanoseconds(moment(now)), max(depth, k)
        vector = None if how == "lexical" else query_vector(self.embedder, query)
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

    def _current(self) -> View:
        """Return the state of this transaction, from the one before and what changed since."""
        rows = self._db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'generation')")
        state = {key: int(value) for key, value in rows}
        epoch, generation = state["epoch"], state["generation"]
        view, self._view = self._view, None  # back in place once it is whole
        if view is None or view.epoch != epoch or view.generation > generation or view.wasteful():
            self._adopt(self._meta())
            view = View(epoch, self.embedder.dimensions if self.embedder else 0)
            view.load_all(self._db)
        elif view.generation != generation:
            view.catch_up(self._db)
        view.generation = generation
        self._view = view
        return view

    def _passages(
        self, view: View, rankings: dict[str, tuple[np.ndarray, np.ndarray]], k: int
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
            scores = [
                (m.get(n) or {}).get(place) for m in (ranks, values) for n in ("lexical", "dense")
            ]
            times = time_of(row[9]), time_of(row[10])
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
            stamp = self._state()
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
            frame[column] = pd.to_datetime(frame[column].map(time_of))
        self._listed = stamp, frame
        return frame.copy()

    def stored(self, article_ids: Iterable[str]) -> pd.DataFrame:
        """Return articles as they were given, for :meth:`update` of another index.

        Parameters
        ----------
        article_ids : iterable of str
            With all their versions and languages.
        """
        wanted = set(article_ids)
        with self._transaction("DEFERRED"):
            rows = [a for _, a, _, _ in self._stored_articles() if a.article_id in wanted]
        names = [*ARTICLE, "tags"]
        return pd.DataFrame([[getattr(a, n) for n in names] for a in rows], columns=names)

    def state(self) -> tuple[str, ...]:
        """Return what changes with every write: of two equal states the content is the same."""
        with self._transaction("DEFERRED"):
            return self._state()

    def _state(self) -> tuple[str, ...]:
        meta = self._meta()
        return meta["made"], meta["epoch"], meta["generation"]

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
            return self._damage() + self._mismatches(bool(self._meta()["embedder"]))
