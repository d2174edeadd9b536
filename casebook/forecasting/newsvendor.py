"""The newsvendor: what to order when too little and too much cost different amounts.

One more unit is needed with a chance of ``1 - F(q)`` and left over with ``F(q)``. It pays as long
as ``short * (1 - F(q)) > over * F(q)``; so the cheapest order is the quantile of demand at
``short / (short + over)``, the *critical ratio*, and no other number of the distribution.

Examples
--------
>>> round(critical_ratio(short=5, over=2), 3)
0.714
>>> demand = np.array([2, 3, 3, 4, 8])
>>> [float(cost(demand, q, 5, 2).sum()) for q in (3, 4, 5, 8)]
[32.0, 28.0, 31.0, 40.0]
>>> order_at(demand, critical_ratio(5, 2))
4.0
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

#: How the spread of a window grows with its plan; chosen on worlds 1 to 3 of case 03.
POWER = 0.75


def critical_ratio(short: float, over: float) -> float:
    """Return the share of periods in which the cheapest order suffices.

    Parameters
    ----------
    short, over : float
        What a unit too few and a unit too many cost, both above 0.

    Raises
    ------
    ValueError
        On a cost that is not above 0: then nothing, or everything, would be ordered.

    References
    ----------
    Arrow, Harris & Marschak (1951), *Optimal inventory policy*, Econometrica.
    """
    if not (0 < short < np.inf and 0 < over < np.inf):
        raise ValueError(f"short {short}, over {over}: both costs are numbers above 0.")
    return short / (short + over)


def over_for(level: float, short: float) -> float:
    """Return what a unit too many must cost for a level to be the critical ratio.

    Examples
    --------
    P95 is right where a unit too many costs no more than a nineteenth of one too few:

    >>> round(over_for(0.95, short=5), 3)
    0.263
    """
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}: it lies between 0 and 1.")
    return short * (1 - level) / level


def cost(demand: ArrayLike, order: ArrayLike, short: float, over: float) -> np.ndarray:
    """Return what orders cost beyond those of a clairvoyant, of the shape of both together.

    It is the pinball loss at the critical ratio, times ``short + over``.
    """
    gap = np.asarray(demand, float) - np.asarray(order, float)
    return np.maximum(short * gap, -over * gap)


def order_at(demand: ArrayLike, level: float) -> float:
    """Return the smallest of some demands that suffices for a share of them.

    Raises
    ------
    ValueError
        Without demands, if one is missing, or if the level is none.
    """
    values = np.asarray(demand, float)
    if not values.size or np.isnan(values).any() or not 0 < level < 1:
        raise ValueError(f"{values.size} demands, level {level}: give known ones and a share.")
    return float(np.quantile(values, level, method="inverted_cdf"))


def window_spread(
    wanted: np.ndarray, plan: np.ndarray, cell: np.ndarray, cells: int, least: int = 15
) -> np.ndarray:
    """Return how far windows fell from their plan, in units over a power of the plan, (cells,).

    No day is taken for independent of the next one: the error of the whole window is measured. Its
    standard deviation grows with ``plan ** POWER``, between a Poisson count's (one half) and that
    of a shock (one), so one number of a cell serves its quiet weeks and its promotions.

    Parameters
    ----------
    wanted, plan : ndarray, shape (n,)
        Units of past windows.
    cell : ndarray of int, shape (n,)
        Whose window it was.
    cells : int
        How many there are; one with fewer than ``least`` windows gets the spread of all.

    Examples
    --------
    >>> made = np.repeat([4.0, 4.0], 50)
    >>> missed = made + np.tile([-2.0, 2.0], 50)
    >>> window_spread(missed, made, np.repeat([0, 1], 50), 3).round(2).tolist()
    [0.71, 0.71, 0.71]
    """
    scale = np.maximum(plan, 0.5) ** POWER
    squares = np.square((wanted - plan) / scale)
    n = np.bincount(cell, minlength=cells)
    own = np.bincount(cell, squares, cells) / np.maximum(n, 1)
    return np.sqrt(np.where(n >= least, own, squares.mean()))


def over_plan(plan: ArrayLike, spread: ArrayLike, level: ArrayLike) -> np.ndarray:
    """Return the normal quantile of windows by their plan and :func:`window_spread`."""
    from scipy.special import ndtri

    return plan + ndtri(level) * spread * np.maximum(plan, 0.5) ** POWER


def safety_stock(
    sigma: ArrayLike, days: float, level: float, mean: ArrayLike = 0.0, lead_sd: float = 0.0
) -> np.ndarray:
    """Return what is ordered beyond the point forecast, by the textbook.

    The demands of single days are taken for independent and normal. Then the sum over the days that
    an order must last has the variance ``days * sigma**2``, and an uncertain lead time adds ``(mean
    * lead_sd)**2``. The level's quantile lies ``z`` standard deviations above the mean.

    Parameters
    ----------
    sigma : array_like
        Standard deviation of the error of a day's forecast, in units.
    days : float
        That the order must last.
    level : float
        Share of the orders that are to suffice.
    mean : array_like
        Units a day.
    lead_sd : float
        Standard deviation of the lead time, in days.

    Returns
    -------
    ndarray
        Units; below 0 for a level under one half.

    Examples
    --------
    >>> safety_stock(sigma=3.0, days=4, level=0.975).round(2).item()
    11.76
    >>> safety_stock(3.0, 4, 0.975, mean=5.0, lead_sd=1.0).round(2).item()
    15.31
    """
    from scipy.special import ndtri

    spread = np.sqrt(days * np.square(sigma) + np.square(np.asarray(mean) * lead_sd))
    return ndtri(level) * spread
