"""What the assistant finds: words and vectors under one mask, fused, newer texts a little ahead.

A document is fresh by the day on which its *text* last changed: one that is saved again as it was
gets a new version, and no new truth.

Numbers leak as well as texts. BM25 weighs a word by how many documents have it: counted over all,
a score tells whether a hidden document has a word; here, words are counted in the visible passages.
A walk along a graph passes hidden rows, so that which visible rows it finds depends on them. What
is multiplied depends on visible texts alone.

The ladder's rungs are functions of the same signals (:meth:`Library.signals`), so that all of them
are asked under the same rights, with the same candidates.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.records import Document
from casebook.retrieval.chunks import Article, Chunk, Chunker
from casebook.retrieval.dense import Embedder, query_vectors
from casebook.retrieval.filtered import Filtered, Router, Visible
from casebook.retrieval.follow_up import Names, code_names
from casebook.retrieval.lexical import top
from casebook.retrieval.lines import Line, lines_of
from casebook.retrieval.text import words as terms_of
from casebook.retrieval.values import kind_of, listed, value_of
from casebook.retrieval.visible_words import VisibleBM25
from casebook.retrieval.weights import scaled
from casebook.serving.rights import NOWHERE

#: Ways to cut that are compared, by tokens (1.3 of them a word): size and overlap.
CHUNKERS = {
    "512/64": Chunker("words", 394, 49),
    "sections": Chunker("headings", 394, 49),
}
#: Until the page has measured where its own crossover lies, everything visible is multiplied.
EXACT = Router(rows=np.inf, way="pre")
#: Passages that go on to the reader's ranking, and those that it reads.
DEPTH, READ = 50, 8
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


@dataclass(frozen=True, eq=False)
class View:
    """What a user's rights make of names: code names and listed values, from visible texts only."""

    names: Names
    known: frozenset[str]
    subjects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def kind(self, text: str) -> str:
        """Return the kind of the value that a text states, '' for none."""
        if text not in self.kinds:
            self.kinds[text] = kind_of(value_of(text, self.known))
        return self.kinds[text]

    def of(self, text: str) -> tuple[str, ...]:
        """Return the teams that a text names."""
        if text not in self.subjects:
            self.subjects[text] = self.names.subjects(text)
        return self.subjects[text]


