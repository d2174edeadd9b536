"""What the assistant finds: words and vectors under one mask, fused, newer texts a little ahead.

A document is fresh by the day on which its *text* last changed: one that is saved again as it was
gets a new version, and no new truth.

Numbers leak as well as texts. BM25 weighs a word by how many documents have it: counted over all,
a score tells whether a hidden document has a word; here, words are counted in the visible passages.
A walk along a graph passes hidden rows, so that which visible rows it finds depends on them. What
is multiplied depends on visible texts alone.

Time tells as well. What is kept for a state of rights (:mod:`.sights`) is brought up to date when a
text is stored, by whoever stores it, and not by the next question. A hidden change costs those who
ask no more than the wait for a lock; that somebody stores something can be seen, not where.

A text that is gone goes at once: passage, words, vectors, those of its lines, what it taught, what
was told of it (:attr:`Library.tells`). Empty rows stay until there are many; where a graph was
built, it has its vectors until then. Memory that the process has freed is not overwritten.

The ladder's rungs are functions of the same signals (:meth:`Library.signals`), so that all of them
are asked under the same rights, with the same candidates.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from weakref import WeakSet

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.records import Document
from casebook.cases.knowledge_assistant.sights import Seen, Sights, View, sees
from casebook.retrieval.chunks import Article, Chunk, Chunker
from casebook.retrieval.counted_vectors import CountedVectors
from casebook.retrieval.dense import Embedder, query_vectors
from casebook.retrieval.filtered import Filtered, Router, Visible
from casebook.retrieval.follow_up import Names
from casebook.retrieval.lexical import top
from casebook.retrieval.lines import Line, lines_of
from casebook.retrieval.taught import Lesson, Taught, lesson_of
from casebook.retrieval.visible_words import VisibleBM25, counted
from casebook.retrieval.weights import scaled
from casebook.serving.pulse import Lags
from casebook.serving.rights import NOWHERE, Sight
from casebook.serving.text_dates import TextDates

#: Ways to cut that are compared, by tokens (1.3 of them a word): size and overlap.
CHUNKERS = {
    "512/64": Chunker("words", 394, 49),
    "sections": Chunker("headings", 394, 49),
}
#: Until the page has measured where its own crossover lies, everything visible is multiplied.
EXACT = Router(rows=np.inf, way="pre")
#: Empty rows of passages that are left lying, at least; texts that a view remembers, at most.
SPARE, MOST = 64, 50_000
#: Stands in the row of a passage that is gone.
GONE = Chunk(Article("", 0, "en", "", "", pd.NaT, pd.NaT), "", 0, 0)
_BLANKS = re.compile(r"(?<![ \t])[ \t]{50,}")
#: Passages of each way to search, documents whose lines are scored, and documents that are read.
DEPTH, MOST_READ, READ = 50, 100, 8
DAY = np.timedelta64(86_400, "s")


@dataclass(frozen=True)
class Mix:
    """How signals become a rank; tuned on the validation facts.

    Attributes
    ----------
    dense : float
        Weight of the vectors, from 0 to 1; the words have the rest.
    fresh : float
        Weight of the freshness prior: a passage on topic counts ``1 + fresh * 2 ** (-age /
        half_life)`` times, so that what is new and off topic is not lifted.
    half_life : float
        Days.
    """

    dense: float = 0.5
    fresh: float = 0.0
    half_life: float = 180.0

    def prior(self, days: np.ndarray) -> np.ndarray:
        """Return what a text of an age in days counts more."""
        return self.fresh * 0.5 ** (np.maximum(days, 0) / self.half_life)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A document as it is read: rows of its passages; its lines, and rows of their vectors."""

    document: Document
    changed: np.datetime64
    chunks: range
    lines: tuple[Line, ...]
    rows: np.ndarray
    lesson: Lesson


@dataclass(frozen=True, eq=False)
class _Read:
    """A document that is cut and read, before it is stored."""

    document: Document
    chunks: list[Chunk]
    terms: list[list[str]]
    lines: tuple[Line, ...]
    masked: list[str]
    lesson: Lesson


