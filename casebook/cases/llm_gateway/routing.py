"""Which of two models answers a request: rules, learned routers and cascades, by expected cost.

Whoever estimates the chances that each model's answer is acceptable can decide: send a request to
the strong model where the better chance, times what an unacceptable answer costs its tenant, is
worth more than the difference of the prices (:func:`to_strong`). So all ways that are compared
here are estimates of two chances under one decision:

* **error cost alone**: the same two chances for every request, the mean of the training tenants;
* **rules**: what an analyst counts in an afternoon (:func:`points`), with the rates of the points;
* a **learned router** (:class:`Router`): marks of the request and its MiniLM vector, by logistic
  regression or LightGBM, a head for each model;
* the **oracle**: the world's chances.

A **cascade** may ask the cheap model, have a check score its answer (:func:`cascade`), and ask the
strong one where the score is low. Where that is not worth the check, it routes (:func:`cheapest`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import norm

from casebook.cases.llm_gateway.world.requests import CHEAP, STRONG, World, written
from casebook.retrieval.dense import Embedder

#: Tokens of an answer as the decision expects them: their number is not known before.
TOKENS_OUT = 300
#: What an analyst looks for in a text.
HARD_WORDS = (
    r"\b(?:but|though|unless|except\w*|if|several|missing|contradict\w*|exempt\w*|then"
    r"|aber|außer|wenn|falls|fehlt|ausnahmen?|widersprechen|dann)\b"
)
GERMAN_WORDS = r"\b(?:der|die|das|ein|eine|und|ist|zu|aus|bitte|nur|es|für|hier)\b"
Chances = tuple[np.ndarray, np.ndarray]


# What a request shows -------------------------------------------------------------------


def points(requests: pd.DataFrame) -> np.ndarray:
    """Count what speaks for a hard request, as an analyst would, shape (n,).

    Up to two for the declared task (one where none is declared), and one each for a long request,
    code, many numbers and words of conditions.
    """
    tasks = {name: family["points"] for name, family in written()["families"].items()}
    declared = requests["task"].map(tasks).fillna(1).to_numpy(int)
    more = [
        requests["tokens_in"] > 1_000,
        requests["code_marks"] > 0,
        requests["numbers"] > 12,
        requests["text"].str.contains(HARD_WORDS, case=False, regex=True),
    ]
    return declared + np.sum(more, axis=0)


def marks(requests: pd.DataFrame) -> np.ndarray:
    """Return what can be counted in requests and the tasks they declare, shape (n, 20)."""
    text = requests["text"].str
    counted = [
        np.log(requests["tokens_in"]),
        text.split().str.len(),
        np.log1p(requests["numbers"]),
        np.log1p(requests["code_marks"]),
        text.count(f"(?i){HARD_WORDS}"),
        text.count(r"\d"),
        text.count(f"(?i){GERMAN_WORDS}") / text.split().str.len(),
        points(requests),
    ]
    tasks = [requests["task"] == name for name in written()["families"]]
    return np.column_stack([*counted, *tasks]).astype(float)


# Learned routers ------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How a router learns.

    Attributes
    ----------
    learner : str
        ``"logistic"`` or ``"trees"``.
    strength : float
        Of the logistic regression (C); of trees the least weight of a leaf, in rows.
    directions : int
        Principal directions of the vectors that are kept; 0 reads no vector.
    leaves : int
        Of a tree.
    """

    learner: str = "logistic"
    strength: float = 0.01
    directions: int = 64
    leaves: int = 7


