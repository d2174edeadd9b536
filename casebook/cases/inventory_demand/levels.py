"""What a cell usually sells, day by day: a level that follows the sales, and pooled factors.

A day's expectation is the cell's *level* times the *factor* of its category on that day (weekday,
season, calendar, promotion). The level is learnt each evening from what was sold; days that sold
out are filled with what was probably wanted. A new cell begins with what its attributes say
(:func:`prior`), which then counts as much as a few days of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from casebook.cases.inventory_demand.world import DAYS, NAMES, Plan
from casebook.forecasting.unconstrain import Curve, SquaredNormal, Tail, tobit

#: What is done about days that sold out.
WAYS = ("as sold", "dropped", "kaplan_meier", "tobit")
#: What is left of a day's weight a day later (chosen on worlds 1 and 2); days that a prior counts for at most.
MEMORY, MOST_PRIOR = 0.95, 30.0
#: Expected units a day at which the tails change.
BINS = (2.5, 5.0, 10.0)
#: The first days of the history only bring the levels to where they belong.
WARM_UP = 56


# Factors: the same for all cells of a category -------------------------------------------


def design(plan: Plan, product: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return what the plan says of days and products, shape (n, 15), for a log-linear factor."""
    weekday = np.eye(7)[DAYS.dayofweek[day]][:, 1:]
    angle = 2 * np.pi * DAYS.dayofyear.to_numpy()[day] / 365.25
    season = [f(k * angle) for k in (1, 2) for f in (np.sin, np.cos)]
    marks = [plan.eve[day], plan.after[day], plan.payday[day]]
    promoted = [plan.discount[day, product], plan.coupon[day, product]]
    return np.column_stack([weekday, *season, *marks, *promoted]).astype(float)


