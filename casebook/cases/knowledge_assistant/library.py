"""What the assistant finds: words and vectors under one mask, fused, newer texts a little ahead.

A :class:`Library` is the search of :mod:`.search` with BM25 beside it, whose numbers come from the
visible passages alone. A document is fresh by the day on which its *text* last changed: one that
is saved again as it was gets a new version, and no new truth.

The ladder's rungs are functions of the same signals (:meth:`Library.signals`), so that all of them
are asked under the same rights, with the same candidates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.records import Document
from casebook.cases.knowledge_assistant.search import EXACT, Search
from casebook.retrieval.chunks import Article, Chunk, Chunker
from casebook.retrieval.dense import Embedder, query_vectors
from casebook.retrieval.filtered import Router
from casebook.retrieval.follow_up import Names, code_names
from casebook.retrieval.lexical import top
from casebook.retrieval.lines import Line, lines_of
from casebook.retrieval.text import words as terms_of
from casebook.retrieval.values import kind_of, listed, value_of
from casebook.retrieval.visible_words import VisibleBM25
from casebook.retrieval.weights import scaled

#: Ways to cut that are compared, by tokens (1.3 of them a word): size and overlap.
CHUNKERS = {
    "512/64": Chunker("words", 394, 49),
    "128/16": Chunker("words", 98, 12),
    "64/8": Chunker("words", 49, 6),
    "sections": Chunker("headings", 394, 49),
}
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
    """A document as it is read: its lines, and for each the row of its vector."""

    document: Document
    changed: np.datetime64
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


class Library(Search):
    """Documents, found by words and vectors.

    Parameters
    ----------
    access : Access
    embedder : Embedder
    teams : iterable of str
        Names of teams, from the directory.
    chunker : Chunker
    router : Router
    """

    def __init__(
        self,
        access: Access,
        embedder: Embedder,
        teams: Iterable[str],
        chunker: Chunker = CHUNKERS["512/64"],
        router: Router = EXACT,
    ) -> None:
        super().__init__(access, embedder.dimensions, router)
        self.embedder, self.chunker, self.names = embedder, chunker, Names(teams)
        self.words, self.leaves = VisibleBM25(), dict[str, Leaf]()
        self.chunks: list[Chunk] = []
        self._line_rows: dict[str, int] = {}
        self._line_vectors = np.zeros((0, embedder.dimensions), np.float32)
        self._views: OrderedDict[tuple[str, int], View] = OrderedDict()

    def take(
        self, documents: Iterable[Document], changed: Mapping[str, np.datetime64] = {}
    ) -> None:
        """Store versions in place of the last ones.

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
            vectors = self.embedder.encode(texts)
            ends = np.cumsum([len(chunks) for chunks in cut])
            leaves = [self._leaf(document, changed.get(document.id)) for document in documents]
            pieces = [[chunk.text for chunk in chunks] for chunks in cut]
            self.put(zip(documents, pieces, np.split(vectors, ends)[:-1], strict=True))
            self.words.add([terms_of(text, "en") for text in texts])
            self.chunks += [chunk for chunks in cut for chunk in chunks]
            self.leaves |= {leaf.document.id: leaf for leaf in leaves}

    def _chunks(self, document: Document) -> list[Chunk]:
        when, text = pd.Timestamp(document.modified), document.body.strip() or document.title
        told = document.id, document.version, "en", document.title
        return self.chunker(
            Article(*told, document.body if document.body.strip() else text, when, pd.NaT)
        )

    def _leaf(self, document: Document, changed: np.datetime64 | None) -> Leaf:
        """Cut a document into lines; only lines that are new get a vector."""
        before = self.leaves.get(document.id)
        if changed is None:
            same = before is not None and before.document.digest == document.digest
            changed = before.changed if same else document.modified
        lines = tuple(lines_of(document.title, document.body))
        masked = [self.names.masked(line.text) for line in lines]
        if new := [text for text in dict.fromkeys(masked) if text not in self._line_rows]:
            first = len(self._line_vectors)
            self._line_rows |= {text: first + n for n, text in enumerate(new)}
            self._line_vectors = np.concatenate([self._line_vectors, self.embedder.encode(new)])
        rows = np.array([self._line_rows[text] for text in masked], np.int64)
        return Leaf(document, changed, lines, rows)

    def drop(self, document: str) -> None:
        """Forget a document."""
        with self._lock:
            super().drop(document)
            self.leaves.pop(document, None)

    def steady(self) -> AbstractContextManager:
        """Return a lock under which no text changes; rights do, and are asked about again."""
        return self._lock

    def view(self, user: str) -> View:
        """Return the names and values that the texts which a user may see teach."""
        with self._lock:
            visible = self.visible(user)
            key = self.access.sight(user).fingerprint, self._state
            if key not in self._views:
                seen = {self._pieces[row][0] for row in visible.rows.tolist()}
                leaves = [self.leaves[name] for name in seen]
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
            found = self.router.search(self._index, vector, visible, DEPTH)
            told = scaled(dict(zip(first.tolist(), by_words[first].tolist(), strict=True)))
            near = scaled(dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True)))
            rows = sorted({*told, *near})
            names = [self._pieces[row][0] for row in rows]
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
