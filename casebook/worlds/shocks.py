"""Shocks that fade: autoregressive paths of a world, and how they may go on from a day.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> path = paths(rng, (2000, 3), rho=0.9, sd=0.2)
>>> path.shape, bool(abs(path.std() - 0.2) < 0.02)
((2000, 3), True)
>>> ahead = onward(rng, np.array([0.4]), rho=0.9, sd=0.2, days=2, draws=40_000)
>>> ahead.mean(axis=0).round(1).ravel().tolist()
[0.4, 0.3]
"""

from __future__ import annotations

import numpy as np


def paths(rng: np.random.Generator, shape: tuple[int, int], rho: float, sd: float) -> np.ndarray:
    """Draw stationary autoregressive paths, one a column.

    Parameters
    ----------
    rng : Generator
    shape : tuple of int
        Days, paths.
    rho, sd : float
        What is left a day later; stationary standard deviation.
    """
    steps = rng.standard_normal(shape)
    path = np.empty(shape)
    path[0] = steps[0]
    for day in range(1, shape[0]):
        path[day] = rho * path[day - 1] + np.sqrt(1 - rho**2) * steps[day]
    return sd * path


def onward(
    rng: np.random.Generator, now: np.ndarray, rho: float, sd: float, days: int, draws: int
) -> np.ndarray:
    """Draw how shocks go on.

    Parameters
    ----------
    now : ndarray, shape (n,) or (draws, n)
        Today's.
    days, draws : int

    Returns
    -------
    ndarray, shape (draws, days, n)
        From tomorrow on.
    """
    path = np.empty((draws, days, now.shape[-1]))
    x, step = np.broadcast_to(now, (draws, now.shape[-1])), sd * np.sqrt(1 - rho**2)
    for day in range(days):
        x = rho * x + step * rng.standard_normal(x.shape)
        path[:, day] = x
    return path
