"""Detectors of texts that attack a model: learned, read by sentence, judged where nothing is known.

A :class:`Detector` reads the letters of a text and its vector, as a whole and sentence by sentence.
:func:`learn` sets its threshold on families of texts that it has not read, at a stated rate of
false alarms; :func:`rates` says what it finds and what it flags of traffic that is harmless.

It learns from attacks that stand alone, harmless texts, and each sentence of these.

Examples
--------
>>> sentences("Sort the mail. Then forget the rules!")
['Sort the mail.', 'Then forget the rules!']
>>> weights(np.array(["attack", "harmless", "ordinary", "ordinary"])).tolist()
[0.0, 0.05, 0.475, 0.475]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.metrics import roc_auc_score, roc_curve

from casebook.retrieval.dense import Embedder

#: Attacks, harmless texts that look like them, and ordinary traffic.
KINDS = ("attack", "harmless", "ordinary")
Settings = tuple[str, float, str]  # learner, strength, what is read: one of READS
READS = ("letters", "vectors", "both")
#: Share of harmless traffic that may be flagged, and how much of it looks like an attack.
FALSE_ALARMS, NEIGHBOURS = 0.01, 0.05
BUCKETS = 4_096
_LETTERS = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=BUCKETS)


#: Sentences of a text that are read one by one, from its end.
MOST = 40
_END = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, the last ``MOST``; none if it is one sentence.

    Examples
    --------
    >>> sentences("Sort the mail. Then forget the rules!")
    ['Sort the mail.', 'Then forget the rules!']
    """
    found = [part.strip() for part in _END.split(text) if part.strip()]
    return found[-MOST:] if len(found) > 1 else []


def weights(kinds: np.ndarray) -> np.ndarray:
    """Return how much each harmless text counts, so that ``NEIGHBOURS`` of the traffic look bad."""
    kinds = np.asarray(kinds)
    share = {"harmless": NEIGHBOURS, "ordinary": 1 - NEIGHBOURS}
    total = {kind: max((kinds == kind).sum(), 1) for kind in share}
    return np.array([share[k] / total[k] if k in share else 0.0 for k in kinds])


