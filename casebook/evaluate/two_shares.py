"""Is the share of one group larger? Groups of unequal size, small shares, one look or many.

* :func:`sample` and :func:`power` are the arithmetic of one one-sided look at the end;
* :func:`p_value` tests, :func:`exact_power` and :func:`exact_sample` are those of the exact test;
* :func:`log_evidence` may be looked at as often as one likes: with "both are alike" it exceeds
  ``log(1 / level)`` at any time with probability ``level`` at most (Ville's inequality);
  :func:`log_evidence_against` is the same where one share is known and nothing else compares.

References
----------
Wald (1945), *Sequential tests of statistical hypotheses*, Annals of Mathematical Statistics 16;
Johari, Koomen, Pekelis & Walsh (2022), *Always valid inference*, Operations Research 70.

Examples
--------
A rate of .1 % that doubles, with groups of equal size and with one of 5 %:

>>> sample(0.001, 0.002), sample(0.001, 0.002, share=0.05)
(Sizes(first=18519, second=18519), Sizes(first=8603, second=163442))
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

#: How many times larger the first group's share may be, for :func:`log_evidence`.
RATIOS = (1.5, 2.0, 4.0, 16.0)


class Sizes(NamedTuple):
    """Units of the group that is judged, and of the one that it is held against."""

    first: int
    second: int


def _check(base: float, bad: float, share: float, level: float, sides: int) -> None:
    if not (0 < base < 1 and 0 < bad < 1 and 0 < share < 1 and 0 < level < 0.5):
        raise ValueError(
            f"shares {base} and {bad}, group {share}, level {level}: all lie between 0 and 1, "
            "the level below one half."
        )
    if bad <= base or sides not in (1, 2):
        raise ValueError(f"shares {base}, {bad}, {sides} sides: the first is larger; 1 or 2.")


def _spreads(base: float, bad: float, share: float, variance: str) -> tuple[float, float]:
    """Return standard deviations of the difference for one unit of the first: alike, and not."""
    odds = share / (1 - share)  # units of the first group for one of the second
    middle = share * bad + (1 - share) * base
    apart = np.sqrt(bad * (1 - bad) + odds * base * (1 - base))
    alike = np.sqrt(middle * (1 - middle) * (1 + odds))
    if variance not in ("pooled", "unpooled"):
        raise ValueError(f"variance {variance!r}: pooled or unpooled.")
    return (alike if variance == "pooled" else apart), apart


def sample(
    base: float,
    bad: float,
    share: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
    sides: int = 1,
    variance: str = "pooled",
) -> Sizes:
    """Return the units with which one test finds that the first group's share is larger.

    Parameters
    ----------
    base, bad : float
        Share of the second group, and the larger one of the first that is to be found.
    share : float
        Of the units that are compared, those of the first group.
    power, level : float
        Chance of an alarm with ``bad``; with ``base`` (both are alike).
    sides : int
        1: only a larger share counts. 2 as in an A/B test.
    variance : str
        ``pooled`` (under "both are alike", the usual one) or ``unpooled`` (each group's own). For
        equal groups they agree; at 5/95 they differ by half, because one group alone decides.

    Returns
    -------
    Sizes

    Raises
    ------
    ValueError
        If a share is not between 0 and 1, or the first is not larger.
    """
    _check(base, bad, share, level, sides)
    alike, apart = _spreads(base, bad, share, variance)
    spread = stats.norm.isf(level / sides) * alike + stats.norm.ppf(power) * apart
    first = (spread / (bad - base)) ** 2
    return Sizes(int(np.ceil(first)), int(np.ceil(first * (1 - share) / share)))


def power(
    first: float,
    base: float,
    bad: float,
    share: float = 0.5,
    level: float = 0.05,
    sides: int = 1,
    variance: str = "pooled",
) -> float:
    """Return the chance of an alarm with ``first`` units; the others as of :func:`sample`.

    Examples
    --------
    >>> round(power(18_519, 0.001, 0.002), 3)
    0.8
    """
    _check(base, bad, share, level, sides)
    alike, apart = _spreads(base, bad, share, variance)
    z = ((bad - base) * np.sqrt(first) - stats.norm.isf(level / sides) * alike) / apart
    return float(stats.norm.cdf(z))


def p_value(
    first: ArrayLike, bad: ArrayLike, second: ArrayLike, second_bad: ArrayLike, test: str = "exact"
) -> np.ndarray:
    """Return one-sided p-values of "the first group's share is not larger".

    Parameters
    ----------
    first, bad, second, second_bad : array_like
        Units of each group and the bad ones among them.
    test : str
        ``exact``, the binomial test of the first group's part of the bad units (for small
        shares), or the z tests ``pooled`` and ``unpooled``.

    Examples
    --------
    >>> [f"{p_value(40, 9, 760, 79, test):.4f}" for test in ("exact", "pooled")]
    ['0.0319', '0.0085']
    """
    n, m = np.asarray(first, float), np.asarray(second, float)
    x, y = np.asarray(bad, float), np.asarray(second_bad, float)
    if test == "exact":
        return stats.binom.sf(x - 1, x + y, n / np.maximum(n + m, 1))
    a, b = x / n, y / m
    both = (x + y) / (n + m)
    if test == "pooled":
        variance = both * (1 - both) * (1 / n + 1 / m)
    elif test == "unpooled":
        variance = a * (1 - a) / n + b * (1 - b) / m
    else:
        raise ValueError(f"test {test!r}: exact, pooled or unpooled.")
    return stats.norm.sf((a - b) / np.sqrt(np.maximum(variance, 1e-300)))


def exact_power(
    first: int, base: float, bad: float, share: float = 0.5, level: float = 0.05
) -> float:
    """Return how often the exact test alarms, from its own distribution (small shares)."""
    _check(base, max(bad, base * 1.001), share, level, 1)
    odds = share / (1 - share)
    mean = first * (bad + base / odds)
    total = np.arange(int(stats.poisson.ppf(1e-9, mean)), int(stats.poisson.isf(1e-9, mean)) + 1)
    most = stats.binom.isf(level, total, share)  # more than this many are too many
    part = odds * bad / (odds * bad + base)
    return float(stats.poisson.pmf(total, mean) @ stats.binom.sf(most, total, part))


@cache
def exact_sample(
    base: float, bad: float, share: float = 0.5, power: float = 0.8, level: float = 0.05
) -> Sizes:
    """Return units from which on the exact test has a power, to one per cent.

    The power of an exact test is a saw: it falls where one bad unit more is needed. Counted is
    the size from which on it stays above.

    Examples
    --------
    >>> exact_sample(0.01, 0.02)
    Sizes(first=2000, second=2000)
    """
    rough = sample(base, bad, share, power, level).first
    sizes = np.arange(0.8, 1.8, 0.01) * rough
    digits = -int(np.floor(np.log10(rough))) + 1
    sizes = np.unique(np.round(sizes, digits)).astype(int)
    enough = np.array([exact_power(n, base, bad, share, level) >= power for n in sizes])
    first = int(sizes[len(enough) - enough[::-1].argmin()])
    return Sizes(first, round(first * (1 - share) / share))


def log_evidence(
    first: ArrayLike,
    bad: ArrayLike,
    second: ArrayLike,
    second_bad: ArrayLike,
    ratios: Sequence[float] = RATIOS,
) -> np.ndarray:
    """Return the logarithm of the mean likelihood ratio of "ratio times larger" to "alike".

    Of the bad units, the first group's are a share w if both are alike (w is its share of all
    units) and r w / (r w + 1 - w) if its share is r times larger. So one bad unit of the first
    group multiplies the ratio by r / (1 + (r - 1) w), one of the second by 1 / (1 + (r - 1) w).

    Parameters
    ----------
    first, bad, second, second_bad : array_like
        Numbers so far; the first group's share of the units must not change meanwhile.
    ratios : sequence of float
        Above 1. Any values keep the level; near the truth they give power.

    Examples
    --------
    Nine of 1,000 against 19 of 19,000:

    >>> float(np.exp(log_evidence(1_000, 9, 19_000, 19)).round())
    4038.0
    """
    n, m, x, y = (np.asarray(v, float) for v in (first, second, bad, second_bad))
    share = n / np.maximum(n + m, 1)
    r = np.asarray(ratios, float).reshape(-1, *([1] * share.ndim))
    logs = x * np.log(r) - (x + y) * np.log1p((r - 1) * share)
    return np.logaddexp.reduce(logs, axis=0) - np.log(len(r))


def log_evidence_against(
    n: ArrayLike, bad: ArrayLike, usual: float, ratios: Sequence[float] = RATIOS
) -> np.ndarray:
    """Return the same evidence where there is no second group, but a share that is usual.

    It holds for any share up to the usual one: a bad unit multiplies the ratio by r, and each unit
    by ``exp(-(r - 1) usual)``, so that its mean never rises.

    Parameters
    ----------
    n, bad : array_like
        Numbers so far.
    usual : float
        A share that is known beforehand, such as the upper end of its interval.
    ratios : sequence of float

    Examples
    --------
    >>> float(np.exp(log_evidence_against(1_000, 9, 0.001)).round())
    3825.0
    """
    n, x = np.asarray(n, float), np.asarray(bad, float)
    r = np.asarray(ratios, float).reshape(-1, *([1] * x.ndim))
    logs = x * np.log(r) - (r - 1) * usual * n
    return np.logaddexp.reduce(logs, axis=0) - np.log(len(r))


def upper(bad: int, n: int, level: float = 0.99) -> float:
    """Return the upper end of a share's one-sided interval (Wilson), the usual share of a stage.

    Examples
    --------
    >>> f"{upper(10, 10_000):.4f}"
    '0.0020'
    """
    return float(stats.binomtest(bad, n, alternative="less").proportion_ci(level, "wilson").high)
