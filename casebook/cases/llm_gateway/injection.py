"""Detect attacks on the model in a message: the guard of patterns against two classifiers.

The guard (:func:`casebook.serving.guard.attack`) was written for a support chatbot. A classifier
reads the letters (n-grams of characters) and the MiniLM vector of a text. What an attacker writes
next is not in any training set, so a detector is judged on **families** that it has not seen: each
family of attacks is left out in turn, and with it a part of the families of harmless texts and of
ordinary requests.

The threshold is set on texts of the training families that the detector had not read either, at
one false alarm in a hundred; false alarms on what is new are measured, not assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.artifacts import stored
from casebook.cases.llm_gateway.world.attacks import corpus
from casebook.evaluate.rare import recall_at_fpr
from casebook.retrieval.dense import Embedder
from casebook.serving.guard import FORM, attack

DETECTORS = ("guard", "guard, no forms", "logistic", "trees", "logistic or guard")
#: Share of harmless traffic that may be flagged, and how much of it looks like an attack.
FALSE_ALARMS, NEIGHBOURS = 0.01, 0.05
#: Settings that are tried in :func:`trials`: (strength or leaf rows, what is read).
READS = ("letters", "vectors", "both")
TRIALS = tuple(
    (learner, strength, reads)
    for learner, strengths in (("logistic", (1.0, 30.0)), ("trees", (5, 20)))
    for strength in strengths
    for reads in READS
)
CHOSEN: dict[str, tuple[str, float, str]] = {
    "logistic": ("logistic", 30.0, "both"),
    "trees": ("trees", 5, "both"),
}


def weights(kinds: np.ndarray) -> np.ndarray:
    """Return how much each harmless text counts, so that ``NEIGHBOURS`` of the traffic look bad."""
    kinds = np.asarray(kinds)
    share = {"harmless": NEIGHBOURS, "ordinary": 1 - NEIGHBOURS}
    total = {kind: max((kinds == kind).sum(), 1) for kind in share}
    return np.array([share[k] / total[k] if k in share else 0.0 for k in kinds])


class Detector:
    """A classifier of texts: logistic regression or LightGBM on letters and vectors.

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
        self._at, self._embedder = (learner, strength, reads), embedder

    def fit(self, texts: Sequence[str], attacks: np.ndarray, weight: np.ndarray) -> Detector:
        """Learn from texts that are attacks or not, and return itself.

        Parameters
        ----------
        texts : sequence of str
        attacks : ndarray of bool, shape (n,)
        weight : ndarray of float, shape (n,)
            How much each text counts.

        Raises
        ------
        ValueError
            If all texts are attacks, or none is.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        if len(set(map(bool, attacks))) < 2:
            raise ValueError("All texts are of one kind: give attacks and harmless texts.")
        self._letters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), min_df=3, max_features=20_000, sublinear_tf=True
        )
        counts = self._letters.fit_transform(texts)
        self._few = TruncatedSVD(min(100, counts.shape[1] - 1), random_state=0).fit(counts)
        self._model = self._learner().fit(self._read(texts), attacks, sample_weight=weight)
        return self

    def _read(self, texts: Sequence[str]) -> np.ndarray:
        parts, reads = [], self._at[2]
        if reads != "vectors":
            parts.append(self._few.transform(self._letters.transform(texts)))
        if reads != "letters":
            parts.append(self._embedder.encode(list(texts)))
        return np.hstack(parts)

    def _learner(self) -> Any:
        learner, strength, _ = self._at
        if learner == "logistic":
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression(C=strength, max_iter=1000)
        from lightgbm import LGBMClassifier

        return LGBMClassifier(
            n_estimators=100,
            num_leaves=7,
            learning_rate=0.08,
            min_child_samples=int(strength),
            colsample_bytree=0.3,
            random_state=0,
            n_jobs=1,
            deterministic=True,
            verbose=-1,
        )

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of an attack among texts as they were learned, shape (n,)."""
        return self._model.predict_proba(self._read(texts))[:, 1]


# Families that are left out -------------------------------------------------------------


