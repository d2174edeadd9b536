r"""Model families: each that is tuned has as many trials as the others, each listed.

Every family takes the same table, tries the same number of settings on the same validation weeks
and is seen on the test once. Ways to deal with rare fraud are compared at one setting of LightGBM.
All run on one thread with a seed, so that a fit can be repeated.
What resampling does to a probability: :mod:`casebook.evaluate.imbalance`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from casebook.evaluate.imbalance import repair_probability
from casebook.evaluate.rare import average_precision

Params = Mapping[str, Any]
Score = Callable[[pd.DataFrame], np.ndarray]
TRIALS = 6
#: Families that take a weight for each row.
WEIGHTED = ("logistic regression", "logistic regression, logs", "XGBoost", "LightGBM")
#: Thresholds that boosting may try of a feature. The usual 255 are quantiles and hide what only
#: one row in 500 has: the Handbook's frauds above 220 euro fall into one bin with genuine amounts.
BINS = 4095


@dataclass(frozen=True)
class Model:
    """A fitted model.

    Attributes
    ----------
    columns : tuple of str
        Features, in their order.
    probability : bool
        Whether the score is meant as a probability of fraud under the training's share of it.
    repair : callable or None
        Takes a score to the probability under the share of fraud before resampling or weighting;
        None when there is nothing to repair.
    inner : object
        What the library fitted, for reasons and for saving.
    """

    columns: tuple[str, ...]
    probability: bool
    inner: Any
    _score: Score
    repair: Callable[[np.ndarray], np.ndarray] | None = None

    def score(self, X: pd.DataFrame) -> np.ndarray:
        """Return a score for each row, higher for fraud, shape (n,).

        Raises
        ------
        ValueError
            When a feature is missing.
        """
        if missing := [name for name in self.columns if name not in X]:
            raise ValueError(f"the table lacks {len(missing)} features of the model: {missing}")
        return np.asarray(self._score(X[list(self.columns)]), float)

    def repaired(self, X: pd.DataFrame) -> np.ndarray:
        """Return the score with its probability repaired, where there is something to repair."""
        score = self.score(X)
        return score if self.repair is None else self.repair(score)


class _Fit(Protocol):
    def __call__(
        self, X: pd.DataFrame, y: np.ndarray, params: dict[str, Any], seed: int, **weight: Any
    ) -> Model: ...


@dataclass(frozen=True)
class Family:
    """A way to fit models, and the settings that are tried.

    Attributes
    ----------
    name : str
    trials : tuple of mapping
        Settings, the first of which is the default.
    probability : bool
        Whether scores are meant as probabilities.
    """

    name: str
    trials: tuple[Params, ...]
    probability: bool
    _fit: _Fit

    def fit(
        self,
        X: pd.DataFrame,
        y: Sequence[int],
        params: Params | None = None,
        seed: int = 0,
        weight: np.ndarray | None = None,
    ) -> Model:
        """Fit a model on one thread.

        Parameters
        ----------
        X : DataFrame, shape (n, features)
            Numbers without missing values.
        y : sequence of 0 and 1, shape (n,)
        params : mapping, optional
            One of ``trials``; the first by default.
        seed : int
        weight : ndarray, shape (n,), optional
            How many rows each stands for; not for the ways to deal with rare fraud.

        Returns
        -------
        Model

        Raises
        ------
        ValueError
            When the table and labels do not fit together, a value is missing, there are fewer
            than two rows of a kind, or the family takes no weights.
        """
        y, given = _checked(X, y), dict(self.trials[0] if params is None else params)
        if weight is None:
            return self._fit(X, y, given, seed)
        weight = np.asarray(weight, float)
        if self.name not in WEIGHTED:
            raise ValueError(f"{self.name} takes no weights: only {', '.join(WEIGHTED)} do")
        if weight.shape != y.shape or not (np.isfinite(weight) & (weight >= 0)).all():
            raise ValueError(f"{len(y)} rows and weights of shape {weight.shape}: 0 or more each")
        return self._fit(X, y, given, seed, weight=weight)


def _checked(X: pd.DataFrame, y: Sequence[int]) -> np.ndarray:
    y = np.asarray(y, float)
    if y.shape != (len(X),):
        raise ValueError(f"{len(X)} rows and labels of shape {y.shape}: one label a row is due")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels other than 0 and 1: 1 is fraud, 0 is genuine")
    counts = np.bincount(y.astype(int), minlength=2)
    if counts.min() < 2:
        raise ValueError(
            f"{counts[0]} genuine and {counts[1]} fraud rows: two of each are the least"
        )
    bad = [name for name in X if not np.isfinite(X[name].to_numpy(float)).all()]
    if bad:
        raise ValueError(f"missing or endless values in {bad}: fill or drop them first")
    return y.astype(int)


# Families -----------------------------------------------------------------------------


def _signed_log(X: pd.DataFrame) -> np.ndarray:
    values = X.to_numpy(float)
    return np.sign(values) * np.log1p(np.abs(values))


def _standard(X: pd.DataFrame):
    """Return a function that takes a table to standardised logarithms, as learned here."""
    logs = _signed_log(X)
    mean, spread = logs.mean(axis=0), logs.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return lambda table: (_signed_log(table) - mean) / spread


def _plain_logistic(X, y, params, seed, weight=None):
    """Fit what an analyst fits in an afternoon: standardised features and logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = LogisticRegression(max_iter=1000, random_state=seed, **params)
    inner = make_pipeline(StandardScaler(), line)
    inner.fit(X, y, logisticregression__sample_weight=weight)
    return Model(tuple(X), True, inner, lambda table: inner.predict_proba(table)[:, 1])


