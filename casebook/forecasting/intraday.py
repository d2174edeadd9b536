"""The rest of a day, from what was wanted so far: a gamma prior, updated by Poisson counts.

A day's rate has a gamma distribution with the mean of the forecast. After a share of the day with
``x`` units wanted it is still a gamma, and the demand of any later share is negative binomial.

Examples
--------
Ten units are expected; half of the day has passed and twelve have gone:

>>> day = Day(mean=np.array([10.0]), shape=8.0)
>>> day.ahead(0.5).round(2).tolist(), day.seen(0.5, np.array([12.0])).ahead(0.5).round(2).tolist()
([5.0], [7.69])
>>> day.seen(0.5, np.array([12.0])).order(0.5, 5 / 7).tolist()
[9.0]

A second van at noon brings what the morning has shown to be missing:

>>> wanted = np.array([[8.0], [9.0]])
>>> for arrivals in ((0,), (0, 1)):
...     bill = ordered(wanted, day, Vans((0.5, 0.5), arrivals), short=5, over=2, level=5 / 7)
...     print(arrivals, round(bill["cost"], 1), bill["later"])
(0,) 25.0 0.0
(0, 1) 11.5 5.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Day:
    """What a day's demand may be.

    Attributes
    ----------
    mean : ndarray, shape (n,)
        Of the whole day, above 0.
    shape : float
        Of the gamma: more is less uncertain.
    passed, units : ndarray or float
        Share of the day that was seen, and units wanted in it.
    """

    mean: np.ndarray
    shape: float
    passed: np.ndarray | float = 0.0
    units: np.ndarray | float = 0.0

    def __post_init__(self) -> None:
        if not (np.asarray(self.mean) > 0).all() or not 0 < self.shape < np.inf:
            raise ValueError("a day has means and a shape above 0.")

    def seen(self, share: np.ndarray | float, units: np.ndarray) -> Day:
        """Return the day after a share more was seen; 0 for cells of which nothing is known."""
        return Day(self.mean, self.shape, self.passed + share, self.units + units)

    def _rate(self) -> np.ndarray:
        return self.shape / self.mean + self.passed

    def ahead(self, share: float) -> np.ndarray:
        """Return the mean demand of a later share of the day."""
        return share * (self.shape + self.units) / self._rate()

    def order(self, share: float, level: float) -> np.ndarray:
        """Return the units that suffice for a later share of the day with a level."""
        from scipy.stats import nbinom

        rate = self._rate()
        return nbinom.ppf(level, self.shape + self.units, rate / (rate + share))


def shape_of(units: np.ndarray, mean: np.ndarray) -> float:
    """Return the shape of the gamma from past days and their forecasts, by moments; at most 50.

    The variance of a ratio is one over the shape, and one over the mean for the Poisson.
    """
    base = np.maximum(mean, 1.0)
    noise = np.square(units / base - 1).mean() - (1 / base).mean()
    return float(1 / max(noise, 0.02))


@dataclass(frozen=True)
class Vans:
    """When goods come in a day.

    Attributes
    ----------
    shares : sequence of float
        Of a day's demand, by part of the day.
    arrivals : sequence of int
        Parts before which a van comes; what the first one brings was ordered the day before.
    extra : float
        Euro a unit of a later van.
    ample : float
        Level of an order that a later van follows: what is left then is sold later.
    """

    shares: Sequence[float]
    arrivals: Sequence[int] = (0,)
    extra: float = 0.3
    ample: float = 0.95

    def __post_init__(self) -> None:
        parts = [*self.arrivals]
        inside = set(parts) <= set(range(len(self.shares)))
        if abs(sum(self.shares) - 1) > 1e-9 or parts[:1] != [0] or not inside:
            raise ValueError(f"shares {self.shares} are one together, arrivals {self.arrivals} "
                             "begin with part 0.")  # fmt: skip
        if parts != sorted(set(parts)) or not 0 < self.ample < 1 or not self.extra >= 0:
            raise ValueError("each arrival is told once, in order; ample is a level, extra euro.")


def ordered(
    wanted: np.ndarray, day: Day, vans: Vans, short: float, over: float, level: float
) -> dict[str, float]:
    """Bill days of goods that live a day; each van brings what lifts the stock to its quantile.

    Parameters
    ----------
    wanted : ndarray, shape (parts, n)
    day : Day
        As it is forecast the evening before, n cells.
    vans : Vans
    short, over : float
    level : float
        Of the last van's order, less what a later van costs.

    Returns
    -------
    dict
        ``cost`` and its parts ``short`` and ``over``, in euro; ``later`` (units of later vans).
    """
    stock, missed, later = np.zeros(wanted.shape[1]), 0.0, 0.0
    for part, share in enumerate(vans.shares):
        if part in vans.arrivals:
            after = [k for k in vans.arrivals if k > part]
            until = after[0] if after else len(vans.shares)
            at = vans.ample if after else level - vans.extra / (short + over) * (part > 0)
            more = np.maximum(day.order(sum(vans.shares[part:until]), at) - stock, 0)
            stock, later = stock + more, later + more.sum() * (part > 0)
        sold = np.minimum(stock, wanted[part])
        missed, stock = missed + (wanted[part] - sold).sum(), stock - sold
        known = stock > 0  # an empty shelf does not tell what was wanted
        day = day.seen(share * known, sold * known)
    parts = {"short": float(short * missed), "over": float(over * stock.sum())}
    return {"cost": sum(parts.values()) + vans.extra * later, **parts, "later": float(later)}