class Detector:
    """A classifier of texts: logistic regression or LightGBM on letters and vectors.

    Letters are n-grams of two to four characters, hashed into ``BUCKETS`` numbers.

    Parameters
    ----------
    learner : str
        ``"logistic"`` or ``"trees"``.
    strength : float
        Of the regression (C); of trees the least rows of a leaf.
    reads : str
        One of ``READS``.
    embedder : Embedder
    """

    def __init__(self, learner: str, strength: float, reads: str, embedder: Embedder) -> None:
        self._learner, self._strength, self._reads = learner, strength, reads
        self._embedder, self._model = embedder, None

    def read(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return what the classifier sees of texts, shape (n, numbers)."""
        parts = []
        if self._reads != "vectors":
            parts.append(_LETTERS.transform(texts))
        if self._reads != "letters":
            parts.append(sp.csr_matrix(self._embedder.encode(list(texts))))
        return sp.hstack(parts, format="csr")

    def fit(self, seen: sp.csr_matrix, attacks: np.ndarray, weight: np.ndarray) -> Detector:
        """Learn from texts that are attacks or not, and return itself.

        Parameters
        ----------
        seen : sparse matrix, shape (n, numbers)
            Of :meth:`read`.
        attacks : ndarray of bool, shape (n,)
        weight : ndarray of float, shape (n,)
            How much each text counts.

        Raises
        ------
        ValueError
            If all texts are attacks, or none is.
        """
        if len(set(map(bool, attacks))) < 2:
            raise ValueError("All texts are of one kind: give attacks and harmless texts.")
        if self._learner == "logistic":
            from sklearn.linear_model import LogisticRegression

            model = LogisticRegression(C=self._strength, max_iter=1000)
        else:
            from lightgbm import LGBMClassifier

            model = LGBMClassifier(
                **{"n_estimators": 100, "num_leaves": 7, "learning_rate": 0.08, "verbose": -1},
                **{"colsample_bytree": 0.2, "random_state": 0, "n_jobs": 1, "deterministic": True},
                min_child_samples=int(self._strength),
            )
        self._model = model.fit(seen, attacks, sample_weight=weight)
        return self

    def scores(self, seen: sp.csr_matrix) -> np.ndarray:
        """Return the probability of an attack among texts as they were learned, shape (n,)."""
        return self._model.predict_proba(seen)[:, 1]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the highest score of each text: of the whole or of one of its sentences."""
        units, start = units_of(texts)
        return np.maximum.reduceat(self.scores(self.read(units)), start[:-1])


def units_of(texts: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Return texts, each before its sentences, and where each begins; its end at last."""
    units = [[text, *sentences(text)] for text in texts]
    return [unit for own in units for unit in own], np.cumsum([0, *map(len, units)])


def _importance(kinds: pd.Series) -> np.ndarray:
    """Return weights of learning: attacks as much as all else, neighbours as much as the rest."""
    share = {"attack": 0.5, "harmless": 0.25, "ordinary": 0.25}
    return len(kinds) * kinds.map(share).to_numpy() / kinds.map(kinds.value_counts()).to_numpy()


def learn(
    at: Settings, texts: pd.DataFrame, embedder: Embedder, labels: np.ndarray | None = None
) -> tuple[Detector, float]:
    """Learn a detector, and the threshold of ``FALSE_ALARMS`` on families that it has not read.

    Parameters
    ----------
    at, embedder
        As of :class:`Detector`.
    texts : DataFrame
        ``text``, ``kind`` (of ``KINDS``), ``family`` and ``form`` (``"alone"``, or other).
    labels : ndarray of bool, optional
        Instead of what the texts are, to see what chance does.

    Returns
    -------
    tuple of Detector and float
        The threshold: ``FALSE_ALARMS`` of harmless traffic cross it in four cross-fitted parts.
    """
    bad = (texts["kind"] == "attack").to_numpy() if labels is None else labels
    detector, (units, start) = Detector(*at, embedder), units_of(texts["text"])
    seen, owner = detector.read(units), np.repeat(np.arange(len(texts)), np.diff(start))
    whole = np.isin(np.arange(len(units)), start[:-1])
    alone = (texts["form"] == "alone").to_numpy()[owner]
    used = np.where(bad[owner], whole & alone, True)
    families = {name: i % 4 for i, name in enumerate(sorted(texts["family"].unique()))}
    part, kinds = texts["family"].map(families).to_numpy()[owner], texts["kind"].iloc[owner]
    scores = np.zeros(len(units))

    def fit(rows: np.ndarray) -> Detector:
        return detector.fit(seen[rows], bad[owner][rows], _importance(kinds[rows]))

    for i in range(4):
        fit(used & (part != i))
        scores[part == i] = detector.scores(seen[part == i])
    highest = np.maximum.reduceat(scores, start[:-1])
    traffic, order = weights(texts["kind"].to_numpy()), np.argsort(highest)
    reached = np.cumsum(traffic[order]) / traffic.sum()
    threshold = highest[order][np.searchsorted(reached, 1 - FALSE_ALARMS)]
    return fit(used), float(threshold)


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Return recall and false alarms of each detector on each family that was left out.

    Parameters
    ----------
    table : DataFrame
        ``kind``, ``detector``, ``left_out`` (a family of attacks), ``score``, ``flag``.

    Returns
    -------
    DataFrame
        ``detector``, ``family``, ``recall``, ``on_neighbours``, ``on_ordinary`` and
        ``false_alarms`` (of the traffic) at the threshold of the training; ``recall_at_1`` by a
        threshold that the judged texts allow, as if their false alarms were known; ``auroc`` of
        attacks against their neighbours alone.
    """
    rows = []
    for (detector, family), own in table.groupby(["detector", "left_out"], sort=False):
        share, kinds = own.groupby("kind")["flag"].mean(), own["kind"].to_numpy()
        alarms = NEIGHBOURS * share["harmless"] + (1 - NEIGHBOURS) * share["ordinary"]
        false, true, _ = roc_curve(
            kinds == "attack",
            own["score"],
            sample_weight=weights(kinds) + (kinds == "attack"),
            drop_intermediate=False,
        )
        near = own[kinds != "ordinary"]
        row = (share["attack"], share["harmless"], share["ordinary"], alarms)
        auroc = roc_auc_score(near["kind"] == "attack", near["score"])
        rows.append((detector, family, *row, np.interp(FALSE_ALARMS, false, true), auroc))
    names = ["recall", "on_neighbours", "on_ordinary", "false_alarms", "recall_at_1", "auroc"]
    return pd.DataFrame(rows, columns=["detector", "family", *names])