def _logistic(X, y, params, seed, weight=None):
    from sklearn.linear_model import LogisticRegression

    scale = _standard(X)
    inner = LogisticRegression(max_iter=1000, random_state=seed, **params)
    inner.fit(scale(X), y, sample_weight=weight)
    return Model(tuple(X), True, inner, lambda table: inner.predict_proba(scale(table))[:, 1])


def _xgboost(X, y, params, seed, weight=None):
    import xgboost

    settings = {"tree_method": "hist", "max_bin": BINS, "n_jobs": 1, "random_state": seed, **params}
    inner = xgboost.XGBClassifier(**settings).fit(X, y, sample_weight=weight)
    return Model(tuple(X), True, inner, lambda table: inner.predict_proba(table)[:, 1])


#: What all LightGBM families share: one thread, and the same trees on every machine.
_LIGHTGBM = {
    "num_threads": 1,
    "max_bin": BINS,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def _boost(X, y, params, seed, weight=None):
    """Fit LightGBM and return its booster; ``rounds`` of the params is the number of trees."""
    import lightgbm

    settings = {**_LIGHTGBM, "seed": seed, "objective": "binary", **params}
    rounds = settings.pop("rounds")
    data = lightgbm.Dataset(X, label=y, weight=weight)
    return lightgbm.train(settings, data, num_boost_round=rounds)


def _lightgbm(X, y, params, seed, weight=None):
    inner = _boost(X, y, params, seed, weight=weight)
    return Model(tuple(X), True, inner, inner.predict)


def _weighted(X, y, params, seed):
    weight = params.pop("fraud_weight")
    inner = _boost(X, y, params, seed, weight=np.where(y == 1, weight, 1.0))
    return Model(tuple(X), True, inner, inner.predict, lambda p: repair_probability(p, 1 / weight))


def _ratio(y: np.ndarray) -> float:
    """Return genuine rows for each fraud."""
    return (y == 0).sum() / (y == 1).sum()


def _resampled(X, y, resampled, params, seed):
    """Fit LightGBM on resampled rows, with the repair that the new ratio asks for."""
    more_X, more_y = resampled
    inner = _boost(more_X, more_y, params, seed)
    keep = _ratio(more_y) / _ratio(y)
    return Model(tuple(X), True, inner, inner.predict, lambda p: repair_probability(p, keep))


def _smote(X, y, params, seed):
    from imblearn.over_sampling import SMOTE

    share, neighbours = params.pop("frauds_per_genuine"), params.pop("neighbours")
    share = max(share, 1 / _ratio(y))  # data with more fraud stay as they are
    scale = _standard(X)
    if share * _ratio(y) <= 1:
        return _lightgbm(X, y, params, seed)
    sampler = SMOTE(
        sampling_strategy=share,
        k_neighbors=min(neighbours, int(y.sum()) - 1),
        random_state=seed,
    )
    model = _resampled(X, y, sampler.fit_resample(scale(X), y), params, seed)
    inner = model.inner
    return Model(tuple(X), True, inner, lambda t: inner.predict(scale(t)), model.repair)


def _under(X, y, params, seed):
    keep = params.pop("keep")
    drawn = np.random.default_rng(seed).random(len(y)) < keep
    rows = (y == 1) | drawn
    if (y[rows] == 0).sum() < 2:
        raise ValueError(f"keep {keep} leaves fewer than two genuine rows of {len(y)}")
    return _resampled(X, y, (X[rows], y[rows]), params, seed)


def _trees(rounds, rate, leaves, rows, ridge=1.0, average=True, share=1.0, hessian=1e-3):
    """Return one setting of LightGBM; ``share`` of the features a tree and of the rows a round."""
    return {
        "rounds": rounds,
        "learning_rate": rate,
        "num_leaves": leaves,
        "min_data_in_leaf": rows,
        "lambda_l2": ridge,
        "boost_from_average": average,
        "feature_fraction": share,
        "bagging_fraction": share,
        "bagging_freq": int(share < 1),
        "min_sum_hessian_in_leaf": hessian,
    }


def _xgb(trees, depth, rate, start=0.5):
    """Return one setting of XGBoost; the start None is the share of fraud, 0.5 as it once was."""
    given = {"n_estimators": trees, "max_depth": depth, "learning_rate": rate}
    return given if start is None else {**given, "base_score": start}


#: The settings of LightGBM that are tried; the families around it add their own to these.
_PLAIN = (
    _trees(100, 0.10, 7, 50),
    _trees(100, 0.10, 7, 50, average=False),
    _trees(100, 0.10, 15, 20, average=False),
    _trees(200, 0.05, 15, 20, ridge=0.1),
    _trees(100, 0.10, 7, 20, share=0.75, hessian=1.0),
    _trees(200, 0.05, 7, 20, share=0.6, hessian=1.0),
)
_XGB = (
    _xgb(100, 3, 0.1),
    _xgb(100, 3, 0.1, start=None),
    _xgb(200, 3, 0.1),
    _xgb(100, 5, 0.1),
    _xgb(50, 5, 0.1),
    _xgb(100, 5, 0.05),
)


def _plain(**own: Any) -> tuple[Params, ...]:
    """Return the first setting of LightGBM with own parameters: a way to deal with rare fraud."""
    return ({**_PLAIN[0], **own},)


def _families() -> dict[str, Family]:
    strengths = tuple({"C": c} for c in (1.0, 0.001, 0.01, 0.1, 10.0, 100.0))
    smote = _plain(frauds_per_genuine=0.1, neighbours=5)
    listed = [
        Family("logistic regression", strengths, True, _plain_logistic),
        Family("logistic regression, logs", strengths, True, _logistic),
        Family("XGBoost", _XGB, True, _xgboost),
        Family("LightGBM", _PLAIN, True, _lightgbm),
        Family("LightGBM weighted", _plain(fraud_weight=10), True, _weighted),
        Family("LightGBM SMOTE", smote, True, _smote),
        Family("LightGBM under-sampled", _plain(keep=0.1), True, _under),
    ]
    return {family.name: family for family in listed}


#: The families by name. Those that are tuned list ``TRIALS`` settings, the ways to deal with rare
#: fraud that are compared at one setting list that one.
FAMILIES: dict[str, Family] = _families()


# Tuning and calibration ---------------------------------------------------------------


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to validate on, later ones."""

    X_train: pd.DataFrame
    y_train: np.ndarray
    X_validation: pd.DataFrame
    y_validation: np.ndarray


def tune_over(
    family: Family, folds: Sequence[Fold], trials: int | None = None, seed: int = 0
) -> tuple[Params, pd.DataFrame]:
    """Try settings on validation weeks and return the one with the best mean average precision.

    Parameters
    ----------
    family : Family
    folds : sequence of Fold
        Validation weeks; all lie before the test.
    trials : int, optional
        How many of the family's settings, from the first; all by default.
    seed : int

    Returns
    -------
    params : mapping
    table : DataFrame
        ``family``, ``trial``, ``params`` (text), ``AP`` (mean over folds), ``worst``, ``seconds``
        (of all fits) and ``chosen``.

    Raises
    ------
    ValueError
        When there is no fold, or more trials are asked for than are listed.
    """
    if not len(folds):
        raise ValueError("no fold to tune on: give validation weeks that lie before the test")
    trials = len(family.trials) if trials is None else trials
    if not 1 <= trials <= len(family.trials):
        raise ValueError(f"{family.name} lists {len(family.trials)} trials: {trials} were asked")
    rows = []
    for number, params in enumerate(family.trials[:trials]):
        begun, found = time.perf_counter(), []
        for fold in folds:
            model = family.fit(fold.X_train, fold.y_train, params, seed)
            found.append(average_precision(fold.y_validation, model.score(fold.X_validation)))
        seconds = time.perf_counter() - begun
        rows.append((family.name, number, _text(params), np.mean(found), min(found), seconds))
    columns = ["family", "trial", "params", "AP", "worst", "seconds"]
    table = pd.DataFrame(rows, columns=columns)
    best = int(table["AP"].idxmax())
    return family.trials[best], table.assign(chosen=table.index == best)


def _text(params: Params) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())
