"""Losses of quantiles and of the interval between two of them.

Examples
--------
>>> pinball([10.0, 12.0], [11.0, 11.0], 0.9)
0.5
>>> interval_score([10.0, 14.0], [9.0, 9.0], [12.0, 12.0], 0.8).round(6).tolist()
[3.0, 23.0]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def _arrays(level: float, *values: ArrayLike) -> list[np.ndarray]:
    """Return arrays of one shape without missing values."""
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}: it lies between 0 and 1.")
    arrays = [np.asarray(value, float) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"shapes differ: {sorted(shapes)}. Align actuals and quantiles first.")
    if missing := int(np.isnan(arrays).sum()):
        raise ValueError(f"{missing} values are missing: drop them on all sides before you score.")
    return arrays


def pinball_losses(actual: ArrayLike, quantile: ArrayLike, level: float) -> np.ndarray:
    """Return the pinball loss of each forecast of a quantile.

    Parameters
    ----------
    actual, quantile : array_like, shape (n,)
        In the same unit.
    level : float
        Of the quantile, such as 0.9.

    Returns
    -------
    ndarray, shape (n,)
        ``level`` for each unit that the actual lies above, ``1 - level`` for each below.

    Raises
    ------
    ValueError
        On different shapes, missing values, or a level that is none.
    """
    actual, quantile = _arrays(level, actual, quantile)
    return np.maximum(level * (actual - quantile), (level - 1) * (actual - quantile))


def pinball(actual: ArrayLike, quantile: ArrayLike, level: float) -> float:
    """Return the mean of :func:`pinball_losses`."""
    return float(pinball_losses(actual, quantile, level).mean())


def interval_score(
    actual: ArrayLike, low: ArrayLike, high: ArrayLike, level: float = 0.8
) -> np.ndarray:
    """Return the interval score of each central interval; lower is better.

    Parameters
    ----------
    actual, low, high : array_like, shape (n,)
        In the same unit.
    level : float
        Share that the interval is meant to cover.

    Returns
    -------
    ndarray, shape (n,)
        The width, and ``2 / (1 - level)`` for each unit by which the actual lies outside. Its
        mean is least for the true quantiles ``(1 - level) / 2`` and ``(1 + level) / 2``.

    Raises
    ------
    ValueError
        As for :func:`pinball_losses`, and where an interval ends before it begins.

    References
    ----------
    Gneiting & Raftery (2007), *Strictly proper scoring rules, prediction, and estimation*, JASA.
    """
    actual, low, high = _arrays(level, actual, low, high)
    if crossed := int((low > high).sum()):
        raise ValueError(f"{crossed} intervals end before they begin: sort their quantiles first.")
    outside = np.maximum(low - actual, 0) + np.maximum(actual - high, 0)
    return high - low + 2 / (1 - level) * outside


def uncrossed(quantiles: ArrayLike) -> np.ndarray:
    """Sort each row's quantiles, shape (n, levels): no loss grows by it.

    References
    ----------
    Chernozhukov, Fernández-Val & Galichon (2010), *Quantile and probability curves without
    crossing*, Econometrica.
    """
    return np.sort(np.asarray(quantiles, float), axis=1)


def crossings(quantiles: ArrayLike) -> float:
    """Return the share of rows whose quantiles, shape (n, levels), are not in order."""
    return float((np.diff(np.asarray(quantiles, float), axis=1) < 0).any(axis=1).mean())
