"""A learned reranker: LambdaRank of LightGBM on features of a question and a document.

Candidates come from retrievers; the reranker only puts them in another order, so it can never find
what none of them did.

References
----------
Burges (2010), *From RankNet to LambdaRank to LambdaMART: an overview*, Microsoft Research
MSR-TR-2010-82.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.retrieval.fusion import KEYS, rerank_by, side_by_side
from casebook.retrieval.text import char_ngrams, content_words

if TYPE_CHECKING:
    from lightgbm import LGBMRanker

#: What the texts say about a pair; scores and ranks of the retrievers come on top.
TEXT_FEATURES = (
    "overlap",
    "idf_overlap",
    "title_overlap",
    "identifiers",
    "ngrams",
    "language_match",
    "length",
    "query_length",
)


@dataclass(frozen=True)
class _Read:
    """A text as the features see it."""

    words: frozenset[str]
    title: frozenset[str]
    grams: frozenset[str]
    length: int
    language: str


class PairFeatures:
    """Features of questions with the documents of one collection.

    No feature may tell documents apart: an exact length does, and a reranker then remembers which
    documents were relevant in training instead of why. So the length is a coarse one.

    Parameters
    ----------
    documents : DataFrame
        ``doc_id``, ``title``, ``text`` and, where it is not English, ``language``.

    Raises
    ------
    ValueError
        If a document is repeated.
    """

    def __init__(self, documents: pd.DataFrame) -> None:
        if documents["doc_id"].duplicated().any():
            raise ValueError("The documents repeat a doc_id.")
        codes = documents["language"] if "language" in documents else ["en"] * len(documents)
        rows = zip(documents["doc_id"], documents["title"], documents["text"], codes, strict=True)
        self._documents = {doc: _read(text, title, code) for doc, title, text, code in rows}
        counts = Counter(word for doc in self._documents.values() for word in doc.words)
        n = len(self._documents)
        self._idf = {word: float(np.log(1 + n / count)) for word, count in counts.items()}
        self._rare = float(np.log(1 + n))

    def _weight(self, terms: Iterable[str]) -> float:
        return fsum(self._idf.get(word, self._rare) for word in terms)  # in whatever order

    def _pair(self, query: _Read, doc: _Read) -> tuple[float, ...]:
        shared, asked = query.words & doc.words, len(query.words) or 1
        named = {word for word in query.words if any(c.isdigit() for c in word)}
        grams = len(query.grams & doc.grams)
        return (
            len(shared) / asked,
            self._weight(shared) / (self._weight(query.words) or 1.0),
            len(query.words & doc.title) / asked,
            len(named & doc.words) - len(named - doc.words),
            grams / (len(query.grams) or 1),
            float(query.language == doc.language),
            doc.length.bit_length(),
            len(query.words),
        )

    def __call__(self, queries: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Return the features of every pair that a run found.

        Parameters
        ----------
        queries : DataFrame
            ``query_id``, ``text`` and, where it is not English, ``language``.
        runs : mapping of str to DataFrame
            By name, such as ``{"bm25": …, "dense": …}``.

        Returns
        -------
        DataFrame
            ``query_id``, ``doc_id``, score and rank of each run
            (:func:`~casebook.retrieval.fusion.side_by_side`) and
            :data:`TEXT_FEATURES`: shares of the question's content words (plain and weighted by
            idf) that the document and its title hold, identifiers held less those that are not,
            the share of the question's character 4-grams, whether the languages agree, the
            document's words in doublings (0, 1, 2–3, 4–7, …), the question's content words.

        Raises
        ------
        KeyError
            On a question or a document that is not known.
        """
        codes = queries["language"] if "language" in queries else ["en"] * len(queries)
        asked = {
            query: _read(text, "", code)
            for query, text, code in zip(queries["query_id"], queries["text"], codes, strict=True)
        }
        pairs = side_by_side(runs)
        for column, known in (("query_id", asked), ("doc_id", self._documents)):
            if unknown := set(pairs[column]) - known.keys():
                raise KeyError(f"{len(unknown)} {column}s of the runs have no text: {min(unknown)}")
        rows = [
            self._pair(asked[query], self._documents[doc])
            for query, doc in zip(pairs["query_id"], pairs["doc_id"], strict=True)
        ]
        text = pd.DataFrame(rows, columns=list(TEXT_FEATURES), index=pairs.index)
        return pd.concat([pairs, text], axis=1)


