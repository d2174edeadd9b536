"""The population stability index, and what it is when nothing has changed.

The usual limits (.1, .25) hold for large samples. Of ``n`` and ``m`` values of the same
distribution in ``b`` bins the index is about ``(b - 1) (1/n + 1/m)`` and not 0: a limit for a small
group must lie above that. :class:`Bins` keeps a reference for many comparisons and subtracts that
expectation, with the bins that are really there: of a flag there are two and not ten, of a constant
three: the value, what is below it and what is above.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> a, b = rng.normal(size=5_000), rng.normal(size=5_000)
>>> round(psi(a, b), 3), round(noise(5_000, 5_000), 3), round(psi(a, b + 0.5), 2)
(0.005, 0.011, 0.27)
>>> bins = Bins.of(a)
>>> value = bins.psi(bins.counts(b))
>>> float(round(value - bins.expected(5_000), 3)), float(round(bins.p_value(value, 5_000), 2))
(0.002, 0.14)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def psi(before: ArrayLike, now: ArrayLike, bins: int = 10) -> float:
    """Return the population stability index of two samples.

    Parameters
    ----------
    before, now : array_like, shapes (n,) and (m,)
    bins : int
        Of equal counts in ``before``; equal values stay in one bin, and where the lowest holds one
        value only, smaller ones in ``now`` have a bin of their own.

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
    if now.min() < before.min() == edges[0]:
        edges = np.r_[np.nextafter(edges[0], -np.inf), edges]
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


@dataclass(frozen=True)
class Bins:
    """A reference sample in bins, with which later samples are compared.

    Attributes
    ----------
    edges : ndarray of float, shape (bins - 1,)
        Between the bins; equal values of the reference stay in one bin.
    shares : ndarray of float, shape (bins,)
        Of the reference, with half a value added to each bin as in :func:`psi`.
    size : int
        Values of the reference.
    """

    edges: np.ndarray
    shares: np.ndarray
    size: int

    @classmethod
    def of(cls, before: ArrayLike, bins: int = 10) -> Bins:
        """Cut a reference into bins of equal counts.

        Raises
        ------
        ValueError
            If it is empty, a value is no finite number, or there are fewer than two bins.
        """
        before = np.asarray(before, float).ravel()
        if not len(before) or bins < 2 or not np.isfinite(before).all():
            raise ValueError(f"{len(before)} values in {bins} bins: give finite numbers, 2 bins.")
        edges = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]))
        edges = edges[edges < before.max()]  # nothing of the reference lies above the last
        if not len(edges):
            edges = np.array([np.nextafter(before.max(), -np.inf), before.max()])
        made = cls(edges, np.empty(0), len(before))
        return cls(edges, _smoothed(made.counts(before)), len(before))

    def counts(self, now: ArrayLike, group: ArrayLike | None = None, groups: int = 1) -> np.ndarray:
        """Count values by bin, or by group and bin.

        Parameters
        ----------
        now : array_like, shape (n,)
            Missing values are left out: count them apart.
        group : array_like of int, shape (n,), optional
            From 0 to ``groups - 1``, such as the day.
        groups : int

        Returns
        -------
        ndarray, shape (bins,), or (groups, bins) with ``group``
        """
        now, width = np.asarray(now, float).ravel(), len(self.edges) + 1
        there = ~np.isnan(now)
        cell = np.searchsorted(self.edges, now[there], side="left")
        if group is None:
            return np.bincount(cell, minlength=width)
        cell = np.asarray(group)[there] * width + cell
        return np.bincount(cell, minlength=groups * width).reshape(groups, width)

    def psi(self, counts: np.ndarray) -> np.ndarray | float:
        """Return the index of counts by bin, shape (..., bins) to (...)."""
        share = _smoothed(counts)
        found = ((share - self.shares) * np.log(share / self.shares)).sum(axis=-1)
        return float(found) if np.ndim(found) == 0 else found

    def expected(self, n: ArrayLike) -> np.ndarray | float:
        """Return about what the index is where nothing has changed, for ``n`` values."""
        return (len(self.shares) - 1) * (1 / np.asarray(n, float) + 1 / self.size)

    def p_value(self, value: ArrayLike, n: ArrayLike) -> np.ndarray | float:
        """Return the probability of such an index or a larger one where nothing has changed.

        It knows the noise of sampling alone: if days differ by more, it is too small.
        """
        from scipy.stats import chi2

        scaled = np.asarray(value, float) / (1 / np.asarray(n, float) + 1 / self.size)
        return chi2.sf(scaled, max(1, len(self.shares) - 1))


def _smoothed(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, float) + 0.5
    return counts / counts.sum(axis=-1, keepdims=True)


def by_chance(
    sizes: Sequence[int] = (100, 200, 500, 2_000, 10_000),
    reference: int = 20_000,
    runs: int = 2_000,
    columns: int = 23,
) -> pd.DataFrame:
    """Draw PSIs of two samples of one distribution: what an index in ten bins has by chance.

    Parameters
    ----------
    sizes : sequence of int
        Rows of a day.
    reference, runs : int
        Rows of the reference, draws.
    columns : int
        Columns that are watched together.

    Returns
    -------
    DataFrame
        ``n`` (size of the day), ``m`` (of the reference), ``mean``, ``expected`` ((bins - 1)(1/n +
        1/m)), ``q95``, ``over_10`` and ``over_25`` (shares above .10 and .25), ``any_10`` (share of
        days on which one of so many such columns is above .10), ``p_05`` (share with p < .05).
    """
    rng = np.random.default_rng(21)
    rows = []
    for n in sizes:
        bins = Bins.of(rng.random(reference))
        # what the bins of a reference truly hold: each run has a reference of its own
        truly = rng.dirichlet(np.full(10, reference / 10), size=runs)
        found = bins.psi(rng.multinomial(n, truly))
        over = float((found > 0.10).mean())
        small = float((bins.p_value(found, n) < 0.05).mean())
        values = (n, reference, found.mean(), bins.expected(n), np.quantile(found, 0.95), over)
        rows.append((*values, float((found > 0.25).mean()), 1 - (1 - over) ** columns, small))
    names = ["n", "m", "mean", "expected", "q95", "over_10", "over_25", "any_10", "p_05"]
    return pd.DataFrame(rows, columns=names)