class Library:
    """Documents, found by words and vectors among what the asking user may see.

    A mask over passages is made once for each state of a user's rights (:attr:`.Sight.fingerprint`)
    and kept up to date. Hits, counts and versions go through it.

    Parameters
    ----------
    access : Access
    embedder : Embedder
        One that keeps vectors (:class:`.KeptVectors`) is told of texts that are gone. Vectors that
        :meth:`warm` made stay there if the process ends before their text is stored.
    teams : iterable of str
        Names of teams, from the directory.
    chunker : Chunker
    router : Router
        When to multiply and when to walk.
    reads : bool
        Whether lines get vectors; a library that only ranks passages needs none.
    kept : int
        States of rights that are remembered.
    dates : TextDates, optional
        Since when texts are as they are; in memory by default, and forgotten at a restart.

    Attributes
    ----------
    tells : WeakSet
        Of objects with a method ``gone(document)``, called when a text is gone: deleted, or not as
        it was.
    lags, rights_lags : Lags
        When the texts and the rights of each source were last read to their end.
    """

    def __init__(
        self,
        access: Access,
        embedder: Embedder,
        teams: Iterable[str] = (),
        chunker: Chunker = CHUNKERS["512/64"],
        router: Router = EXACT,
        reads: bool = True,
        kept: int = 256,
        dates: TextDates | None = None,
    ) -> None:
        self.access, self.embedder, self.names = access, embedder, Names(teams)
        self.chunker, self.router, self.reads = chunker, router, reads
        self.dates = dates or TextDates()
        self.lags, self.rights_lags = (Lags(lambda: access.clock()) for _ in range(2))
        self.tells: WeakSet = WeakSet()
        self.index = Filtered(np.empty((0, embedder.dimensions), np.float32))
        self.words, self.leaves = VisibleBM25(), dict[str, Leaf]()
        self.chunks: list[Chunk] = []
        self._lock = threading.RLock()
        self._places: dict[str, int] = {}
        self._rows = np.zeros(0, np.int64)  # of each name, in the masks of access
        self._versions = np.zeros(0, np.int64)
        self._unknown: dict[str, int] = {}  # places of names whose row is not known yet
        self._owner = np.zeros(0, np.int64)  # place of each passage's name
        self._live = np.zeros(0, bool)
        self._lines = CountedVectors(embedder.dimensions)
        self._urgent: dict[str, int] = {}  # of documents that were critical: changes so far
        self._warm: dict[str, set[str]] = {}
        self._sights = Sights(kept)

    # Storing

    def take(
        self, documents: Iterable[Document], changed: Mapping[str, np.datetime64] = {}
    ) -> None:
        """Store versions in place of the last ones, after the rights have been told of them.

        Texts are cut, read and embedded first, while others go on asking.

        Parameters
        ----------
        documents : iterable of Document
        changed : mapping of str to datetime64[s], optional
            When a text last changed, where that is known; else it is the day of the version,
            unless the version before has the same text.
        """
        told = {document.id: document for document in documents}
        if not told:
            return
        read = [self._read(document) for document in told.values()]
        texts = [chunk.indexed for one in read for chunk in one.chunks]
        vectors = self.embedder.encode(texts)
        with self._lock:
            new = {text for one in read for text in one.masked if text not in self._lines}
        lines = self._embedded(new)
        with self._lock:
            lines |= self._embedded(  # of a line that another thread has dropped meanwhile
                {text for one in read for text in one.masked if text not in self._lines} - {*lines}
            )
            before = self.dates.of(told)
            since = {one.document.id: self._since(one.document, before, changed) for one in read}
            # Nothing fails from here on
            self.dates.keep({n: (told[n].digest, since[n]) for n in told})
            rows = [self._lines.add(one.masked, lines) for one in read]
            cut, first = self._drop([*told]), len(self.chunks)
            self._places_of(told)
            for one, held in zip(read, rows, strict=True):
                self._enter(one, since[one.document.id], held)
            owners = [self._places[chunk.article.article_id] for chunk in self.chunks[first:]]
            self._owner = np.append(self._owner, np.array(owners, np.int64))
            self._live = np.append(self._live, np.ones(len(owners), bool))
            self.index.add(vectors)
            self.words.add([terms for one in read for terms in one.terms])
            self._spread([*told], cut, first)
            self._compact()
            self._forget(told)
        self._tell(n for n in told if n in before and before[n][0] != told[n].digest)

    def drop(self, document: str) -> None:
        """Forget a document, with its vectors and what was told of it."""
        with self._lock:
            cut = self._drop([document])
            self._spread([document] if document in self._places else [], cut, len(self.chunks))
            self._compact()
            self.dates.forget(document)
            self._forget([document])
        self._tell([document])

    def warm(self, documents: Iterable[Document]) -> None:
        """Embed texts ahead of :meth:`take`, for an embedder that keeps vectors; store nothing."""
        given: dict[str, list[str]] = {}
        for document in documents:
            lines = lines_of(document.title, document.body) if self.reads else ()
            texts = [chunk.indexed for chunk in self._chunks(document)]
            given[document.id] = texts + [self.names.masked(line.text) for line in lines]
        with self._lock:
            for name, texts in given.items():
                self._warm.setdefault(name, set()).update(texts)
        self.embedder.encode([text for texts in given.values() for text in texts])

    def _read(self, document: Document) -> _Read:
        """Cut and read a document; no lock is held."""
        lines, chunks = tuple(lines_of(document.title, document.body)), self._chunks(document)
        masked = [self.names.masked(line.text) for line in lines] if self.reads else []
        titled = [(document.title, line.text) for line in lines]
        points = [line.text for line in lines if line.listed]
        lesson = lesson_of(titled, points, self.names)
        terms = [counted(chunk.indexed) for chunk in chunks]
        return _Read(document, chunks, terms, lines, masked, lesson)

    def _embedded(self, texts: Set[str]) -> dict[str, np.ndarray]:
        texts = sorted(texts)
        return dict(zip(texts, self.embedder.encode(texts), strict=True)) if texts else {}

    def _since(self, document: Document, before: Mapping, changed: Mapping) -> np.datetime64:
        """Return when a document's text last changed."""
        digest, since = before.get(document.id, ("", None))
        since = since if digest == document.digest else document.modified
        return changed.get(document.id, since)

    def _places_of(self, names: Iterable[str]) -> None:
        """Give names that are new their places."""
        new = [name for name in names if name not in self._places]
        told = {name: place for place, name in enumerate(new, len(self._places))}
        self._places |= told
        self._unknown |= told
        self._rows = np.append(self._rows, np.full(len(new), NOWHERE))
        self._versions = np.append(self._versions, np.zeros(len(new), np.int64))

    def _enter(self, read: _Read, since: np.datetime64, rows: np.ndarray) -> None:
        """Enter a document under its name."""
        document, name, first = read.document, read.document.id, len(self.chunks)
        self.chunks += read.chunks
        span = range(first, len(self.chunks))
        self.leaves[name] = Leaf(document, since, span, read.lines, rows, read.lesson)
        self._versions[self._places[name]] = document.version
        if document.critical:
            self._urgent[name] = self._urgent.get(name, 0) + 1

    def _drop(self, names: Sequence[str]) -> np.ndarray:
        """Empty the rows of documents, and return them."""
        cut, terms = list[int](), dict[int, list[str]]()
        for name in names:
            if not (old := self.leaves.pop(name, None)):
                continue
            for row in old.chunks:
                terms[row] = counted(self.chunks[row].indexed)
                self._warm.setdefault(name, set()).add(self.chunks[row].indexed)
                self.chunks[row] = GONE
            cut += old.chunks
            masked = [self.names.masked(line.text) for line in old.lines] if self.reads else []
            self._warm.setdefault(name, set()).update(self._lines.drop(masked))
            self._versions[self._places[name]] = 0
            if old.document.critical:
                self._urgent[name] = self._urgent.get(name, 0) + 1
        rows = np.array(cut, np.int64)
        self._live[rows] = False
        self.index.vectors[rows] = 0
        self.words.forget(terms)
        return rows

    def _forget(self, names: Iterable[str]) -> None:
        """Let the embedder forget what it was given for documents, but for what is in use."""
        given, still = set[str](), set[str]()
        for name in names:
            given |= self._warm.pop(name, set())
            if leaf := self.leaves.get(name):
                still |= {self.chunks[row].indexed for row in leaf.chunks}
        if forget := getattr(self.embedder, "forget", None):
            forget({text for text in given - still if text not in self._lines})

    def _tell(self, names: Iterable[str]) -> None:
        for name in names:
            for one in [*self.tells]:
                one.gone(name)

    def _spread(self, names: Sequence[str], cut: np.ndarray, first: int) -> None:
        """Bring what is kept for the states of rights up to date after a change of documents."""
        places = np.array([self._places[name] for name in names], np.int64)
        lessons = {n: self.leaves[n].lesson if n in self.leaves else None for n in names}
        order = np.zeros(len(self._places), np.int64)
        order[places] = np.arange(len(places))
        owners = order[self._owner[first:]]
        self._sights.change(self._rows[places], self._versions[places], lessons, cut, owners)

    def _compact(self) -> None:
        """Number the passages anew where many rows are empty."""
        live = np.flatnonzero(self._live)
        if len(self._live) - len(live) <= max(SPARE, len(live) // 4):
            return
        new = np.cumsum(self._live) - 1
        for name, leaf in self.leaves.items():
            span = leaf.chunks
            if len(span):
                first = int(new[span.start])
                self.leaves[name] = replace(leaf, chunks=range(first, first + len(span)))
        self.chunks = [self.chunks[row] for row in live.tolist()]
        self._owner, self._live = self._owner[live], np.ones(len(live), bool)
        vectors, self.index = self.index.vectors[live], Filtered(self.index.vectors[:0])
        self.index.vectors = vectors
        self.words.keep(live)
        self._sights.keep(live)

    def _chunks(self, document: Document) -> list[Chunk]:
        when, text = pd.Timestamp(document.modified), document.body.strip() or document.title
        told = document.id, document.version, "en", document.title
        body = document.body if document.body.strip() else text
        # Of a heading with thousands of blanks the chunker would take the square of their number.
        body = _BLANKS.sub(lambda found: "\u00a0" * len(found.group()), body)
        return self.chunker(Article(*told, body, when, pd.NaT))

    # Asking

    def steady(self) -> AbstractContextManager:
        """Return a lock under which no text changes; rights do, and are asked about again."""
        return self._lock

    def visible(self, user: str) -> Visible:
        """Return the passages that a user may see now."""
        return self._seen(user).visible

    def _seen(self, user: str) -> Seen:
        """Return what is kept for this state of a user's rights."""
        with self._lock:
            sight = self.access.sight(user)
            if self._unknown:
                places = np.array([*self._unknown.values()])
                self._rows[places] = self.access.rows(self._unknown)
                for name in [n for n, i in self._unknown.items() if self._rows[i] != NOWHERE]:
                    del self._unknown[name]
                sight = self.access.sight(user)  # again: at least as new as the rows
            key = sight.fingerprint
            if (seen := self._sights.get(user, key)) is None:
                seen = self._sights.put(user, key, self._made(user, sight))
            return seen

    def _made(self, user: str, sight: Sight) -> Seen:
        """Make what is kept for a state of rights, from the user's last one where they are near."""
        may = sees(sight, self._rows, self._versions)
        seen = Seen(sight, Visible.of(may[self._owner] & self._live))
        last = self._sights.last(user)
        if last and last.taught:
            names = self._named(seen)
            if 4 * len(names ^ {*last.taught}) < len(names):
                seen.taught = last.taught.copy()
                seen.taught.become({name: self.leaves[name].lesson for name in names})
        return seen

    def _named(self, seen: Seen) -> set[str]:
        """Return the names of the documents that have visible passages."""
        return {self.chunks[row].article.article_id for row in seen.visible.rows.tolist()}

    def count(self, user: str, asked: str) -> int:
        """Return how many of the documents that a user may see have all words of a text."""
        with self._lock:
            mask, sets = self.visible(user).mask, []
            for term in set(counted(asked)):
                rows = self.words.rows(term)[:, 0]
                sets.append({*self._owner[rows[mask[rows]]].tolist()})
            return len(set.intersection(*sets)) if sets else 0

    def versions(self, documents: Sequence[str]) -> list[int]:
        """Return the stored version of documents; 0 where there is none."""
        with self._lock:
            held = self.leaves
            return [held[n].document.version if n in held else 0 for n in documents]

    def read(self, user: str, document: str) -> Document | None:
        """Return a document, or None: whether it is hidden or does not exist is not to be told.

        Both take the same steps: of a hidden one nothing is looked up, not even its version, which
        could be timed.
        """
        with self._lock:
            if not self.access.sees(user, [document])[0]:
                return None
            may = bool(self.access.sees(user, [document], self.versions([document]))[0])
            leaf = self.leaves.get(document) if may else None
            return leaf.document if leaf else None

    def view(self, user: str) -> View:
        """Return the names and values that the texts which a user may see teach."""
        with self._lock:
            seen = self._seen(user)
            if seen.taught is None:
                seen.taught = Taught(self.names)
                seen.taught.become({n: self.leaves[n].lesson for n in self._named(seen)})
            if seen.view is None or len(seen.view.subjects) > MOST:
                codes = seen.taught.code_names()
                known = seen.taught.known() - {code.casefold() for code in codes}  # they are none
                seen.view = View(Names(self.names.teams, codes), known)
            return seen.view

    def urgent(self, user: str) -> str:
        """Return a name of the changes so far of the critical documents that a user may see."""
        with self._lock:
            names = sorted(self._urgent)  # of one that is gone, the rights alone are asked
            versions = [version or 2**62 for version in self.versions(names)]
            may = self.access.sees(user, names, versions)
            return str([(n, self._urgent[n]) for n, sees in zip(names, may, strict=True) if sees])

    def line_vectors(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of lines, by the rows that a leaf has of them."""
        return self._lines.vectors[rows]

    def signals(self, user: str, question: str, now: np.datetime64) -> pd.DataFrame:
        """Return the candidates of a question and what speaks for each.

        Parameters
        ----------
        user : str
        question : str
            That stands by itself.
        now : datetime64[s]

        Returns
        -------
        DataFrame
            A row a passage among the :data:`DEPTH` best of words, of vectors, and of vectors where
            the asked team is named: ``row``, ``document``, ``words``, ``dense`` (0 to 1), ``days``
            since the text changed.
        """
        with self._lock:
            visible, names = self.visible(user), self.view(user).names
            asked, mask = names.expanded(question), visible.mask
            naming = self.words.holding(map(counted, names.called(question)), mask)
            by_words = self.words.scores(counted(asked), mask)
            first = top(by_words, DEPTH, above=0.0).tolist()
            told = scaled({row: float(by_words[row]) for row in first})
            vector, near = query_vectors(self.embedder, [question])[0], dict[int, float]()
            for among in (visible, Visible.of(naming)) if naming.any() else (visible,):
                found = self.router.search(self.index, vector, among, DEPTH)
                near |= zip(found.rows.tolist(), found.scores.tolist(), strict=True)
            near = scaled(near)
            rows = sorted({*told, *near})
            names = [self.chunks[row].article.article_id for row in rows]
            days = [(now - self.leaves[name].changed) / DAY for name in names]
            told, near = ([one.get(row, 0.0) for row in rows] for one in (told, near))
            columns = {"row": rows, "document": names, "words": told, "dense": near, "days": days}
            return pd.DataFrame(columns).astype({"days": float})

    def ranked(self, signals: pd.DataFrame, mix: Mix) -> pd.DataFrame:
        """Return the best passage of each document by words and vectors, with its ``score``."""
        score = mix.dense * signals["dense"] + (1 - mix.dense) * signals["words"]
        order = np.lexsort((signals["row"], -score.to_numpy()))
        names, best = signals["document"].to_numpy()[order], {}
        for place, name in zip(order.tolist(), names, strict=True):
            best.setdefault(name, place)
        rows = [*best.values()][:MOST_READ]
        return signals.iloc[rows].assign(score=score.iloc[rows]).reset_index(drop=True)
