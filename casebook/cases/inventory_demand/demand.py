"""World of case 03: what customers of a grocery service want, by product, store and day.

Mechanisms
----------
What is wanted (*demand*) is drawn here, once, whatever anybody orders; what is *sold* depends on
the orders and is made by :mod:`.play`. A store delivers the baskets of its district. The expected
demand of a cell (product in a store) on a day is the product of

* a level: of the store (its size), the product (category, price, brand) and the two together,
  organic goods selling better where incomes are high;
* a weekday profile and a yearly season of the category, and the store's yearly growth;
* the calendar: nothing on public holidays (closed), more on the day before and the day after, and
  more on *paydays* (the last working day of a month and the two days after it);
* the weather: warmth beyond the season moves drinks up and bakery down; rain keeps people at home;
* promotions, which run from Thursday to Wednesday: a discount of 10, 20 or 30 % of a product, or a
  coupon for a category. Until ``STACKS`` they never fall together; from then on a third of the
  discounted products have a coupon too, and the two effects *overlap*. The week after a discount
  on goods that keep, customers still have some at home;
* shocks: autoregressive ones of each store, of each product in all stores, and of each cell;
* an opening: new stores and products start at 40 % of their level;
* the black swan: one week after the test in which everybody stocks up on what keeps.

Demand is a Poisson draw around that with a gamma factor of each cell and day. With ``trust`` above
0 customers who met empty shelves stay away for a while (in :mod:`.play`): then demand depends on
the policy. Weather has a part that forecasters know ten days ahead and one that only persists.

Products are ordered in two *rhythms*. Fresh goods (bakery, ready meals) are ordered each evening
for the next day and live that day. All others are ordered on Sunday evening, delivered on Wednesday
after closing and sold from Thursday on: produce and meat live one such cycle of seven days, dairy
two, drinks and pantry four.

Nothing here is estimated from data. Structure, promotions, weather, shocks and draws have streams
of their own: with another constant the same seed gives the same stores, promotions and weather.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from casebook.worlds.calendars import shop_days
from casebook.worlds.draws import stream
from casebook.worlds.shocks import paths

CHAPTER = "03_inventory_demand"
SEED = 2026
START = pd.Timestamp("2023-01-02")
#: The orders of this evening, a Sunday, are the first that a new policy makes.
SWITCH = 727
#: Test: twenty cycles from Thursday to Wednesday; then six more, with the swan in the third.
TEST = range(SWITCH + 4, SWITCH + 4 + 140)
LATE = range(TEST.stop, TEST.stop + 42)
SWAN = range(LATE.start + 14, LATE.start + 21)
STACKS = TEST.start + 56
#: Days that are simulated: those of the last runs' windows included.
DAYS = pd.date_range(START, periods=LATE.stop + 11)
WEEK, HORIZON = 7, 10
REGIONS = ("north", "south")
DISCOUNTS = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Category:
    """What the products of a category share.

    Attributes
    ----------
    products : int
        On the shelves from the first day; ``later`` more are launched.
    life : int
        Days on the shelf; 1 means fresh, ordered each day.
    level : float
        Expected units a day of a middling product in a middling store.
    weekend, season, peak : float
        How much more on Friday and Saturday; amplitude (log) and day of the year of the season.
    warmth, discount, coupon, panic : float
        Log effect of ten degrees, of a discount of 100 %, of a coupon; factor in the swan week.
    later : int
    """

    products: int
    life: int
    level: float
    weekend: float
    season: float
    peak: float
    warmth: float
    discount: float
    coupon: float
    panic: float
    later: int = 0


CATEGORIES = {
    "bakery": Category(5, 1, 14.0, 0.25, 0.05, 350, -0.10, 1.6, 0.25, 0.8, 1),
    "ready meals": Category(5, 1, 9.0, -0.10, 0.05, 20, 0.05, 2.0, 0.35, 0.5),
    "produce": Category(6, 7, 6.0, 0.20, 0.15, 190, 0.15, 2.2, 0.30, 1.5, 1),
    "meat": Category(4, 7, 4.0, 0.35, 0.10, 200, 0.25, 2.6, 0.35, 1.6, 1),
    "dairy": Category(5, 14, 7.0, 0.10, 0.05, 30, 0.00, 2.2, 0.30, 1.8, 1),
    "drinks": Category(3, 28, 6.0, 0.30, 0.25, 200, 0.35, 2.8, 0.35, 1.8),
    "pantry": Category(2, 28, 5.0, 0.00, 0.10, 340, -0.05, 3.0, 0.40, 3.0),
}
NAMES = tuple(CATEGORIES)
#: Days on which the products that come later are launched, in the order of the categories above.
LAUNCHES = (TEST.start, TEST.start + 28, TEST.start + 14, TEST.start + 56)
#: The last two stores open late, one before the test and one in it; the second one closes in it.
OPENS_FIRST, OPENS_SECOND, CLOSES = 300, TEST.start + 35, TEST.start + 98


@dataclass(frozen=True)
class Constants:
    """Numbers of the world that a study varies.

    Attributes
    ----------
    store_sd, product_sd, cell_sd : float
        Stationary log sd of the shocks; ``store_rho`` and so on: what is left the day after.
    dispersion : float
        Shape of the gamma factor of a cell's day: more is less noise.
    overlap : float
        Share of the smaller of two stacked effects that is lost.
    trust : float
        Share of a cell's customers lost for each unit share of demand that was not met; 0: none.
    promoted : float
        Share of product-weeks with a discount.
    """

    store_sd: float = 0.08
    store_rho: float = 0.8
    product_sd: float = 0.12
    product_rho: float = 0.97
    cell_sd: float = 0.20
    cell_rho: float = 0.99
    dispersion: float = 10.0
    overlap: float = 0.5
    trust: float = 0.0
    promoted: float = 0.12
    payday: float = 0.15
    eve: float = 0.35
    after: float = 0.10
    rain: float = 0.08
    cupboard: float = -0.15


@dataclass(frozen=True)
class Weather:
    """Temperature beyond the season and rain of the regions.

    Attributes
    ----------
    pattern, noise : ndarray, shape (days, regions)
        Degrees: what forecasters know ahead, and what only persists (half of it a day).
    rain : ndarray of bool, shape (days, regions)
    chance : ndarray, shape (days, regions)
        Of rain, as it is forecast.
    """

    pattern: np.ndarray
    noise: np.ndarray
    rain: np.ndarray
    chance: np.ndarray

    def forecast(self, day: int, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return degrees and chance of rain, forecast on a day's evening, (len(ahead), regions)."""
        ahead = np.asarray(ahead)
        return self.pattern[day + ahead] + 0.5 ** ahead[:, None] * self.noise[day], self.chance[
            day + ahead
        ]


