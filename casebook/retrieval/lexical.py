"""Retrieval by words: BM25 through bm25s, and the keyword search of an FAQ page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from casebook.retrieval.text import Analyser, content_words, words

#: Saturation of repeated words and weight of the length, as in Lucene.
K1, B = 1.2, 0.75


def top(scores: np.ndarray, k: int, above: float = -np.inf) -> np.ndarray:
    """Return the positions of the k best scores, best first; equal scores in their order.

    Parameters
    ----------
    scores : ndarray, shape (n,)
    k : int
    above : float
        Only scores that are higher.

    Returns
    -------
    ndarray of int, shape (at most k,)
    """
    if k < len(scores):
        border = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= border)
    else:
        candidates = np.arange(len(scores))
    candidates = candidates[scores[candidates] > above]
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


class BM25:
    """BM25 in Lucene's form over a fixed collection, by bm25s.

    Parameters
    ----------
    texts : sequence of str
        At least one of which holds a term.
    languages : sequence of str, or str
        Two-letter code of each text, or of all.
    analyser : callable
        See :mod:`~casebook.retrieval.text`.
    k1, b : float

    Raises
    ------
    ValueError
        If no text holds a term.

    References
    ----------
    Robertson & Zaragoza (2009), *The probabilistic relevance framework: BM25 and beyond*.
    Lù (2024), *BM25S: orders of magnitude faster lexical search via eager sparse scoring*.
    """

    def __init__(
        self,
        texts: Sequence[str],
        languages: Sequence[str] | str = "en",
        analyser: Analyser = words,
        k1: float = K1,
        b: float = B,
    ) -> None:
        import bm25s

        codes = [languages] * len(texts) if isinstance(languages, str) else languages
        terms = [analyser(text, code) for text, code in zip(texts, codes, strict=True)]
        if not any(terms):
            raise ValueError(f"None of {len(texts)} texts holds a term: there is nothing to index.")
        self.analyser, self.n = analyser, len(texts)
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene")
        self._index.index(terms, show_progress=False)

    def scores(self, query: str, language: str = "en") -> np.ndarray:
        """Return the score of each text, shape (n,); 0 without a common term."""
        known = [term for term in self.analyser(query, language) if term in self._index.vocab_dict]
        return self._index.get_scores(known) if known else np.zeros(self.n, np.float32)

    def search(self, query: str, k: int, language: str = "en") -> tuple[np.ndarray, np.ndarray]:
        """Return positions and scores of the k best texts, best first.

        Parameters
        ----------
        query : str
        k : int
        language : str
            Of the query.

        Returns
        -------
        positions : ndarray of int
            At most k: a text without a common term is not found.
        scores : ndarray
        """
        scores = self.scores(query, language)
        best = top(scores, k, above=0.0)
        return best, scores[best]


class FaqSearch:
    """The baseline: the search box of an FAQ page, which counts common words.

    An entry's score is the number of the question's content words in its title, and half of the
    number in its text; rare words count like common ones, and long texts are not discounted.

    Parameters
    ----------
    titles, texts : sequence of str
    languages : sequence of str, or str
    """

    def __init__(
        self, titles: Sequence[str], texts: Sequence[str], languages: Sequence[str] | str = "en"
    ) -> None:
        codes = [languages] * len(texts) if isinstance(languages, str) else languages
        rows = list(zip(titles, texts, codes, strict=True))
        self._titles = [content_words(title, code) for title, _, code in rows]
        self._texts = [content_words(text, code) for _, text, code in rows]

    def scores(self, query: str, language: str = "en") -> np.ndarray:
        """Return the score of each entry, shape (n,)."""
        asked = content_words(query, language)
        pairs = zip(self._titles, self._texts, strict=True)
        return np.array([len(asked & a) + 0.5 * len(asked & b) for a, b in pairs], np.float32)

    def search(self, query: str, k: int, language: str = "en") -> tuple[np.ndarray, np.ndarray]:
        """Return positions and scores of the k best entries, as :meth:`BM25.search`."""
        scores = self.scores(query, language)
        best = top(scores, k, above=0.0)
        return best, scores[best]


def run(
    retriever: BM25 | FaqSearch, queries: pd.DataFrame, doc_ids: Sequence[str], k: int = 100
) -> pd.DataFrame:
    """Ask a retriever all queries.

    Parameters
    ----------
    retriever : BM25 or FaqSearch
    queries : DataFrame
        ``query_id``, ``text`` and, where it is not English, ``language``.
    doc_ids : sequence of str
        Names of the texts, in their order.
    k : int
        Kept for each query.

    Returns
    -------
    DataFrame
        A *run*: ``query_id``, ``doc_id``, ``rank`` (from 1), ``score``.
    """
    names = np.asarray(doc_ids, dtype=object)
    codes = queries["language"] if "language" in queries else ["en"] * len(queries)
    asked = zip(queries["query_id"], queries["text"], codes, strict=True)
    search = partial(retriever.search, k=k)
    return as_run(((q, *search(text, language=code)) for q, text, code in asked), names)


def as_run(found, names: np.ndarray) -> pd.DataFrame:
    """Lay out what was found as a run.

    Parameters
    ----------
    found : iterable of (query_id, positions, scores)
        Best first.
    names : ndarray of str
        Of the documents, by position.

    Returns
    -------
    DataFrame
        See :func:`run`.
    """
    parts = list(found)
    sizes = [len(positions) for _, positions, _ in parts]
    join = np.concatenate if parts else np.array
    return pd.DataFrame(
        {
            "query_id": np.repeat(np.array([q for q, _, _ in parts], object), sizes),
            "doc_id": names[join([p for _, p, _ in parts]).astype(int)],
            "rank": join([np.arange(1, n + 1) for n in sizes]).astype(int),
            "score": join([s for _, _, s in parts]).astype(float),
        }
    )


class Postings:
    """BM25 over passages that come and go: what it scores equals :class:`BM25` built anew.

    bm25s computes all scores when it indexes, so one new text changes every number. Here the
    counts are kept and the scores of the question's words are computed when they are asked for.
    New passages make a block of their own; blocks of like size are merged, so that adding n
    passages one after the other costs n log n.

    Passages are numbered by their place, from 0.
    """

    def __init__(self, k1: float = K1, b: float = B) -> None:
        self.k1, self.b = k1, b
        self._ids: dict[str, int] = {}
        self._held: list[int] = []  # passages that hold a term, by its id
        self._terms: dict[int, np.ndarray] = {}  # term ids of a passage
        self._lengths = np.zeros(0, np.float64)
        self._total = 0.0
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._terms)

    def add(self, first: int, texts: Sequence[Sequence[str]]) -> None:
        """Add passages.

        Parameters
        ----------
        first : int
            Place of the first one; the others follow it.
        texts : sequence of sequence of str
            Their terms.
        """
        if not len(texts):
            return
        ids, held = self._ids, self._held
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        flat = np.array([ids.setdefault(t, len(ids)) for text in texts for t in text], np.int64)
        held.extend([0] * (len(ids) - len(held)))
        # One number for each pair of a passage and a term: sorted, they lie passage by passage.
        pairs = np.repeat(np.arange(len(texts)), lengths) * len(ids) + flat
        pairs, counts = np.unique(pairs, return_counts=True)
        offsets, terms = np.divmod(pairs, max(len(ids), 1))
        terms = terms.astype(np.int32)
        borders = np.searchsorted(offsets, np.arange(1, len(texts)))
        self._terms |= dict(enumerate(np.split(terms, borders), start=first))
        block = (terms, (first + offsets).astype(np.int32), counts.astype(np.int32))
        for term, n in zip(*np.unique(terms, return_counts=True), strict=True):
            held[term] += int(n)
        if (grow := first + len(texts) - len(self._lengths)) > 0:
            self._lengths = np.concatenate([self._lengths, np.zeros(max(grow, first))])
        self._lengths[first : first + len(texts)] = lengths
        self._total += lengths.sum()
        self._blocks.append(_by_term(block))
        while len(self._blocks) > 1 and 2 * len(self._blocks[-1][0]) >= len(self._blocks[-2][0]):
            last, before = self._blocks.pop(), self._blocks.pop()
            pairs = zip(before, last, strict=True)
            self._blocks.append(_by_term(tuple(np.concatenate(pair) for pair in pairs)))

    def remove(self, places: Iterable[int]) -> None:
        """Take passages out of the counts; their places are not used again."""
        for place in places:
            for term in self._terms.pop(place):
                self._held[term] -= 1
            self._total -= self._lengths[place]

    def scores(self, terms: Sequence[str], n: int) -> np.ndarray:
        """Return the score of the places 0 to n - 1.

        Parameters
        ----------
        terms : sequence of str
            Of the question; a repeated term counts again.
        n : int

        Returns
        -------
        ndarray, shape (n,)
            A removed passage has a score too: leave it out.
        """
        scores, passages = np.zeros(n), len(self)
        if not passages:
            return scores
        mean = self._total / passages
        for term in terms:
            number = self._ids.get(term)
            if number is None or not self._held[number]:
                continue
            held = self._held[number]
            idf = np.log1p((passages - held + 0.5) / (held + 0.5))
            pair = np.array([number, number + 1], np.int32)  # of the keys' type: no copy of them
            for keys, places, counts in self._blocks:
                a, z = np.searchsorted(keys, pair)
                at, times = places[a:z], counts[a:z]
                norm = self.k1 * (1 - self.b + self.b * self._lengths[at] / mean)
                scores[at] += idf * times / (times + norm)
        return scores


def _by_term(block: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    order = np.argsort(block[0], kind="stable")
    return tuple(column[order] for column in block)