def factors(plan: Plan, demand: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the factor of each cell on each day of the calendar, by a Poisson regression.

    Parameters
    ----------
    plan : Plan
    demand : ndarray, shape (days, cells)
        Of the history, as it is believed to have been.
    known : ndarray of bool, shape (days, cells)

    Returns
    -------
    ndarray, shape (len(DAYS), cells)
        One regression for each category, over its products in all stores together; about 1 on a
        middling day, 0 on closed days.
    """
    from sklearn.linear_model import PoissonRegressor

    n, products = len(demand), len(plan.products)
    usual = np.where(known, demand, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    result = np.zeros((len(DAYS), products))
    of = plan.category[:products]
    for code in range(len(NAMES)):
        own = np.flatnonzero(of == code)
        X, y, weight = [], [], []
        for product in own:
            cells = np.flatnonzero(plan.product == product)
            base = (known[:, cells] * usual[cells]).sum(axis=1)
            days = np.flatnonzero(base > 0)
            X.append(design(plan, np.full(len(days), product), days))
            y.append((demand[:, cells] * known[:, cells]).sum(axis=1)[days] / base[days])
            weight.append(base[days])
        model = PoissonRegressor(alpha=1e-4, max_iter=300)
        model.fit(np.vstack(X), np.concatenate(y), sample_weight=np.concatenate(weight))
        for product in own:
            every = design(plan, np.full(len(DAYS), product), np.arange(len(DAYS)))
            result[:, product] = np.exp(every @ model.coef_)
    plain = (plan.discount[:n] == 0) & (plan.coupon[:n] == 0)
    middle = (result[:n] * plain).sum(axis=0) / plain.sum(axis=0)
    made = (result / middle)[:, plan.product]
    return made * ~plan.closed[:, None]


# Priors of new cells ------------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """Levels by attributes, shape (cells,), and the days of its own that each counts for."""

    level: np.ndarray
    days: float


def attributes(plan: Plan) -> np.ndarray:
    """Return what is known of a cell before it sells, shape (cells, k)."""
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


def prior(plan: Plan, level: np.ndarray, seen: np.ndarray, noise: float) -> Prior:
    """Learn priors from the levels of the old cells: a regression on their attributes.

    Parameters
    ----------
    plan : Plan
    level : ndarray, shape (cells,)
    seen : ndarray, shape (cells,)
        Days on which each was seen; cells with fewer than 100 teach nothing.
    noise : float
        Variance of a day's demand over its expectation.

    Returns
    -------
    Prior
        Its weight is that of Bühlmann's credibility: the noise of a day over the spread of the
        levels around the regression.

    References
    ----------
    Bühlmann (1967), *Experience rating and credibility*, ASTIN Bulletin.
    """
    X, old = attributes(plan), seen >= 100
    y = np.log(np.maximum(level[old], 0.05))
    eye = 0.1 * np.eye(X.shape[1])
    beta = np.linalg.solve(X[old].T @ X[old] + eye, X[old].T @ y)
    spread = (y - X[old] @ beta).var()
    return Prior(np.exp(X @ beta + spread / 2), float(min(noise / spread, MOST_PRIOR)))


# Levels: evening after evening ----------------------------------------------------------------


@dataclass
class Levels:
    """Levels that follow the sales of all cells.

    Parameters
    ----------
    plan : Plan
    factor : ndarray, shape (len(DAYS), cells)
    way : str
        One of ``WAYS``.
    tails : mapping of tuple to Tail
        By rhythm (fresh) and bin of expected units; empty unless days are filled.
    prior : Prior or None
        None gives new cells one unit a day, and their own days at once.

    Attributes
    ----------
    wanted : ndarray, shape (len(DAYS), cells)
        Demand as it is believed to have been; NaN where nothing is known.
    expected : ndarray, shape (len(DAYS), cells)
        What the evening before expected.
    level : ndarray, shape (len(DAYS), cells)
        On the evening of each day.
    now : int
        The last day that was learnt.
    """

    plan: Plan
    factor: np.ndarray
    way: str = "tobit"
    tails: Mapping[tuple[bool, int], Tail] = field(default_factory=dict)
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
        open_ = self.plan.alive[day] & (self.factor[day] > 0)
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
        fresh = self.plan.fresh[where]
        for key, tail in self.tails.items():
            own = (fresh == key[0]) & (bins == key[1])
            result[own] = tail.mean_above(bound[own])
        return result * base - 0.5


def tails_of(
    plan: Plan, levels: Levels, sales: np.ndarray, sold_out: np.ndarray
) -> dict[tuple[bool, int], Tail]:
    """Fit the tails of demand over its expectation, for each rhythm and bin of expected units."""
    n = len(sales)
    base = levels.expected[:n]
    use = plan.alive[:n] & (base > 0) & ~np.isnan(sales) & ~(sold_out & (sales == 0))
    use[:WARM_UP] = False
    ratio = (np.nan_to_num(sales) + 0.5) / (np.nan_to_num(base) + 0.5)
    bins = np.digitize(np.nan_to_num(base), BINS)
    found = {}
    for fresh in (False, True):
        for k in range(len(BINS) + 1):
            own = use & (plan.fresh == fresh) & (bins == k)
            day, cell = np.nonzero(own)
            pick = slice(None, None, max(len(day) // 4000, 1))
            values, hidden = (a[day[pick], cell[pick]] for a in (ratio, sold_out))
            if len(values) < 50 or hidden.all():
                found[fresh, k] = SquaredNormal(0.95, 0.3)
            elif levels.way == "tobit":
                fit = tobit(np.ones((len(values), 1)), np.sqrt(values), hidden)
                found[fresh, k] = SquaredNormal(float(fit.beta[0]), fit.sigma)
            else:
                found[fresh, k] = Curve(values, hidden)
    return found


def follow(levels: Levels, sales: np.ndarray, sold_out: np.ndarray) -> Levels:
    """Let levels learn all days up to the last row that they have not learnt; return them."""
    for day in range(levels.now + 1, len(sales)):
        levels.learn(day, sales[day], sold_out[day])
    return levels


def learn_levels(
    plan: Plan,
    sales: np.ndarray,
    sold_out: np.ndarray,
    way: str = "tobit",
    pooled: bool = True,
    rounds: int = 3,
) -> Levels:
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
    pooled : bool
        With priors for new cells.
    rounds : int
        One is enough where nothing is filled.
    """
    n = len(sales)
    alive = plan.alive[:n] & ~plan.closed[:n, None]
    known = alive & ~np.isnan(sales)
    if way == "dropped":
        known = known & ~sold_out
    factor = factors(plan, np.nan_to_num(sales), known)
    levels = follow(Levels(plan, factor, "as sold"), sales, sold_out)
    if way in ("as sold", "dropped"):
        rounds = 1
    tails: dict[tuple[bool, int], Tail] = {}
    for _ in range(rounds):
        if way in ("kaplan_meier", "tobit"):
            levels.way = way
            tails = tails_of(plan, levels, sales, sold_out)
        start = _prior_of(plan, levels, alive) if pooled else None
        levels = follow(Levels(plan, factor, way, tails, start), sales, sold_out)
        if rounds > 1:
            factor = factors(plan, np.nan_to_num(levels.wanted[:n]), known)
    return levels


def _prior_of(plan: Plan, levels: Levels, alive: np.ndarray) -> Prior:
    n = len(alive)
    use = alive & (np.nan_to_num(levels.expected[:n]) > 0.5)
    use[:WARM_UP] = False
    ratio = levels.wanted[:n][use] / levels.expected[:n][use]
    return prior(plan, levels.level[n - 1], alive.sum(axis=0), float(np.nanvar(ratio)))


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
    for (fresh, k), tail in levels.tails.items():
        own = (levels.plan.fresh[cell] == fresh) & (bins == k)
        made = tail.draw_above(bound[own], luck[day[own], cell[own]]) * base[own] - 0.5
        result[day[own], cell[own]] = np.maximum(np.round(made), sales[day[own], cell[own]])
    return result