@dataclass(frozen=True)
class Plan:
    """What everybody knows ahead: the catalogue, the calendar and the promotions.

    Attributes
    ----------
    products, stores : DataFrame
        ``product``, ``category``, ``life``, ``price``, ``organic``, ``launch``; ``store``,
        ``region``, ``size``, ``income``, ``opens``, ``closes`` (days as numbers).
    discount, coupon : ndarray, shape (days, products)
    closed, eve, after, payday : ndarray of bool, shape (days,)
    weather : Weather
        Its forecasts are public, its ``noise`` and ``rain`` on the day.
    """

    products: pd.DataFrame
    stores: pd.DataFrame
    discount: np.ndarray
    coupon: np.ndarray
    closed: np.ndarray
    eve: np.ndarray
    after: np.ndarray
    payday: np.ndarray
    weather: Weather

    def unannounced(self, day: int) -> Plan:
        """Return the plan on an evening on which the promotions of later days have not come."""
        past = (np.arange(len(self.closed)) <= day)[:, None]
        return replace(self, discount=self.discount * past, coupon=self.coupon * past)

    def names(self, cells: np.ndarray | int) -> dict[str, np.ndarray]:
        """Return ``store`` and ``product`` of some cells."""
        store, product = self.stores["store"].to_numpy(), self.products["product"].to_numpy()
        return {"store": store[self.store[cells]], "product": product[self.product[cells]]}

    @cached_property
    def product(self) -> np.ndarray:
        """Row of the product of each cell; cells go store by store, shape (cells,)."""
        return np.tile(np.arange(len(self.products)), len(self.stores))

    @cached_property
    def store(self) -> np.ndarray:
        """Row of the store of each cell."""
        return np.repeat(np.arange(len(self.stores)), len(self.products))

    @cached_property
    def category(self) -> np.ndarray:
        """Number of the category of each cell, as in ``NAMES``."""
        codes = self.products["category"].map({name: k for k, name in enumerate(NAMES)})
        return codes.to_numpy()[self.product]

    @cached_property
    def region(self) -> np.ndarray:
        """Number of the region of each cell."""
        return (
            self.stores["region"].map({n: k for k, n in enumerate(REGIONS)}).to_numpy()[self.store]
        )

    @cached_property
    def life(self) -> np.ndarray:
        """Days on the shelf of each cell."""
        return self.products["life"].to_numpy()[self.product]

    @cached_property
    def fresh(self) -> np.ndarray:
        """Whether each cell is ordered every day."""
        return self.life == 1

    @cached_property
    def born(self) -> np.ndarray:
        """First day of each cell."""
        return np.maximum(
            self.products["launch"].to_numpy()[self.product],
            self.stores["opens"].to_numpy()[self.store],
        )

    @cached_property
    def alive(self) -> np.ndarray:
        """Whether each cell is sold on each day (also closed ones), shape (days, cells)."""
        day = np.arange(len(DAYS))[:, None]
        return (day >= self.born) & (day < self.stores["closes"].to_numpy()[self.store])


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes
    ----------
    plan : Plan
    demand : ndarray of int, shape (days, cells)
        Truth: what customers want while they trust the store.
    mean : ndarray, shape (days, cells)
        Truth: expectation of the demand without shocks and weather.
    shocks : dict of str to ndarray
        Truth: log ``store`` (days, stores), ``product`` (days, products), ``cell`` (days, cells).
    uniform : ndarray, shape (days, cells)
        Luck of the customers' trust: the same under every policy.
    constants : Constants
    seed : int
    """

    plan: Plan
    demand: np.ndarray
    mean: np.ndarray
    shocks: dict[str, np.ndarray]
    uniform: np.ndarray
    constants: Constants
    seed: int


# What everybody knows ahead ------------------------------------------------------------


def _catalogue(rng: np.random.Generator, stores: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw products and stores; their log levels are the column ``log``, which nobody sees."""
    rows, launches = [], iter(LAUNCHES)
    for name, kind in CATEGORIES.items():
        for k in range(kind.products + kind.later):
            launch = 0 if k < kind.products else next(launches)
            price, organic, brand = rng.lognormal(1.0, 0.4), rng.random() < 0.3, rng.normal(0, 0.3)
            log = np.log(kind.level) - 0.5 * (np.log(price) - 1.0) + brand
            number = f"{name.split()[0]}-{k + 1:02d}"
            rows.append((number, name, kind.life, round(price, 2), int(organic), launch, log))
    columns = ["product", "category", "life", "price", "organic", "launch", "log"]
    products = pd.DataFrame(rows, columns=columns)
    size, income = rng.lognormal(0, 0.35, stores), rng.normal(0, 1, stores)
    opens, closes = np.zeros(stores, int), np.full(stores, len(DAYS))
    opens[-2:], closes[1] = (OPENS_FIRST, OPENS_SECOND), CLOSES
    return products, pd.DataFrame(
        {
            "store": [f"S{k + 1:02d}" for k in range(stores)],
            "region": [REGIONS[k % 2] for k in range(stores)],
            "size": np.round(1000 * size, -1).astype(int),
            "income": np.round(income, 2),
            "opens": opens,
            "closes": closes,
            "log": np.log(size),
        }
    )