class Router:
    """Estimates of both models' chances from a request's marks and its vector.

    Parameters
    ----------
    settings : Settings
    embedder : Embedder, optional
        Gives the vector of a text; not needed where no direction is kept.
    """

    def __init__(self, settings: Settings, embedder: Embedder | None = None) -> None:
        self.settings, self._embedder = settings, embedder
        self._heads: list[Any] = []

    def fit(self, requests: pd.DataFrame) -> Router:
        """Learn from graded answers, and return itself.

        Raises
        ------
        ValueError
            If a model's answers are all acceptable or none is: there is nothing to learn.
        """
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        for name in ("cheap_ok", "strong_ok"):
            if requests[name].nunique() < 2:
                raise ValueError(f"All {len(requests)} grades of {name} are the same: grade more.")
        if self.settings.directions:
            vectors = self._embedder.encode(list(requests["text"].unique()))
            most = min(self.settings.directions, *vectors.shape)
            self._pca = PCA(most, svd_solver="full").fit(vectors)
        raw = self._raw(requests)
        self._scaler = StandardScaler().fit(raw)
        x = self._scaler.transform(raw)
        self._heads = [self._learner().fit(x, requests[n]) for n in ("cheap_ok", "strong_ok")]
        return self

    def _raw(self, requests: pd.DataFrame) -> np.ndarray:
        if not self.settings.directions:
            return marks(requests)
        vectors = self._embedder.encode(list(requests["text"]))
        # One unit of spread for all directions together, so that the first ones count most.
        kept = self._pca.transform(vectors) / np.sqrt(self._pca.explained_variance_[0])
        return np.hstack([marks(requests), kept])

    def _learner(self) -> Any:
        at = self.settings
        if at.learner == "logistic":
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression(C=at.strength, max_iter=1000)
        from lightgbm import LGBMClassifier

        return LGBMClassifier(
            n_estimators=120,
            learning_rate=0.05,
            num_leaves=at.leaves,
            min_child_samples=int(at.strength),
            colsample_bytree=0.5,
            random_state=0,
            n_jobs=1,
            deterministic=True,
            verbose=-1,
        )

    def chances(self, requests: pd.DataFrame) -> Chances:
        """Return the estimated chances of the cheap and of the strong model, shape (n,) each."""
        if not self._heads:
            raise ValueError("The router has not learned yet: call fit with graded requests.")
        x = self._scaler.transform(self._raw(requests))
        cheap, strong = (head.predict_proba(x)[:, 1] for head in self._heads)
        return cheap, strong


class Rates:
    """Estimates by the rates of groups of requests: by points, or one for all.

    Parameters
    ----------
    group : callable, optional
        From requests to numbers of groups; by default all are one group.
    prior : float
        Requests with the mean rate that every group is mixed with.
    """

    def __init__(
        self, group: Callable[[pd.DataFrame], np.ndarray] | None = None, prior: float = 20.0
    ) -> None:
        self._group = group or (lambda requests: np.zeros(len(requests), int))
        self._prior = prior

    def fit(self, requests: pd.DataFrame) -> Rates:
        """Learn the rates from graded answers, and return itself."""
        graded = requests[["cheap_ok", "strong_ok"]].astype(float)
        self._mean = graded.mean().to_numpy()
        by = graded.groupby(self._group(requests))
        n = by.size().to_numpy()[:, None]
        self._rate = (by.sum() + self._prior * self._mean) / (n + self._prior)
        return self

    def chances(self, requests: pd.DataFrame) -> Chances:
        """Return the rates of each request's group; the mean in a group that is new."""
        found = self._rate.reindex(self._group(requests)).to_numpy()
        found = np.where(np.isnan(found), self._mean, found)
        return found[:, 0], found[:, 1]


# Decisions and what they cost -----------------------------------------------------------


