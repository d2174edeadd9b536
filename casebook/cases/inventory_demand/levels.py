"""What a cell usually sells, day by day: a level that follows the sales, and pooled factors.

A day's expectation is the cell's *level* times the *factor* of its category on that day (weekday,
season, calendar, promotion). The level is learnt each evening from what was sold; days that sold
out are filled with what was probably wanted. A new cell begins with what its attributes say
(:mod:`casebook.forecasting.credibility`), which then counts as much as a few days of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from casebook.cases.inventory_demand.demand import DAYS, NAMES, Plan
from casebook.forecasting.censored_levels import WARM_UP, Levels, follow, tails_of
from casebook.forecasting.credibility import Prior, prior
from casebook.forecasting.pooled_factors import pooled_factors


@dataclass
class CellLevels(Levels):
    """Levels of the cells of a plan; ``plain`` are their factors without any promotion."""

    plan: Plan | None = None
    plain: np.ndarray | None = None


def levels_of(
    plan: Plan,
    factor: tuple[np.ndarray, np.ndarray],
    way: str,
    tails: Mapping | None = None,
    prior: Prior | None = None,
) -> CellLevels:
    """Return levels that have learnt nothing yet: fresh goods and others have their own tails."""
    group = plan.fresh.astype(int)
    made, plain = factor
    return CellLevels(made, plan.alive, group, way, tails or {}, prior, plan=plan, plain=plain)


def unannounced(levels: CellLevels, day: int) -> CellLevels:
    """Return levels for whom the promotions of the days after an evening have not come.

    They share their arrays with ``levels``; it is these that learn.
    """
    other = copy.copy(levels)
    other.plan = levels.plan.unannounced(day)
    other.factor = np.concatenate([levels.factor[: day + 1], levels.plain[day + 1 :]])
    return other


def capped(levels: CellLevels, until: int) -> np.ndarray:
    """Return factors in which no promotion does more than any single one until a day did.

    The largest effect is that of the category, shape as that of ``levels.factor``.
    """
    base = np.where(levels.plain > 0, levels.plain, 1.0)
    effect, most = levels.factor / base, np.ones(len(NAMES))
    np.maximum.at(most, levels.plan.category, effect[:until].max(axis=0))
    return base * np.minimum(effect, most[levels.plan.category])


# Factors: the same for all cells of a category -------------------------------------------


def design(plan: Plan, product: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return what the plan says of days and products, shape (n, 15), for a log-linear factor."""
    weekday = np.eye(7)[DAYS.dayofweek[day]][:, 1:]
    angle = 2 * np.pi * DAYS.dayofyear.to_numpy()[day] / 365.25
    season = [f(k * angle) for k in (1, 2) for f in (np.sin, np.cos)]
    marks = [plan.eve[day], plan.after[day], plan.payday[day]]
    promoted = [plan.discount[day, product], plan.coupon[day, product]]
    return np.column_stack([weekday, *season, *marks, *promoted]).astype(float)


def factors(plan: Plan, demand: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor of each cell on each day of the calendar, by a Poisson regression.

    Parameters
    ----------
    plan : Plan
    demand : ndarray, shape (days, cells)
        Of the history, as it is believed to have been.
    known : ndarray of bool, shape (days, cells)

    Returns
    -------
    tuple of ndarray, shape (len(DAYS), cells)
        One regression for each category, over its products in all stores together; about 1 on a
        middling day, 0 on closed days. The second is without the effects of promotions.
    """
    n = len(demand)
    result = pooled_factors(
        demand,
        known,
        plan.product,
        plan.category[: len(plan.products)],
        lambda product, day: design(plan, product, day),
        len(DAYS),
        (None, -2),
    )
    plain = (plan.discount[:n] == 0) & (plan.coupon[:n] == 0)
    middle = (result[0, :n] * plain).sum(axis=0) / plain.sum(axis=0)
    made = (result / middle)[:, :, plan.product] * ~plan.closed[:, None]
    return made[0], made[1]


# Priors of new cells ------------------------------------------------------------------------


def attributes(plan: Plan, start: str = "attributes") -> np.ndarray:
    """Return what is known of a cell before it sells, or its category alone, shape (cells, k)."""
    if start == "category":
        return np.eye(len(NAMES))[plan.category]
    product, store = plan.products.iloc[plan.product], plan.stores.iloc[plan.store]
    organic = product["organic"].to_numpy()
    columns = [
        np.eye(len(NAMES))[plan.category],
        np.log(product["price"].to_numpy())[:, None],
        organic[:, None],
        (organic * store["income"].to_numpy())[:, None],
        np.log(store["size"].to_numpy())[:, None],
    ]
    return np.hstack(columns)


def learn_levels(
    plan: Plan,
    sales: np.ndarray,
    sold_out: np.ndarray,
    way: str = "tobit",
    start: str = "attributes",
    rounds: int = 3,
) -> CellLevels:
    """Learn factors, tails, priors and levels from a history.

    They need each other: the first round takes sales as they are, each later one refits all three
    to the demand that the one before found.

    Parameters
    ----------
    plan : Plan
    sales : ndarray, shape (days, cells)
        NaN where nothing is known.
    sold_out : ndarray of bool, shape (days, cells)
    way : str
        One of ``WAYS``.
    start : str
        What the prior of a new cell is: by its "attributes", by its "category", or "" for none.
    rounds : int
        One is enough where nothing is filled.
    """
    n = len(sales)
    alive = plan.alive[:n] & ~plan.closed[:n, None]
    known = alive & ~np.isnan(sales)
    if way == "dropped":
        known = known & ~sold_out
    factor = factors(plan, np.nan_to_num(sales), known)
    levels = follow(levels_of(plan, factor, "as sold"), sales, sold_out)
    if way in ("as sold", "dropped"):
        rounds = 1
    tails: dict = {}
    for _ in range(rounds):
        if way in ("kaplan_meier", "tobit"):
            levels.way = way
            tails = tails_of(levels, sales, sold_out)
        prior = _prior_of(attributes(plan, start), levels, alive) if start else None
        levels = follow(levels_of(plan, factor, way, tails, prior), sales, sold_out)
        if rounds > 1:
            factor = factors(plan, np.nan_to_num(levels.wanted[:n]), known)
    return levels


def _prior_of(X: np.ndarray, levels: CellLevels, alive: np.ndarray) -> Prior:
    n = len(alive)
    use = alive & (np.nan_to_num(levels.expected[:n]) > 0.5)
    use[:WARM_UP] = False
    ratio = levels.wanted[:n][use] / levels.expected[:n][use]
    return prior(X, levels.level[n - 1], alive.sum(axis=0), float(np.nanvar(ratio)))
