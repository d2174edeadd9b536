"""The ladder: policies that say what to order, from last week's sales to the model that ships.

Each says how many units a window needs (its *target*) and how many will be sold before it. One
function, :func:`order`, makes the order of both, for every rung, the page, the benchmark and the
Sunday run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from casebook.cases.inventory_demand.demand import NAMES, WEEK, Plan
from casebook.cases.inventory_demand.features import rows_at
from casebook.cases.inventory_demand.levels import CellLevels, learn_levels
from casebook.cases.inventory_demand.models import Training
from casebook.cases.inventory_demand.play import (
    FRESH,
    WEEKLY,
    Costs,
    Played,
    Seen,
    Window,
    siblings,
)
from casebook.forecasting.censored_levels import day_spread, drawn, follow
from casebook.forecasting.newsvendor import (
    critical_ratio,
    over_plan,
    safety_stock,
    window_spread,
)
from casebook.forecasting.order_trees import Fitted

RATIO = critical_ratio(Costs.short, Costs.over)
#: Goods that live one cycle: the critical ratio. What is left of longer-lived goods is sold in the
#: next one; their levels were chosen for the oracle on worlds 1 to 3, and hold for every rung.
LEVELS: dict[int, float] = {1: RATIO, 7: RATIO, 14: 0.95, 28: 0.98}
YEAR = 364


def order(target: np.ndarray, before: np.ndarray, seen: Seen, window: Window) -> np.ndarray:
    """Return units to order: what a window needs, less what will be left when it begins.

    Parameters
    ----------
    target : ndarray, shape (cells,)
        Units that are to be there on the first morning of the window.
    before : ndarray or float
        Units that are sold until then.
    """
    return np.maximum(target - seen.usable(window, before), 0)


def by_life(plan: Plan, levels: Mapping[int, float]) -> np.ndarray:
    """Return the level of each cell."""
    return np.array([levels[life] for life in plan.life])


# The sacred baseline ---------------------------------------------------------------------------


def season_index(seen: Seen, window: Window) -> np.ndarray:
    """Return how each category moved a year ago from the last week to the window, (cells,)."""
    plan, now = seen.plan, seen.now
    then = now - YEAR + window.ahead
    back = now - YEAR + 1 - np.arange(1, WEEK + 1)
    if back[-1] < 0:
        return np.ones(len(plan.product))
    shares = []
    for days in (then, back if window != FRESH else then - WEEK):
        told = plan.alive[days] & ~np.isnan(seen.sales[days])
        total = np.bincount(plan.category, np.nansum(seen.sales[days], axis=0), len(NAMES))
        shares.append(total / np.maximum(np.bincount(plan.category, told.sum(axis=0)), 1))
    index = np.divide(shares[0], shares[1], out=np.ones(len(NAMES)), where=shares[1] > 0)
    return np.clip(index, 0.5, 2.0)[plan.category]


def last_week(seen: Seen, window: Window) -> np.ndarray:
    """Order what was sold last week, as the season moved a year ago: the sacred baseline."""
    plan, now = seen.plan, seen.now
    at = np.array([now + 1 - WEEK]) if window == FRESH else now - np.arange(WEEK)
    told = ~np.isnan(seen.sales[at])  # a store that did not report has sold something, too
    own = np.nansum(seen.sales[at], axis=0) * len(at) / np.maximum(told.sum(axis=0), 1)
    known = plan.alive[at].all(axis=0) & (2 * told.sum(axis=0) > len(at))
    usual = np.where(known, own, siblings(plan, own, known, window))
    target = usual * season_index(seen, window)
    return order(target, usual * (window.first - 1) / WEEK, seen, window)


# What follows levels ---------------------------------------------------------------------------


class Following:
    """A policy that learns the levels of all cells evening after evening.

    Parameters
    ----------
    levels : CellLevels
        As they were learnt from the history; a copy follows each run.
    """

    def __init__(self, levels: CellLevels) -> None:
        self.levels = levels

    def caught_up(self, seen: Seen) -> CellLevels:
        """Return levels that have learnt this evening's sales."""
        first = self.levels.now + 1
        if first > seen.now + 1:
            raise ValueError(f"the levels know day {first - 1}, after day {seen.now}: start anew.")
        if first <= seen.now:
            sold_out = np.zeros(seen.sales.shape, bool)
            sold_out[first:] = seen.sold_out(seen.now + 1 - first)
            follow(self.levels, seen.sales.astype(float), sold_out)
        return self.levels

    def expected(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the point forecast of a window: level times factors."""
        levels = self.caught_up(seen)
        return levels.level[seen.now] * levels.factor[seen.now + window.ahead].sum(axis=0)

    def before(self, seen: Seen, window: Window) -> np.ndarray | float:
        """Return what will be sold before a window begins."""
        return self.expected(seen, Window(1, window.first - 1)) if window.first > 1 else 0.0

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return what a window needs; without a quantile, what is expected."""
        return self.expected(seen, window)

    def __call__(self, seen: Seen, window: Window) -> np.ndarray:
        """Order up to the target."""
        return order(self.target(seen, window), self.before(seen, window), seen, window)


class SafetyStock(Following):
    """Point forecast and safety stock: normal errors of whole windows, as they were measured.

    Parameters
    ----------
    levels : CellLevels
    spread : ndarray, shape (cells,)
        From :func:`spread_of`.
    by : mapping of int to float
        Level by life.
    """

    def __init__(
        self, levels: CellLevels, spread: np.ndarray, by: Mapping[int, float] = LEVELS
    ) -> None:
        super().__init__(levels)
        self.spread, self.by = spread, by_life(levels.plan, by)

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return point forecast and safety stock of a window."""
        return over_plan(self.expected(seen, window), self.spread, self.by)


def spread_of(training: Training) -> np.ndarray:
    """Return how far the windows of each cell fell from their plan, shape (cells,)."""
    plan = training.levels.plan
    result = np.zeros(len(plan.product))
    for window, own in ((FRESH, plan.fresh), (WEEKLY, ~plan.fresh)):
        rows, units, _ = training.rows(window)
        result[own] = window_spread(units, rows.plan, rows.cell, len(own))[own]
    return result


class DaysAdded(Following):
    """Point forecast and safety stock, by the textbook: errors of days independent and normal.

    Parameters
    ----------
    levels : CellLevels
    by : mapping of int to float
        Level by life.
    """

    def __init__(self, levels: CellLevels, by: Mapping[int, float] = LEVELS) -> None:
        super().__init__(levels)
        self.sigma = day_spread(levels, levels.plan.closed)
        self.z = by_life(levels.plan, by)

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return point forecast and safety stock of a window."""
        open_ = (~seen.plan.closed[seen.now + window.ahead]).sum()
        return self.expected(seen, window) + safety_stock(self.sigma, open_, self.z)


class Factor(Following):
    """Point forecast times the quantile of past demand over forecast: no normal, no roots.

    Parameters
    ----------
    levels : CellLevels
    training : Training
        All of its windows give the quantiles, those that calibrate the model, too.
    by : mapping of int to float
    """

    def __init__(
        self, levels: CellLevels, training: Training, by: Mapping[int, float] = LEVELS
    ) -> None:
        super().__init__(levels)
        self.factor = np.ones(len(levels.plan.product))
        for life, level in by.items():
            rows, units, _ = training.rows(FRESH if life == 1 else WEEKLY)
            own = (levels.plan.life[rows.cell] == life) & (rows.plan > 0.5)
            value = np.quantile((units / np.maximum(rows.plan, 0.5))[own], level)
            self.factor[levels.plan.life == life] = value

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the raised forecast."""
        return self.factor * self.expected(seen, window)


class Model(Following):
    """LightGBM at the level of each life.

    Parameters
    ----------
    levels : CellLevels
    fitted : mapping of int to Fitted
        By life, from :func:`.models.fit_all`.
    with_weather : bool
        False: the forecast of the weather has not come.
    features : sequence of int, optional
        Columns that the models see; by default all.
    """

    def __init__(
        self,
        levels: CellLevels,
        fitted: Mapping[int, Fitted],
        with_weather: bool = True,
        features: Sequence[int] | None = None,
    ) -> None:
        super().__init__(levels)
        self.fitted, self.with_weather = dict(fitted), with_weather
        self.features = slice(None) if features is None else [*features]

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return units that suffice with the level of each cell's life."""
        rows = rows_at(self.caught_up(seen), seen.now, window, self.with_weather)
        result = np.zeros(len(rows.plan))
        for life, model in self.fitted.items():
            own = np.flatnonzero(seen.plan.life == life)
            if (life == 1) == (window == FRESH) and len(own):
                result[own] = model.order(rows.X[own][:, self.features], rows.plan[own])
        return result


# From a history to the ladder ------------------------------------------------------------------


def sold_out_of(plan: Plan, past: Played) -> np.ndarray:
    """Return where a history hides demand, shape (days, cells)."""
    n = len(past.sales)
    return (past.closing == 0) & plan.alive[:n] & ~plan.closed[:n, None]


def trained(
    plan: Plan,
    sales: np.ndarray,
    sold_out: np.ndarray,
    way: str = "tobit",
    start: str = "attributes",
) -> tuple[Callable[[], CellLevels], Training]:
    """Learn a history: how to get levels that follow on from it, and rows to fit.

    Returns
    -------
    tuple
        A maker of fresh levels, one for each run that is played; and the training.
    """
    import copy

    levels = learn_levels(plan, sales, sold_out, way, start)
    labels = drawn(levels, sales, sold_out)
    hidden = sold_out if way == "dropped" else None
    return lambda: copy.deepcopy(levels), Training(levels, labels, hidden)
