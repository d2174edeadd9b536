"""Levels that follow sales day by day, and fill the days that sold out.

A day's expectation is a cell's *level* times a *factor* that is known ahead (weekday, season,
calendar, promotion). The level is a gamma-Poisson filter: sums of demand and of factors, in which
older days count less. A day that sold out is filled with the mean of the demand that such a day may
have had (:mod:`.unconstrain`), or left as it is, or dropped.

Examples
--------
A cell sells four units on one day, and is sold out with three on the next, again and again:

>>> days, one = np.arange(80), np.ones((80, 1))
>>> sold_out = (days % 2 == 1)[:, None]
>>> sales, sells = np.where(sold_out, 3.0, 4.0), np.ones((80, 1), bool)
>>> tails = {(0, k): SquaredNormal(0.97, 0.25) for k in range(4)}
>>> for way in ("as sold", "tobit"):
...     start = Prior(np.array([4.0]), 2.0)
...     levels = Levels(one, sells, np.zeros(1, int), way, tails, start)
...     print(way, round(float(follow(levels, sales, sold_out).level[-1, 0]), 1))
as sold 3.5
tobit 4.9
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from casebook.forecasting.credibility import Prior
from casebook.forecasting.unconstrain import Curve, SquaredNormal, Tail, tobit

#: What is done about days that sold out.
WAYS = ("as sold", "dropped", "kaplan_meier", "tobit")
#: What is left of a day's weight a day later; chosen on worlds 1 and 2 of case 03.
MEMORY = 0.95
#: Expected units a day at which the tails change.
BINS = (2.5, 5.0, 10.0)
#: The first days of a history only bring the levels to where they belong.
WARM_UP = 56


@dataclass
class Levels:
    """Levels that follow the sales of all cells.

    Parameters
    ----------
    factor : ndarray, shape (days, cells)
        Of the days to come, too; 0 on days on which nothing is sold.
    sells : ndarray of bool, shape (days, cells)
        Whether a cell is there.
    group : ndarray of int, shape (cells,)
        Cells of one group have their tails in common.
    way : str
        One of ``WAYS``.
    tails : mapping of tuple to Tail
        By group and bin of expected units; empty unless days are filled.
    prior : Prior or None
        None gives new cells one unit a day, and their own days at once.

    Attributes
    ----------
    wanted : ndarray, shape (days, cells)
        Demand as it is believed to have been; NaN where nothing is known.
    expected : ndarray, shape (days, cells)
        What the evening before expected.
    level : ndarray, shape (days, cells)
        On the evening of each day.
    now : int
        The last day that was learnt.
    """

    factor: np.ndarray
    sells: np.ndarray
    group: np.ndarray
    way: str = "tobit"
    tails: Mapping[tuple[int, int], Tail] = field(default_factory=dict)
    prior: Prior | None = None

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"way {self.way!r}: one of {WAYS}.")
        shape = self.factor.shape
        self.wanted, self.expected, self.level = (np.full(shape, np.nan) for _ in range(3))
        self._seen, self._weight = np.zeros((2, shape[1]))
        self.now = -1

    def learn(self, day: int, sales: np.ndarray, sold_out: np.ndarray) -> None:
        """Take in what was sold on a day, NaN where that is not known; days come in order.

        Raises
        ------
        ValueError
            On a day that is not the next one.
        """
        if day != self.now + 1:
            raise ValueError(f"day {day} after day {self.now}: learn the days in order.")
        start = np.ones(len(sales)) if self.prior is None else self.prior.level
        trust = 0.05 if self.prior is None else self.prior.days
        before = self.level[day - 1] if day else start
        expected = before * self.factor[day]
        open_ = self.sells[day] & (self.factor[day] > 0)
        known = open_ & ~np.isnan(sales)
        wanted = np.where(known, sales, np.nan)
        if self.way != "as sold":
            hidden = known & sold_out
            filled = hidden & (sales > 0) & (self.way != "dropped")
            wanted[hidden] = expected[hidden]
            if filled.any():
                wanted[filled] = self._filled(filled, expected, sales)
            known &= ~hidden | filled  # an empty shelf from the morning on says nothing
        # Before anything was seen of a cell its days leave no weight.
        self._seen = MEMORY * self._seen + np.where(known, np.nan_to_num(wanted), 0)
        self._weight = MEMORY * self._weight + np.where(known, self.factor[day], 0)
        self.wanted[day], self.expected[day] = wanted, expected
        self.level[day] = (self._seen + trust * start) / (self._weight + trust)
        self.now = day

    def _filled(self, where: np.ndarray, expected: np.ndarray, sales: np.ndarray) -> np.ndarray:
        """Return the mean demand of cells that sold out, given what they had sold."""
        base, bins = expected[where] + 0.5, np.digitize(expected[where], BINS)
        bound, result = (sales[where] + 0.5) / base, np.empty(where.sum())
        group = self.group[where]
        for key, tail in self.tails.items():
            own = (group == key[0]) & (bins == key[1])
            result[own] = tail.mean_above(bound[own])
        return result * base - 0.5


def tails_of(
    levels: Levels, sales: np.ndarray, sold_out: np.ndarray, warm_up: int = WARM_UP
) -> dict[tuple[int, int], Tail]:
    """Fit the tails of demand over its expectation, for each group and bin of expected units.

    A bin with fewer than 50 days, or none that did not sell out, gets a middling tail.
    """
    n = len(sales)
    base = np.nan_to_num(levels.expected[:n])
    use = levels.sells[:n] & (base > 0) & ~np.isnan(sales) & ~(sold_out & (sales == 0))
    use[:warm_up] = False
    ratio, bins = (np.nan_to_num(sales) + 0.5) / (base + 0.5), np.digitize(base, BINS)
    found: dict[tuple[int, int], Tail] = {}
    for group in np.unique(levels.group):
        for k in range(len(BINS) + 1):
            day, cell = np.nonzero(use & (levels.group == group) & (bins == k))
            pick = slice(None, None, max(len(day) // 4000, 1))
            values, hidden = (a[day[pick], cell[pick]] for a in (ratio, sold_out))
            if len(values) < 50 or hidden.all():
                found[int(group), k] = SquaredNormal(0.95, 0.3)
            elif levels.way == "tobit":
                fit = tobit(np.ones((len(values), 1)), np.sqrt(values), hidden)
                found[int(group), k] = SquaredNormal(float(fit.beta[0]), fit.sigma)
            else:
                found[int(group), k] = Curve(values, hidden)
    return found


def follow(levels: Levels, sales: np.ndarray, sold_out: np.ndarray) -> Levels:
    """Let levels learn all days up to the last row that they have not learnt; return them."""
    for day in range(levels.now + 1, len(sales)):
        levels.learn(day, sales[day], sold_out[day])
    return levels


def day_spread(levels: Levels, closed: np.ndarray, last: int = 182, least: int = 56) -> np.ndarray:
    """Return the standard deviation of a day's error of each cell, shape (cells,).

    Parameters
    ----------
    levels : Levels
    closed : ndarray of bool, shape (days,)
        Days without sales.
    last, least : int
        Days that are read; a cell with fewer known ones gets the noise of all, for its level.
    """
    days = slice(max(levels.now + 1 - last, 0), levels.now + 1)
    wrong = levels.wanted[days] - levels.expected[days]
    use = levels.sells[days] & ~closed[days, None] & ~np.isnan(wrong)
    squares, n = (np.where(use, wrong, 0) ** 2).sum(axis=0), use.sum(axis=0)
    pooled = squares.sum() / np.where(use, levels.expected[days], 0).sum()
    mean = np.maximum(levels.level[levels.now], 0.05)
    return np.sqrt(np.where(n >= least, squares / np.maximum(n, 1), pooled * mean))


def errors_by(levels: Levels, days: slice, group: np.ndarray) -> np.ndarray:
    """Return the WAPE of each group of cells a day, as it was known that evening.

    Parameters
    ----------
    levels : Levels
    days : slice
        Of days that were learnt.
    group : ndarray of int, shape (cells,)

    Returns
    -------
    ndarray, shape (days, groups)
        NaN on a day on which nothing was expected.
    """
    wanted, expected = levels.wanted[days], levels.expected[days]
    known = ~np.isnan(wanted) & (expected > 0)
    wrong, base = np.where(known, np.abs(wanted - expected), 0), np.where(known, expected, 0)
    of = np.eye(group.max() + 1)[group]
    total = base @ of
    return np.divide(wrong @ of, np.maximum(total, 1), out=np.full(total.shape, np.nan),
                     where=total > 0)  # fmt: skip


def drawn(levels: Levels, sales: np.ndarray, sold_out: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return demand with days that sold out drawn from their tail, not set to its mean.

    A mean has no scatter: quantiles of sums of means are too low.

    Returns
    -------
    ndarray, shape (len(sales), cells)
        ``levels.wanted`` where nothing is filled.
    """
    n = len(sales)
    result = levels.wanted[:n].copy()
    if not levels.tails:
        return result
    luck = np.random.default_rng(seed).random(result.shape)
    hidden = sold_out & ~np.isnan(result) & (np.nan_to_num(levels.expected[:n]) > 0)
    day, cell = np.nonzero(hidden)
    base = levels.expected[day, cell] + 0.5
    bins = np.digitize(base - 0.5, BINS)
    bound = (np.nan_to_num(sales[day, cell]) + 0.5) / base
    for (group, k), tail in levels.tails.items():
        own = (levels.group[cell] == group) & (bins == k)
        made = tail.draw_above(bound[own], luck[day[own], cell[own]]) * base[own] - 0.5
        result[day[own], cell[own]] = np.maximum(np.round(made), sales[day[own], cell[own]])
    return result