def folds(seed: int = 0) -> dict[str, int]:
    """Put each family of harmless texts and of ordinary requests in one of five parts."""
    rng, parts = np.random.default_rng(seed), {}
    for kind in ("harmless", "ordinary"):
        names = sorted(corpus().loc[corpus()["kind"] == kind, "family"].unique())
        parts |= {str(name): i % 5 for i, name in enumerate(rng.permutation(names))}
    return parts


def left_out(seed: int = 0) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each family of attacks with the rows to learn from and the rows to judge on.

    Yields
    ------
    family : str
    train, test : ndarray of bool, shape (rows of the corpus,)
        No family, and no written text, is in both.
    """
    texts, parts = corpus(), folds(seed)
    own = texts["family"].map(parts).fillna(-1).to_numpy()
    attacks = texts["kind"].to_numpy() == "attack"
    for i, family in enumerate(sorted(texts.loc[attacks, "family"].unique())):
        new = texts["family"].to_numpy() == family
        yield family, (attacks & ~new) | (own != i % 5) & ~attacks, new | (own == i % 5)


def _importance(kinds: pd.Series) -> np.ndarray:
    """Return weights of learning: attacks as much as all else, neighbours as much as the rest."""
    share = {"attack": 0.5, "harmless": 0.25, "ordinary": 0.25}
    return len(kinds) * kinds.map(share).to_numpy() / kinds.map(kinds.value_counts()).to_numpy()


def learn(
    at: tuple[str, float, str], texts: pd.DataFrame, embedder: Embedder, labels: Any = None
) -> tuple[Detector, float]:
    """Learn a detector and the threshold of ``FALSE_ALARMS`` on families it has not read.

    Parameters
    ----------
    at : tuple
        Learner, strength, what is read.
    texts : DataFrame
        As of :func:`~casebook.cases.llm_gateway.world.attacks.corpus`.
    embedder : Embedder
    labels : ndarray of bool, optional
        Instead of what the texts are, to try what chance does.

    Returns
    -------
    detector : Detector
    threshold : float
        Crossed by ``FALSE_ALARMS`` of the harmless traffic in four cross-fitted parts.
    """
    texts = texts.reset_index(drop=True)
    bad = (texts["kind"] == "attack").to_numpy() if labels is None else np.asarray(labels)
    weight, text = _importance(texts["kind"]), texts["text"].to_numpy()
    part = texts["family"].map({f: i % 4 for i, f in enumerate(sorted(texts["family"].unique()))})
    scores = np.zeros(len(texts))
    for i in range(4):
        held = (part == i).to_numpy()
        made = Detector(*at, embedder).fit(text[~held], bad[~held], weight[~held])
        scores[held] = made.scores(text[held])
    threshold = _quantile(scores, weights(texts["kind"].to_numpy()), 1 - FALSE_ALARMS)
    return Detector(*at, embedder).fit(text, bad, weight), threshold


def _quantile(scores: np.ndarray, weight: np.ndarray, level: float) -> float:
    order = np.argsort(scores)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(scores[order][np.searchsorted(reached, level)])


@lru_cache(maxsize=1)
def guarded() -> pd.DataFrame:
    """Return what the guard says of each text of the corpus: ``guard``, ``guard, no forms``."""
    said = [attack(text) for text in corpus()["text"]]
    return pd.DataFrame(
        {"guard": [bool(w) for w in said], "guard, no forms": [bool(w) and w != FORM for w in said]}
    )


def _flags(seed: int, test: np.ndarray, train: np.ndarray, detectors: Sequence[str]):
    """Yield name, scores and flags of each detector on the texts of a test."""
    texts, said = corpus(), guarded()[test]
    for name in detectors:
        if name in said:
            yield name, said[name].to_numpy(float), said[name].to_numpy()
            continue
        learner = name.split(" or ")[0]
        detector, threshold = _learned(learner, seed, tuple(np.flatnonzero(train)))
        scores = detector.scores(texts["text"][test])
        flags = scores > threshold
        if name.endswith("or guard"):
            sure = said["guard, no forms"].to_numpy()
            scores, flags = np.where(sure, 1 + scores, scores), flags | sure
        yield name, scores, flags


@lru_cache(maxsize=4)
def _learned(learner: str, seed: int, rows: tuple[int, ...]) -> tuple[Detector, float]:
    return learn(CHOSEN[learner], corpus().iloc[list(rows)], stored())


def detected(
    seeds: Sequence[int] = (0, 1, 2), detectors: Sequence[str] = DETECTORS
) -> pd.DataFrame:
    """Judge the detectors on each family of attacks that they have not seen.

    Returns
    -------
    DataFrame
        ``seed`` (of the parts), ``family``, ``detector``, ``recall`` and ``false_alarms`` at the
        threshold of the training, ``on_neighbours`` and ``on_ordinary`` (false alarms on both),
        ``recall_at_1`` (by a threshold that the test itself allows one false alarm in a hundred).
    """
    rows, texts = [], corpus()
    for seed in seeds:
        for family, train, test in left_out(seed):
            kinds = texts["kind"][test].to_numpy()
            bad = kinds == "attack"
            for name, scores, flags in _flags(seed, test, train, detectors):
                harmless, ordinary = (flags[kinds == k].mean() for k in ("harmless", "ordinary"))
                alarms = NEIGHBOURS * harmless + (1 - NEIGHBOURS) * ordinary
                at_1 = _weighted_recall(bad, scores, weights(kinds))
                row = (flags[bad].mean(), alarms, harmless, ordinary, at_1)
                rows.append((seed, family, name, *row))
    names = ["recall", "false_alarms", "on_neighbours", "on_ordinary", "recall_at_1"]
    return pd.DataFrame(rows, columns=["seed", "family", "detector", *names])


def _weighted_recall(bad: np.ndarray, scores: np.ndarray, weight: np.ndarray) -> float:
    """Return the recall at ``FALSE_ALARMS`` of the weighted harmless traffic."""
    least = round(1 / weight[weight > 0].min())
    times = np.where(bad, 1, np.maximum(np.rint(weight * least * 4), 1)).astype(int)
    return recall_at_fpr(np.repeat(bad, times), np.repeat(scores, times), FALSE_ALARMS)


def missed(detector: str = "logistic or guard", seed: int = 0) -> pd.DataFrame:
    """Return the attacks that get through: ``family``, ``form``, ``text``, ``score``."""
    parts, texts = [], corpus()
    for _, train, test in left_out(seed):
        [(_, scores, flags)] = _flags(seed, test, train, [detector])
        own = texts[test].assign(score=scores)
        parts.append(own[(own["kind"] == "attack") & ~flags])
    return pd.concat(parts, ignore_index=True)[["family", "form", "text", "score"]]


def trials(seed: int = 9, tried: Sequence[tuple[str, float, str]] = TRIALS) -> pd.DataFrame:
    """Try the settings, in parts of another seed: ``learner``, ``strength``, ``reads``, ``recall``.

    Half of the attack families (every second) are judged here.
    """
    rows, texts = [], corpus()
    for family, train, test in list(left_out(seed))[::2]:
        kinds = texts["kind"][test].to_numpy()
        own = texts[train]
        for at in tried:
            made = Detector(*at, stored()).fit(
                own["text"].to_numpy(),
                (own["kind"] == "attack").to_numpy(),
                _importance(own["kind"]),
            )
            scores = made.scores(texts["text"][test])
            rows.append((family, *at, _weighted_recall(kinds == "attack", scores, weights(kinds))))
    return pd.DataFrame(rows, columns=["family", "learner", "strength", "reads", "recall"])


def latency(n: int = 300, clock: Callable[[], float] = time.thread_time) -> pd.DataFrame:
    """Time a text through each detector, vectors at hand: ``detector``, ``p50_ms``, ``p99_ms``."""
    texts = corpus()
    some = texts["text"].iloc[np.random.default_rng(0).choice(len(texts), n, replace=False)]
    made = {"guard": lambda text: attack(text)}
    for name in CHOSEN:
        detector, _ = learn(CHOSEN[name], texts, stored())
        made[name] = lambda text, detector=detector: detector.scores([text])
    rows = []
    for name, read in made.items():
        spent = []
        for text in some:
            start = clock()
            read(text)
            spent.append(1000 * (clock() - start))
        rows.append((name, *np.quantile(spent, [0.5, 0.99])))
    return pd.DataFrame(rows, columns=["detector", "p50_ms", "p99_ms"])