def to_strong(chances: Chances, requests: pd.DataFrame, error_euro: Any = None) -> np.ndarray:
    """Decide which requests the strong model answers: the one decision of page and service.

    Parameters
    ----------
    chances : pair of ndarray
        Of an acceptable answer of the cheap and of the strong model.
    requests : DataFrame
        ``tokens_in`` and ``error_euro``.
    error_euro : float, optional
        Cost of an unacceptable answer, instead of that of each tenant.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    error = requests["error_euro"].to_numpy() if error_euro is None else error_euro
    tokens = requests["tokens_in"].to_numpy()
    more = STRONG.euro(tokens, TOKENS_OUT) - CHEAP.euro(tokens, TOKENS_OUT)
    return (chances[1] - chances[0]) * error > more


@dataclass(frozen=True)
class Check:
    """A check of the cheap model's answer: a score that is higher for acceptable ones.

    Attributes
    ----------
    power : float
        Mean score of acceptable answers, in standard deviations above the others'.
    price : float
        Of a check, in calls of the cheap model.
    seconds : float
    """

    power: float = 1.0
    price: float = 1.0
    seconds: float = 0.4


class Bill:
    """What the answers to requests cost by the true chances, for any way of routing them.

    Parameters
    ----------
    world : World
        One part of it.
    """

    def __init__(self, world: World) -> None:
        self.requests, self.truth = world.requests, world.truth

    @cached_property
    def _prices(self) -> tuple[np.ndarray, np.ndarray]:
        tokens = self.requests["tokens_in"].to_numpy(), self.truth["tokens_out"].to_numpy()
        return CHEAP.euro(*tokens), STRONG.euro(*tokens)

    def routed(self, strong: np.ndarray) -> pd.DataFrame:
        """Price requests of which some go to the strong model.

        Parameters
        ----------
        strong : ndarray of bool or float, shape (n,)
            Whether, or with which probability.

        Returns
        -------
        DataFrame
            ``model_euro``, ``acceptable``, ``euro`` (with the cost of unacceptable answers),
            ``strong``, ``seconds``: expected values, a row for each request.
        """
        share, out = np.asarray(strong, float), self.truth["tokens_out"].to_numpy()
        cheap, dear = self._prices
        ok = self.truth["p_cheap"] + share * (self.truth["p_strong"] - self.truth["p_cheap"])
        seconds = CHEAP.seconds(out) + share * (STRONG.seconds(out) - CHEAP.seconds(out))
        return self._table(cheap + share * (dear - cheap), ok.to_numpy(), share, seconds)

    def cascaded(
        self, chances: Chances, check: Check, error_euro: Any = None, always: bool = False
    ) -> pd.DataFrame:
        """Price requests of which some are checked, as of :meth:`routed`.

        A request goes to the cheap model, to the strong one, or to the cheap one and its answer to
        the check: whichever is expected to cost least (:func:`cheapest`).

        Parameters
        ----------
        chances, check, error_euro
            As of :func:`cascade`.
        always : bool
            Ask the cheap model and the check for every request.
        """
        checked = self._checked(cascade(chances, self.requests, check, error_euro), check)
        if always:
            return checked
        way = cheapest(chances, self.requests, check, error_euro)
        routed = self.routed(way == 1)
        return checked.where(pd.Series(way == 2, checked.index), routed)

    def _checked(self, below: np.ndarray, check: Check) -> pd.DataFrame:
        """Price requests that the cheap model answers and the strong one where a score is low."""
        p, p_strong = self.truth["p_cheap"].to_numpy(), self.truth["p_strong"].to_numpy()
        share, ok = after(below, p, p_strong, check)
        cheap, dear = self._prices
        out = self.truth["tokens_out"].to_numpy()
        seconds = CHEAP.seconds(out) + check.seconds + share * STRONG.seconds(out)
        return self._table(cheap * (1 + check.price) + share * dear, ok, share, seconds)

    def _table(self, price, ok, strong, seconds) -> pd.DataFrame:
        error = self.requests["error_euro"].to_numpy()
        columns = {"model_euro": price, "acceptable": ok, "euro": price + error * (1 - ok)}
        return pd.DataFrame({**columns, "strong": strong, "seconds": seconds})


def cascade(
    chances: Chances, requests: pd.DataFrame, check: Check, error_euro: Any = None
) -> np.ndarray:
    """Return the score of the check below which the strong model is asked after the cheap one.

    The score moves the chance that the cheap answer is acceptable (Bayes' rule with two normal
    distributions). The strong model is asked where its chance is so much better that it is worth
    its price.

    Parameters
    ----------
    chances, requests, error_euro
        As of :func:`to_strong`.
    check : Check

    Returns
    -------
    ndarray of float, shape (n,)
        Minus infinity where no score is low enough.
    """
    error = requests["error_euro"].to_numpy() if error_euro is None else error_euro
    price = STRONG.euro(requests["tokens_in"].to_numpy(), TOKENS_OUT)
    needed = chances[1] - price / error
    before = logit(np.clip(chances[0], 1e-6, 1 - 1e-6))
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = (logit(np.clip(needed, 0, 1 - 1e-9)) - before) / check.power + check.power / 2
    return np.where(needed > 0, bound, -np.inf)


def after(
    below: np.ndarray, p_cheap: np.ndarray, p_strong: np.ndarray, check: Check
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often the strong model is asked after a check, and the acceptable share."""
    good, bad = norm.cdf(below - check.power), norm.cdf(below)
    share = p_cheap * good + (1 - p_cheap) * bad
    return share, p_cheap * (1 - good) + share * p_strong


def cheapest(
    chances: Chances, requests: pd.DataFrame, check: Check, error_euro: Any = None
) -> np.ndarray:
    """Return the way that is expected to cost least: 0 cheap, 1 strong, 2 cheap with a check.

    Parameters
    ----------
    chances, requests, check, error_euro
        As of :func:`cascade`.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    error = requests["error_euro"].to_numpy() if error_euro is None else error_euro
    tokens = requests["tokens_in"].to_numpy()
    cheap, dear = CHEAP.euro(tokens, TOKENS_OUT), STRONG.euro(tokens, TOKENS_OUT)
    share, ok = after(cascade(chances, requests, check, error_euro), *chances, check)
    checked = cheap * (1 + check.price) + share * dear + error * (1 - ok)
    plain = [price + error * (1 - p) for price, p in zip((cheap, dear), chances, strict=True)]
    return np.argmin([*plain, checked], axis=0)


def summed(table: pd.DataFrame) -> dict[str, float]:
    """Return the means of a bill; of what is in euro, for a thousand requests."""
    return {name: float(v) * (1000 if "euro" in name else 1) for name, v in table.mean().items()}
