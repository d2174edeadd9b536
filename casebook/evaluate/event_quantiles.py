"""Quantiles over events that belong to units: the loading times of a user's sessions.

Examples
--------
>>> quantile_with_se([100, 200, 300, 400], ["a", "a", "b", "b"], 0.5)[0]
250.0
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from casebook.evaluate.experiments import Effect, arm_values, effect_of, ratio_with_se

#: Share of the events with one value from which ties are spread.
TIED = 0.005


def quantile_with_se(
    values: ArrayLike, units: ArrayLike, q: float, level: float = 0.95
) -> tuple[float, float]:
    """Return a quantile over events with its standard error, where events belong to units.

    The share of events below the quantile is a ratio of two sums over units; its interval, read
    from the empirical distribution, is that of the quantile (Woodruff). Where more than one event
    in two hundred has the very value of the quantile, as with rounded loading times, equal values
    are first spread evenly over the way to their neighbours: the distribution would jump.

    Parameters
    ----------
    values : array_like, shape (n,)
        One for each event, such as a loading time.
    units : array_like, shape (n,)
        The unit of each event.
    q : float
        Between 0 and 1.
    level : float
        Where the distribution is read: the standard error is half the width over the normal
        quantile.

    References
    ----------
    Woodruff (1952), *Confidence intervals for medians and other position measures*, JASA 47; Liu et
    al. (2019), *Large-scale online experimentation with quantile metrics*, ICSE-SEIP.
    """
    from scipy.stats import norm

    if not 0 < q < 1:
        raise ValueError(f"q is {q}: a quantile lies between 0 and 1.")
    own = arm_values(values, "values")
    if (own == np.quantile(own, q)).mean() > TIED:
        own = _spread(own)
    values = np.sort(own)
    at = float(np.quantile(values, q))
    _, codes = np.unique(np.asarray(units), return_inverse=True)
    below = np.bincount(codes, own <= at)
    share, se = ratio_with_se(below, np.bincount(codes))
    z = norm.ppf((1 + level) / 2)
    low, high = np.quantile(values, np.clip([share - z * se, share + z * se], 0, 1))
    return at, float((high - low) / (2 * z))


def _spread(values: np.ndarray) -> np.ndarray:
    """Return values whose ties are spread evenly between the midpoints to the next values."""
    levels, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(levels) == 1:
        return values
    middle = (levels[1:] + levels[:-1]) / 2
    low = np.r_[2 * levels[0] - middle[0], middle]
    high = np.r_[middle, 2 * levels[-1] - middle[-1]]
    order = np.argsort(codes, kind="stable")
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    return low[codes] + (rank + 0.5) / counts[codes] * (high - low)[codes]


def quantile_effect(
    control: tuple[ArrayLike, ArrayLike],
    treatment: tuple[ArrayLike, ArrayLike],
    q: float,
    level: float = 0.95,
) -> Effect:
    """Return the difference of two quantiles over events that belong to units.

    Parameters
    ----------
    control, treatment : pair of array_like, shape (n,)
        Values and units of the events of an arm, as for :func:`quantile_with_se`.
    q, level : float
    """
    return effect_of(*quantile_with_se(*control, q), *quantile_with_se(*treatment, q), level)