class Library:
    """Documents, found by words and vectors among what the asking user may see.

    A mask over passages is made once for each state of a user's rights (:attr:`.Sight.fingerprint`)
    and of the texts, and used until one of them changes. Hits, counts and versions go through it.

    Parameters
    ----------
    access : Access
    embedder : Embedder
        One that keeps vectors (:class:`.KeptVectors`) is told of texts that are gone.
    teams : iterable of str
        Names of teams, from the directory.
    chunker : Chunker
    router : Router
        When to multiply and when to walk.
    reads : bool
        Whether lines get vectors; a library that only ranks passages needs none.
    kept : int
        Masks and views that are remembered.

    Attributes
    ----------
    urgent : int
        Changes of critical documents so far.
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
    ) -> None:
        self.access, self.embedder, self.names = access, embedder, Names(teams)
        self.chunker, self.router, self.reads, self._kept = chunker, router, reads, kept
        self.index = Filtered(np.empty((0, embedder.dimensions), np.float32))
        self.words, self.leaves = VisibleBM25(), dict[str, Leaf]()
        self.chunks: list[Chunk] = []
        self._lock, self._state, self.urgent = threading.RLock(), 0, 0
        self._places: dict[str, int] = {}
        self._rows = np.zeros(0, np.int64)  # of each name, in the masks of access
        self._versions = np.zeros(0, np.int64)
        self._owner = np.zeros(0, np.int64)  # place of each passage's name
        self._live = np.zeros(0, bool)
        self._line_rows: dict[str, int] = {}
        self._line_vectors = np.zeros((0, embedder.dimensions), np.float32)
        self._masks: OrderedDict[tuple[str, int], Visible] = OrderedDict()
        self._views: OrderedDict[tuple[str, int], View] = OrderedDict()

    def take(
        self, documents: Iterable[Document], changed: Mapping[str, np.datetime64] = {}
    ) -> None:
        """Store versions in place of the last ones, after the rights have been told of them.

        Parameters
        ----------
        documents : iterable of Document
        changed : mapping of str to datetime64[s], optional
            When a text last changed, where that is known; else it is the day of the version,
            unless the version before has the same text.
        """
        documents = [*documents]
        with self._lock:
            cut = [self._chunks(document) for document in documents]
            texts = [chunk.indexed for chunks in cut for chunk in chunks]
            vectors, ends = self.embedder.encode(texts), len(self.chunks)
            ends = [ends, *(ends + np.cumsum([len(chunks) for chunks in cut])).tolist()]
            leaves = [
                self._leaf(document, changed.get(document.id), range(first, end))
                for document, (first, end) in zip(documents, pairwise(ends), strict=True)
            ]
            for leaf, chunks in zip(leaves, cut, strict=True):  # nothing fails from here on
                self.drop(leaf.document.id, {chunk.indexed for chunk in chunks})
                self._place(leaf)
                self.chunks += chunks
            self.index.add(vectors)
            self.words.add([terms_of(text, "en") for text in texts])

    def warm(self, documents: Iterable[Document]) -> None:
        """Embed texts ahead of :meth:`take`, for an embedder that keeps vectors; store nothing."""
        texts = []
        for document in documents:
            lines = lines_of(document.title, document.body) if self.reads else ()
            texts += [chunk.indexed for chunk in self._chunks(document)]
            texts += [self.names.masked(line.text) for line in lines]
        self.embedder.encode(texts)

    def _place(self, leaf: Leaf) -> None:
        """Enter a leaf under its name."""
        document, name = leaf.document, leaf.document.id
        if name not in self._places:
            self._places[name] = len(self._places)
            self._rows = np.append(self._rows, NOWHERE)
            self._versions = np.append(self._versions, 0)
        self.leaves[name], place = leaf, self._places[name]
        self._versions[place] = document.version
        self._owner = np.append(self._owner, np.full(len(leaf.chunks), place))
        self._live = np.append(self._live, np.ones(len(leaf.chunks), bool))
        self.urgent += document.critical
        self._state += 1

    def _chunks(self, document: Document) -> list[Chunk]:
        when, text = pd.Timestamp(document.modified), document.body.strip() or document.title
        told = document.id, document.version, "en", document.title
        return self.chunker(
            Article(*told, document.body if document.body.strip() else text, when, pd.NaT)
        )

    def _leaf(self, document: Document, changed: np.datetime64 | None, chunks: range) -> Leaf:
        """Cut a document into lines; only lines that are new get a vector."""
        before = self.leaves.get(document.id)
        if changed is None:
            same = before is not None and before.document.digest == document.digest
            changed = before.changed if same else document.modified
        lines = tuple(lines_of(document.title, document.body))
        masked = [self.names.masked(line.text) for line in lines] if self.reads else []
        if new := [text for text in dict.fromkeys(masked) if text not in self._line_rows]:
            first = len(self._line_vectors)
            self._line_rows |= {text: first + n for n, text in enumerate(new)}
            self._line_vectors = np.concatenate([self._line_vectors, self.embedder.encode(new)])
        rows = np.array([self._line_rows[text] for text in masked], np.int64)
        return Leaf(document, changed, chunks, lines, rows)

    def drop(self, document: str, still: Set[str] = frozenset()) -> None:
        """Forget a document; vectors of its passages too, but for texts that ``still`` stand."""
        with self._lock:
            if old := self.leaves.pop(document, None):
                self.urgent += old.document.critical
                self._live[old.chunks.start : old.chunks.stop] = False
                self._versions[self._places[document]] = 0
                self._state += 1
                if forget := getattr(self.embedder, "forget", None):
                    forget({self.chunks[row].indexed for row in old.chunks} - still)

    def steady(self) -> AbstractContextManager:
        """Return a lock under which no text changes; rights do, and are asked about again."""
        return self._lock

    def visible(self, user: str) -> Visible:
        """Return the passages that a user may see now."""
        return self._seen(user)[1]

    def _seen(self, user: str) -> tuple[tuple[str, int], Visible]:
        """Return the visible passages, and a key of this state of rights and texts."""
        with self._lock:
            key = self.access.sight(user).fingerprint, self._state
            if key not in self._masks:
                names = [*self._places]
                new = np.flatnonzero(self._rows == NOWHERE)
                self._rows[new] = self.access.rows(names[i] for i in new)
                sight = self.access.sight(user)  # again: at least as new as the rows
                key = sight.fingerprint, self._state
                seen = sight.sees(self._rows, self._versions)
                self._masks[key] = Visible.of(seen[self._owner] & self._live)
                if len(self._masks) > self._kept:
                    self._masks.popitem(last=False)
            return key, self._masks[key]

    def count(self, user: str, asked: str) -> int:
        """Return how many of the documents that a user may see have all words of a text."""
        with self._lock:
            mask, sets = self.visible(user).mask, []
            for term in set(terms_of(asked, "en")):
                rows = self.words.rows(term)[:, 0]
                sets.append({*self._owner[rows[mask[rows]]].tolist()})
            return len(set.intersection(*sets)) if sets else 0

    def versions(self, documents: Sequence[str]) -> list[int]:
        """Return the stored version of documents; 0 where there is none."""
        with self._lock:
            told = (self.leaves.get(name) for name in documents)
            return [one.document.version if one else 0 for one in told]

    def read(self, user: str, document: str) -> Document | None:
        """Return a document, or None: whether it is hidden or does not exist is not to be told.

        Both take the same steps, a hidden one is not looked up.
        """
        with self._lock:
            may = bool(self.access.sees(user, [document], self.versions([document]))[0])
            leaf = self.leaves.get(document) if may else None
            return leaf.document if leaf else None

    def view(self, user: str) -> View:
        """Return the names and values that the texts which a user may see teach."""
        with self._lock:
            key, visible = self._seen(user)
            if key not in self._views:
                seen = {self.chunks[row].article.article_id for row in visible.rows.tolist()}
                leaves = [self.leaves[name] for name in sorted(seen)]
                known = listed(line.text for leaf in leaves for line in leaf.lines if line.listed)
                known = frozenset(one for one in known if not self.names.subjects(one))
                parts = {part for one in known for part in one.split()}
                titled = (
                    (leaf.document.title, line.text) for leaf in leaves for line in leaf.lines
                )
                names = Names(self.names.teams, code_names(titled, self.names, no=parts))
                self._views[key] = View(names, known)
                if len(self._views) > self._kept:
                    self._views.popitem(last=False)
            return self._views[key]

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
            A row a passage among the :data:`DEPTH` best of words or vectors: ``row``, ``document``,
            ``words`` and ``dense`` (both from 0 to 1), ``days`` since the text changed.
        """
        with self._lock:
            visible, asked = self.visible(user), self.view(user).names.expanded(question)
            by_words = self.words.scores(terms_of(asked, "en"), visible.mask)
            first = top(by_words, DEPTH, above=0.0)
            vector = query_vectors(self.embedder, [question])[0]
            found = self.router.search(self.index, vector, visible, DEPTH)
            told = scaled(dict(zip(first.tolist(), by_words[first].tolist(), strict=True)))
            near = scaled(dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True)))
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
        rows = [*best.values()][:DEPTH]
        return signals.iloc[rows].assign(score=score.iloc[rows]).reset_index(drop=True)
