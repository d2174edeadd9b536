"""Retrieval by words: BM25 through bm25s, and the keyword search of an FAQ page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from casebook.systems.retrieval.text import Analyser, content_words, words

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
        See :mod:`~casebook.systems.retrieval.text`.
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