def _read(text: str, title: str, language: str) -> _Read:
    whole = f"{title}\n{text}"
    return _Read(
        frozenset(content_words(whole, language)),
        frozenset(content_words(title, language)),
        frozenset(char_ngrams(whole)),
        len(whole.split()),
        language,
    )


def with_labels(pairs: pd.DataFrame, judgements: pd.DataFrame) -> pd.DataFrame:
    """Add ``relevance`` to pairs (0 where nothing is judged); queries without judgement leave.

    Parameters
    ----------
    pairs : DataFrame
        See :class:`PairFeatures`.
    judgements : DataFrame

    Returns
    -------
    DataFrame
    """
    known = pairs[pairs["query_id"].isin(judgements["query_id"])]
    both = known.merge(judgements[[*KEYS, "relevance"]], on=KEYS, how="left")
    return both.fillna({"relevance": 0}).astype({"relevance": int})


class Reranker:
    """LambdaRank on pairs of a question and a document.

    Parameters
    ----------
    features : sequence of str
        Columns of the pairs to use.
    trees : int
        Of 15 leaves each, at a rate of 0.05.
    seed : int
    """

    def __init__(self, features: Sequence[str], trees: int = 150, seed: int = 0) -> None:
        self.features, self.trees, self.seed = list(features), trees, seed
        self._model: LGBMRanker | None = None

    def fit(self, pairs: pd.DataFrame) -> Reranker:
        """Learn from labelled pairs.

        Parameters
        ----------
        pairs : DataFrame
            See :func:`with_labels`; of training queries alone.

        Returns
        -------
        Reranker
            Itself.

        Raises
        ------
        ValueError
            If no pair is relevant.
        """
        from lightgbm import LGBMRanker

        useful = pairs.groupby("query_id")["relevance"].transform("max") > 0
        rows = pairs[useful].sort_values(KEYS)
        if rows.empty:
            raise ValueError("No candidate is relevant: there is nothing to learn an order from.")
        model = LGBMRanker(
            objective="lambdarank",
            n_estimators=self.trees,
            learning_rate=0.05,
            num_leaves=15,
            min_child_samples=40,
            subsample=0.8,
            subsample_freq=1,
            colsample_bytree=0.8,
            reg_lambda=1.0,
            random_state=self.seed,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )
        sizes = rows.groupby("query_id", sort=False).size().to_numpy()
        self._model = model.fit(rows[self.features], rows["relevance"], group=sizes)
        return self

    def rerank(self, pairs: pd.DataFrame, depth: int = 100) -> pd.DataFrame:
        """Put the candidates of each query in the learned order.

        Parameters
        ----------
        pairs : DataFrame
            See :class:`PairFeatures`.
        depth : int
            Ranks that are kept.

        Returns
        -------
        DataFrame
            A run.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`.
        """
        if self._model is None:
            raise RuntimeError("The reranker has learned nothing yet: call fit first.")
        scores = self._model.predict(pairs[self.features])
        return rerank_by(pairs[KEYS].assign(score=scores), depth=depth)

    def gains(self) -> pd.Series:
        """Return the share of the trees' total gain that each feature brought, largest first."""
        if self._model is None:
            raise RuntimeError("The reranker has learned nothing yet: call fit first.")
        gain = self._model.booster_.feature_importance("gain")
        share = pd.Series(gain / gain.sum(), self.features, name="gain")
        return share.sort_values(ascending=False).rename_axis("feature")


def unseen(judgements: pd.DataFrame, training: pd.DataFrame) -> list[str]:
    """Return the queries whose relevant documents were relevant to no training query.

    Where questions share their documents, a split by question leaks: what was learned about a
    document helps on the other side. These queries show what is left without it.

    Parameters
    ----------
    judgements, training : DataFrame
        Of the test and of the training queries.

    Returns
    -------
    list of str
    """
    known = judgements["doc_id"].isin(training["doc_id"])
    any_known = known.groupby(judgements["query_id"]).any()
    return list(any_known.index[~any_known])


def feature_columns(pairs: pd.DataFrame) -> list[str]:
    """Return the columns that a reranker may use: all but keys and label."""
    return [column for column in pairs if column not in {*KEYS, "relevance"}]
