"""Levels of what is new: a regression on attributes, and how many own days it counts for.

Examples
--------
Two kinds of cells; each level scatters by 20 % around its kind, a day by 40 % around its level:

>>> rng = np.random.default_rng(0)
>>> kind = np.repeat(np.eye(2), 200, axis=0)
>>> level = np.exp(kind @ [1.0, 2.0] + 0.2 * rng.standard_normal(400))
>>> made = prior(kind, level, np.full(400, 100.0), noise=0.16)
>>> np.log(made.level[[0, -1]]).round(1).tolist(), round(made.days)
([1.0, 2.0], 4)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Days that a prior counts for at most.
MOST = 30.0


@dataclass(frozen=True)
class Prior:
    """Levels by attributes, shape (n,), and the days of its own that each counts for."""

    level: np.ndarray
    days: float


def means_of_groups(
    values: np.ndarray, known: np.ndarray, groups: Sequence[np.ndarray], otherwise: float
) -> np.ndarray:
    """Return for each cell the mean of the known cells of its group.

    Parameters
    ----------
    values : ndarray, shape (n,)
    known : ndarray of bool, shape (n,)
    groups : sequence of ndarray of int, shape (n,)
        From the widest to the narrowest: the last one in which a cell is known counts.
    otherwise : float
        Where there is none.

    Examples
    --------
    >>> one, seen = np.array([0, 0, 1]), np.array([True, False, False])
    >>> means_of_groups(np.array([4.0, 0.0, 0.0]), seen, [one], 9.0).tolist()
    [4.0, 4.0, 9.0]
    """
    result = np.full(len(values), otherwise)
    for group in groups:
        n = np.bincount(group[known], minlength=group.max() + 1)
        total = np.bincount(group[known], values[known], minlength=group.max() + 1)
        result = np.where(n[group] > 0, total[group] / np.maximum(n[group], 1), result)
    return result


def prior(
    X: np.ndarray, level: np.ndarray, seen: np.ndarray, noise: float, least: float = 100.0
) -> Prior:
    """Learn levels from attributes.

    Parameters
    ----------
    X : ndarray, shape (n, k)
        What is known of each cell before its first day.
    level : ndarray, shape (n,)
        Units a day, as far as they were learnt.
    seen : ndarray, shape (n,)
        Days on which each was seen; cells with fewer than ``least`` teach nothing.
    noise : float
        Variance of a day's value over its expectation.

    Returns
    -------
    Prior
        Its weight is that of Bühlmann's credibility: the noise of a day over the spread of the
        levels around the regression.

    Raises
    ------
    ValueError
        If no cell was seen for long enough.

    References
    ----------
    Bühlmann (1967), *Experience rating and credibility*, ASTIN Bulletin.
    """
    old = np.asarray(seen) >= least
    if not old.any():
        raise ValueError(f"no cell was seen for {least:g} days: there is nothing to learn from.")
    y = np.log(np.maximum(level[old], 0.05))
    ridge = 0.1 * np.eye(X.shape[1])
    beta = np.linalg.solve(X[old].T @ X[old] + ridge, X[old].T @ y)
    spread = (y - X[old] @ beta).var()
    return Prior(np.exp(X @ beta + spread / 2), float(min(noise / max(spread, 1e-6), MOST)))