def cycle(day: np.ndarray) -> np.ndarray:
    """Return the number of the cycle (Thursday to Wednesday) of each day; cycle 0 is cut off."""
    return (np.asarray(day) + 4) // WEEK


def _promotions(
    rng: np.random.Generator, products: pd.DataFrame, constants: Constants
) -> tuple[np.ndarray, np.ndarray]:
    """Return discount and coupon of each day and product."""
    weeks, n = int(cycle(len(DAYS))) + 1, len(products)
    has = rng.random((weeks, n)) < constants.promoted
    discount = np.where(has, rng.choice(DISCOUNTS, (weeks, n)), 0.0)
    codes = pd.factorize(products["category"])[0]
    coupon = (rng.random((weeks, len(NAMES))) < 0.06)[:, codes]
    stacked = has & (rng.random((weeks, n)) < 1 / 3)
    late = (np.arange(weeks) >= cycle(STACKS))[:, None]
    coupon = np.where(has, stacked & late, coupon)
    of = cycle(np.arange(len(DAYS)))
    return discount[of], coupon[of].astype(float)


def _calendar() -> dict[str, np.ndarray]:
    """Return whether each day is closed, the day before or after that, or near a payday."""
    marks = shop_days(DAYS)
    marks["after"][0] = True  # 2 January
    return marks


def _weather(rng: np.random.Generator) -> Weather:
    """Draw the weather."""
    shape = (len(DAYS), len(REGIONS))
    pattern, noise = paths(rng, shape, 0.85, 3.0), paths(rng, shape, 0.5, 1.5)
    chance = 1 / (1 + np.exp(1.0 - paths(rng, shape, 0.6, 1.5)))
    return Weather(pattern, noise, rng.random(shape) < chance, chance)


