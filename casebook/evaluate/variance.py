"""Less noise without more users: CUPED with one covariate or several, and CUPAC.

Both subtract what a user's past predicts. The past must not depend on the arm; then the effect is
the same in expectation, and its variance falls by the share that the past explains.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


class Adjusted(NamedTuple):
    """A metric without what the past explains.

    Attributes
    ----------
    values : ndarray, shape (n,)
        With the mean of the metric itself.
    theta : ndarray, shape (k,)
        Slope of each covariate.
    explained : float
        Share of the metric's variance that is gone: rho² for one covariate.
    """

    values: np.ndarray
    theta: np.ndarray
    explained: float


def cuped(y: ArrayLike, x: ArrayLike, arm: ArrayLike | None = None) -> Adjusted:
    """Adjust a metric by covariates from before the test.

    Parameters
    ----------
    y : array_like, shape (n,)
        The metric of all users of both arms.
    x : array_like, shape (n,) or (n, k)
        Known before the test.
    arm : array_like, shape (n,), optional
        The slopes are fitted within the arms, so that an effect does not bend them; without it,
        over all users, which is the same for many users and small effects.

    Raises
    ------
    ValueError
        If values are missing.

    References
    ----------
    Deng et al. (2013), *Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data*, WSDM.

    Examples
    --------
    >>> before, after = [2, 4, 6, 8, 3, 5, 7, 9], [3, 3, 7, 7, 5, 5, 9, 9]
    >>> made = cuped(after, before, arm=[0, 0, 0, 0, 1, 1, 1, 1])
    >>> made.theta.round(3).tolist(), round(made.explained, 3)
    ([0.8], 0.8)
    >>> round(float(made.values[4:].mean() - made.values[:4].mean()), 3)
    1.2
    """
    y, x = np.asarray(y, float), np.asarray(x, float)
    x = x[:, None] if x.ndim == 1 else x
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise ValueError("The metric or a covariate has missing values: fill them (no visit: 0).")
    own_x, own_y = _centred(x, arm), _centred(y, arm)
    theta, *_ = np.linalg.lstsq(own_x, own_y, rcond=None)
    rest = own_y - own_x @ theta
    explained = 1 - rest.var() / own_y.var() if own_y.var() > 0 else 0.0
    return Adjusted(y - (x - x.mean(axis=0)) @ theta, theta, float(explained))


def _centred(values: np.ndarray, arm: ArrayLike | None) -> np.ndarray:
    """Return values less their mean, within each arm where arms are given."""
    if arm is None:
        return values - values.mean(axis=0)
    result = np.empty_like(values)
    for name in np.unique(arm):
        rows = np.asarray(arm) == name
        result[rows] = values[rows] - values[rows].mean(axis=0)
    return result


def features(people: pd.DataFrame, covariates: list[str] | tuple[str, ...]) -> pd.DataFrame:
    """Return covariates as numbers: counts as they are, words as codes in alphabetical order."""
    own = people[list(covariates)]
    words = own.select_dtypes(exclude="number").columns
    codes = {word: pd.Categorical(own[word]).codes.astype(float) for word in words}
    return own.assign(**codes).astype(float)


def predicted(
    table: pd.DataFrame, y: ArrayLike, folds: int = 2, seed: int = 0, trees: int = 120
) -> np.ndarray:
    """Predict the metric of each user by LightGBM that was fitted on the other folds.

    Parameters
    ----------
    table : DataFrame
        Features that are known before the test.
    y : array_like, shape (n,)
    folds, seed, trees : int
        No folds: one model of all users, which has seen whom it predicts.

    Returns
    -------
    ndarray, shape (n,)
        Predictions out of fold: a user's own value is never in the model that predicts it.
    """
    from lightgbm import LGBMRegressor
    from sklearn.model_selection import KFold

    y, result = np.asarray(y, float), np.empty(len(table))
    settings = {"num_leaves": 15, "learning_rate": 0.05, "min_child_samples": 50}
    whole = [(np.arange(len(y)), np.arange(len(y)))]
    cut = KFold(folds, shuffle=True, random_state=seed).split(table) if folds else whole
    for train, test in cut:
        model = LGBMRegressor(
            n_estimators=trees, random_state=seed, n_jobs=1, verbose=-1, **settings
        )
        model.fit(table.iloc[train], y[train])
        result[test] = model.predict(table.iloc[test])
    return result


def cupac(
    people: pd.DataFrame,
    y: ArrayLike,
    covariates: list[str] | tuple[str, ...],
    folds: int = 2,
    seed: int = 0,
    arm: ArrayLike | None = None,
) -> Adjusted:
    """Adjust a metric by a model's prediction from what was known before, and by the past itself.

    Parameters
    ----------
    people : DataFrame
        One row for each user.
    y : array_like, shape (n,)
        The metric.
    covariates : sequence of str
        Columns of ``people`` that are known before the test.
    folds, seed : int
        Of the cross-fitting.
    arm : array_like, optional
        As for :func:`cuped`.

    References
    ----------
    Li et al. (2020), *Improving online experiment capacity by 4X with parallelization and increased
    sensitivity*, DoorDash engineering.
    """
    table = features(people, covariates)
    score = predicted(table, y, folds, seed)
    return cuped(y, np.column_stack([score, table.to_numpy()]), arm)


def drawn_effects(y: np.ndarray, x: np.ndarray, runs: int, n: int) -> tuple[np.ndarray, ...]:
    """Return plain and adjusted effects of drawn users, and z of the adjusted ones."""
    rng, parts = np.random.default_rng(5), []
    for start in range(0, runs, 200):
        drawn = rng.integers(len(y), size=(min(200, runs - start), 2, n))
        own_y, own_x = y[drawn], x[drawn]
        mean_y, mean_x = own_y.mean(axis=-1), own_x.mean(axis=-1)
        yy, xx = own_y - mean_y[..., None], own_x - mean_x[..., None]
        theta = np.einsum("rai,rai->r", yy, xx) / np.einsum("rai,rai->r", xx, xx)
        rest = yy - theta[:, None, None] * xx
        se = np.sqrt(np.square(rest).sum(axis=-1).sum(axis=-1) / (n - 1) / n)
        plain = mean_y[:, 1] - mean_y[:, 0]
        effect = plain - theta * (mean_x[:, 1] - mean_x[:, 0])
        parts.append((plain, effect, effect / se))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def saved(drawn: tuple[np.ndarray, ...], claimed: float) -> dict[str, float]:
    """Return the variance ratio of plain and adjusted effects, with its interval."""
    plain, own, z = drawn
    picks = np.random.default_rng(0).integers(len(own), size=(400, len(own)))
    low, high = np.quantile(own[picks].var(axis=1) / plain[picks].var(axis=1), [0.025, 0.975])
    ratio, theory = own.var() / plain.var(), 1 - claimed
    ends = {"ratio": ratio, "low": low, "high": high, "theory": theory, "off": ratio / theory - 1}
    return {"runs": len(own), "claimed": claimed, **ends, "alarms": (np.abs(z) > 1.959964).mean()}
