"""The population stability index, and what it is when nothing has changed.

The usual limits (.1, .25) hold for large samples. Of ``n`` and ``m`` values of the same
distribution in ``b`` bins the index is about ``(b - 1) (1/n + 1/m)`` and not 0: a limit for a small
group must lie above that.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> a, b = rng.normal(size=5_000), rng.normal(size=5_000)
>>> round(psi(a, b), 3), round(noise(5_000, 5_000), 3), round(psi(a, b + 0.5), 2)
(0.005, 0.011, 0.27)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def psi(before: ArrayLike, now: ArrayLike, bins: int = 10) -> float:
    """Return the population stability index of two samples.

    Parameters
    ----------
    before, now : array_like, shapes (n,) and (m,)
    bins : int
        Of equal counts in ``before``; equal values stay in one bin.

    Raises
    ------
    ValueError
        If a sample is empty or a value is no finite number.
    """
    before, now = np.asarray(before, float).ravel(), np.asarray(now, float).ravel()
    if not len(before) or not len(now) or bins < 2:
        raise ValueError(f"{len(before)} and {len(now)} values in {bins} bins: give some of each.")
    if not (np.isfinite(before).all() and np.isfinite(now).all()):
        raise ValueError("a value is no finite number: count missing ones apart.")
    edges = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = []
    for values in (before, now):
        counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
        shares.append((counts + 0.5) / (len(values) + 0.5 * (len(edges) + 1)))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def noise(n: int, m: int, bins: int = 10, level: float = 0.999) -> float:
    """Return what the index exceeds in one of a thousand comparisons where nothing has changed.

    Parameters
    ----------
    n, m : int
        Sizes of the samples.
    bins : int
    level : float

    Notes
    -----
    Divided by ``1/n + 1/m`` the index is about chi-squared with ``bins - 1`` degrees of freedom.

    References
    ----------
    Yurdakul & Naranjo (2020), *Statistical properties of the population stability index*, Journal
    of Risk Model Validation 14.
    """
    from scipy.stats import chi2

    return float(chi2.ppf(level, bins - 1) * (1 / n + 1 / m))
