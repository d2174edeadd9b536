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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.metrics import roc_auc_score, roc_curve

from casebook.cases.llm_gateway.artifacts import stored
from casebook.cases.llm_gateway.world.attacks import corpus, sentences
from casebook.retrieval.dense import Embedder
from casebook.serving.guard import attack

Settings = tuple[str, float, str]  # learner, strength, what is read: one of READS
READS = ("letters", "vectors", "both")
TRIALS: tuple[Settings, ...] = tuple(
    (learner, strength, reads)
    for learner, (first, second) in {"logistic": (30.0, 1.0), "trees": (5.0, 20.0)}.items()
    for strength, reads in (*((first, name) for name in READS), (second, "both"))
)
#: None is the guard.
DETECTORS: dict[str, Settings | None] = {
    "guard": None,
    "logistic": ("logistic", 30.0, "both"),
    "trees": ("trees", 5.0, "both"),
}
#: Share of harmless traffic that may be flagged, and how much of it looks like an attack.
FALSE_ALARMS, NEIGHBOURS = 0.01, 0.05
BUCKETS = 4_096
_LETTERS = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=BUCKETS)


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


# Families that are left out -------------------------------------------------------------


def left_out(
    seed: int = 0, new_families: bool = True
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield rows to learn from and rows to judge on.

    Parameters
    ----------
    seed : int
    new_families : bool
        Each family of attacks is judged in turn, with a fifth of the families of harmless texts
        and of ordinary requests. Otherwise each random fifth of the texts, as many evaluations do.

    Yields
    ------
    name : str
        Of the family, or of the part.
    train, test : ndarray of bool, shape (rows of the corpus,)
        No written text is in both, and no family where families are new.
    """
    texts, rng, part = corpus(), np.random.default_rng(seed), {}
    family, attacks = texts["family"].to_numpy(), (texts["kind"] == "attack").to_numpy()
    for kind in ("harmless", "ordinary"):
        names = sorted(texts.loc[texts["kind"] == kind, "family"].unique())
        part |= {str(name): i % 5 for i, name in enumerate(rng.permutation(names))}
    own = texts["family"].map(part).fillna(-1).to_numpy()
    if new_families:
        for i, name in enumerate(sorted(set(family[attacks]))):
            test = (family == name) | (own == i % 5)
            yield name, ~test, test
        return
    names = texts["origin"].unique()
    drawn = texts["origin"].map(dict(zip(names, rng.permutation(len(names)) % 5, strict=True)))
    for i in range(5):
        yield f"part {i + 1}", (drawn != i).to_numpy(), (drawn == i).to_numpy()


def _importance(kinds: pd.Series) -> np.ndarray:
    """Return weights of learning: attacks as much as all else, neighbours as much as the rest."""
    share = {"attack": 0.5, "harmless": 0.25, "ordinary": 0.25}
    return len(kinds) * kinds.map(share).to_numpy() / kinds.map(kinds.value_counts()).to_numpy()


def learn(
    at: Settings, texts: pd.DataFrame, embedder: Embedder, labels: np.ndarray | None = None
) -> tuple[Detector, float]:
    """Learn a detector, and the threshold of ``FALSE_ALARMS`` on families that it has not read.

    It learns from attacks that stand alone, harmless texts, and each sentence of these.

    Parameters
    ----------
    at, embedder
        As of :class:`Detector`.
    texts : DataFrame
        As of :func:`~casebook.cases.llm_gateway.world.attacks.corpus`.
    labels : ndarray of bool, optional
        Instead of what the texts are, to see what chance does.

    Returns
    -------
    detector : Detector
    threshold : float
        Crossed by ``FALSE_ALARMS`` of the harmless traffic in four cross-fitted parts.
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


@lru_cache(maxsize=4_096)
def _guarded(text: str) -> bool:
    return bool(attack(text))


def judged(
    seed: int = 0,
    detectors: Mapping[str, Settings | None] = DETECTORS,
    new_families: bool = True,
) -> pd.DataFrame:
    """Let detectors judge each family of attacks that they have not seen.

    Parameters
    ----------
    seed, new_families
        As of :func:`left_out`.
    detectors : mapping of str to Settings or None
        None is the guard.

    Returns
    -------
    DataFrame
        As of the corpus, with ``left_out`` (family of attacks), ``detector``, ``score``, ``flag``.
        ``either`` flags what the guard or the logistic detector flags.
    """
    texts, parts = corpus(), []
    for name, train, test in left_out(seed, new_families):
        own, scored = texts[test], {}
        for detector, at in detectors.items():
            if at is None:
                flag = np.array([_guarded(text) for text in own["text"]])
                scored[detector] = flag.astype(float), flag
                continue
            made, threshold = learn(at, texts[train], stored())
            scores = made(own["text"])
            scored[detector] = scores, scores > threshold
        if {"guard", "logistic"} <= {*scored}:
            (sure, yes), (likely, maybe) = scored["guard"], scored["logistic"]
            scored["either"] = sure + likely, yes | maybe
        for detector, (score, flag) in scored.items():
            parts.append(own.assign(left_out=name, detector=detector, score=score, flag=flag))
    return pd.concat(parts, ignore_index=True)


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Return recall and false alarms of each detector on each family that was left out.

    Parameters
    ----------
    table : DataFrame
        Of :func:`judged`.

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


# Tables ---------------------------------------------------------------------------------


def detected(seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """Judge all detectors: ``seed``, ``new_families`` and as of :func:`rates`."""
    return pd.concat(
        [
            rates(judged(seed, new_families=new)).assign(seed=seed, new_families=new)
            for seed in seeds
            for new in (True, False)
        ],
        ignore_index=True,
    )


def missed(table: pd.DataFrame, detector: str = "either") -> pd.DataFrame:
    """Return the attacks of :func:`judged` that get through: ``family``, ``form``, ``text``, …"""
    gone = (table["detector"] == detector) & (table["kind"] == "attack") & ~table["flag"]
    return table.loc[gone, ["family", "form", "text", "score"]].reset_index(drop=True)


def trials(seed: int = 9, tried: Sequence[Settings] = TRIALS) -> pd.DataFrame:
    """Try the settings in parts of another seed: as of :func:`rates`, by settings.

    All families of attacks are judged here too: what was chosen is a little flattered.
    """
    return rates(judged(seed, {" ".join(map(str, at)): at for at in tried}))


def latency(n: int = 300, clock: Callable[[], float] = time.thread_time) -> pd.DataFrame:
    """Time a text, its vector at hand: ``detector``, ``p50_ms``, ``p99_ms`` (CPU)."""
    texts, rows = corpus(), []
    some = texts["text"].iloc[np.random.default_rng(0).choice(len(texts), n, replace=False)]
    for name, at in DETECTORS.items():
        made, spent = None if at is None else learn(at, texts, stored())[0], np.zeros(n)
        for i, text in enumerate(some):
            start = clock()
            _ = attack(text) if made is None else made([text])
            spent[i] = 1000 * (clock() - start)
        rows.append((name, *np.quantile(spent, [0.5, 0.99])))
    return pd.DataFrame(rows, columns=["detector", "p50_ms", "p99_ms"])