# What is wanted ------------------------------------------------------------------------


def per_cell(plan: Plan, name: str) -> np.ndarray:
    """Return an attribute of its category for each cell."""
    return np.array([getattr(kind, name) for kind in CATEGORIES.values()])[plan.category]


def promotion_effect(plan: Plan, constants: Constants) -> np.ndarray:
    """Return the log effect of the promotions, shape (days, cells)."""
    discount = per_cell(plan, "discount") * plan.discount[:, plan.product]
    coupon = per_cell(plan, "coupon") * plan.coupon[:, plan.product]
    effect = discount + coupon - constants.overlap * np.minimum(discount, coupon)
    before = np.vstack([np.zeros((WEEK, effect.shape[1])), discount[:-WEEK]])
    keeps = plan.life >= 28
    return effect + constants.cupboard * (keeps & (before > 0) & (discount == 0))


def weather_effect(plan: Plan, degrees: np.ndarray, rain: np.ndarray, c: Constants) -> np.ndarray:
    """Return the log effect of degrees beyond the season and of rain, shape (..., cells)."""
    warm = per_cell(plan, "warmth") * degrees[..., plan.region] / 10
    return warm + c.rain * rain[..., plan.region]


def _mean(rng: np.random.Generator, plan: Plan, c: Constants, log: np.ndarray) -> np.ndarray:
    """Return expected demand without shocks and weather, shape (days, cells)."""
    stores, day = plan.stores, np.arange(len(DAYS))[:, None]
    organic = plan.products["organic"].to_numpy()[plan.product]
    level = log + 0.2 * organic * stores["income"].to_numpy()[plan.store]
    level = level + rng.normal(0, 0.25, len(level))
    growth = rng.normal(0.04, 0.03, len(stores))[plan.store] * day / 365
    week = np.array([-0.05, -0.10, -0.05, 0.0, 0.6, 1.0, -0.3])[DAYS.dayofweek][:, None]
    angle = 2 * np.pi * (DAYS.dayofyear.to_numpy()[:, None] - per_cell(plan, "peak")) / 365.25
    effect = level + growth + per_cell(plan, "weekend") * week
    effect = effect + per_cell(plan, "season") * np.cos(angle) + promotion_effect(plan, c)
    for name in ("payday", "eve", "after"):
        effect = effect + getattr(c, name) * getattr(plan, name)[:, None]
    age = np.maximum(day - plan.born, 0)
    ramp = np.where(plan.born > 0, 1 - 0.6 * np.exp(-age / 14), 1.0)
    swan = np.where(np.isin(day, SWAN), per_cell(plan, "panic"), 1.0)
    return np.exp(effect) * ramp * swan * (plan.alive & ~plan.closed[:, None])


def log_shocks(shocks: dict[str, np.ndarray], plan: Plan) -> np.ndarray:
    """Return the sum of the shocks of each cell, shape (days, cells)."""
    own = shocks["store"][:, plan.store] + shocks["product"][:, plan.product]
    return own + shocks["cell"]


def simulate(seed: int = SEED, constants: Constants | None = None, stores: int = 8) -> World:
    """Simulate a world with so many stores; the same seed, the same bits.

    Raises
    ------
    ValueError
        With fewer than three stores: two of them open late.
    """
    if stores < 3:
        raise ValueError(f"stores is {stores}: a world needs three at least, two of them new.")
    c = constants or Constants()
    structure, plans, sky, luck, wants = (stream(seed, 0, k) for k in range(5))
    products, places = _catalogue(structure, stores)
    promotions = _promotions(plans, products, c)
    public = products.drop(columns="log"), places.drop(columns="log")
    plan = Plan(*public, *promotions, **_calendar(), weather=_weather(sky))
    log = places["log"].to_numpy()[plan.store] + products["log"].to_numpy()[plan.product]
    mean = _mean(structure, plan, c, log)
    n = len(DAYS)
    shocks = {
        "store": paths(luck, (n, stores), c.store_rho, c.store_sd),
        "product": paths(luck, (n, len(products)), c.product_rho, c.product_sd),
        "cell": paths(luck, mean.shape, c.cell_rho, c.cell_sd),
    }
    seen = weather_effect(plan, plan.weather.pattern + plan.weather.noise, plan.weather.rain, c)
    expected = mean * np.exp(log_shocks(shocks, plan) + seen)
    noise = wants.gamma(c.dispersion, 1 / c.dispersion, mean.shape)
    demand = wants.poisson(expected * noise)
    return World(plan, demand, mean, shocks, wants.random(mean.shape), c, seed)
