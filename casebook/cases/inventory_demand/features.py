"""What the model knows of a cell on the evening of a run, and of the days that it orders for.

Everything is counted from the *plan*: the level of that evening times the factors of the days. So
one model serves cells of one unit a day and of thirty. The weather is the forecast of the evening,
never the weather that came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from casebook.cases.inventory_demand.demand import DAYS, Plan
from casebook.cases.inventory_demand.levels import CellLevels
from casebook.cases.inventory_demand.play import Window

#: By group; a study leaves one out at a time.
GROUPS = {
    "lags": ("last_7", "lag_14", "lag_28", "mean_28", "same_day_7", "same_day_14"),
    "neighbours": ("product_7", "product_2", "store_7", "store_1"),
    "spread": ("std_28", "log_plan"),
    "calendar": ("eve", "after", "payday", "closed", "week_of_month", "season_sin", "season_cos"),
    "promotions": ("discount", "coupon", "stacked", "since_promotion"),
    "weather": ("degrees", "rain"),
    "product": ("category", "product", "price", "organic", "life"),
    "store": ("store", "size", "income"),
    "age": ("age",),
}
FEATURES = tuple(name for names in GROUPS.values() for name in names)
#: Numbers that are names.
CODES = ("category", "product", "store")


@dataclass(frozen=True)
class Rows:
    """Cells on evenings.

    Attributes
    ----------
    X : ndarray, shape (n, len(FEATURES))
    plan : ndarray, shape (n,)
        Units that level and factors give for the window.
    day, cell : ndarray of int, shape (n,)
    """

    X: np.ndarray
    plan: np.ndarray
    day: np.ndarray
    cell: np.ndarray

    def pick(self, which: np.ndarray) -> Rows:
        """Return some of the rows."""
        return Rows(self.X[which], self.plan[which], self.day[which], self.cell[which])


def _mean_of(wanted: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return what was wanted over what was usual, 1 where nothing was usual."""
    known = ~np.isnan(wanted)
    total, base = np.where(known, wanted, 0).sum(axis=0), (usual * known).sum(axis=0)
    return np.divide(total, base, out=np.ones(len(base)), where=base > 0.1)


def _lags(levels: CellLevels, day: int, window: Window) -> dict[str, np.ndarray]:
    """Return demand of the last weeks over today's level, as it is believed to have been."""
    first = max(day - 27, 0)
    usual = levels.level[day] * levels.factor[first : day + 1]
    wanted = levels.wanted[first : day + 1]
    ratio = wanted / np.where(usual > 0.1, usual, np.nan)
    known = ~np.isnan(ratio)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, ratio, 0).sum(axis=0) / n
    spread = np.sqrt((np.where(known, ratio - mean, 0) ** 2).sum(axis=0) / n)
    same = {}
    for back in (7, 14):
        at = np.maximum(day + window.ahead - back, 0)
        at = at[at <= day]
        own = levels.level[day] * levels.factor[at]
        same[f"same_day_{back}"] = _mean_of(levels.wanted[at], own)
    return same | {
        "last_7": _mean_of(wanted[-7:], usual[-7:]),
        "lag_14": _mean_of(wanted[-14:-7], usual[-14:-7]),
        "lag_28": _mean_of(wanted[:-21], usual[:-21]),
        "mean_28": _mean_of(wanted, usual),
        "std_28": spread,
    }


def _neighbours(levels: CellLevels, day: int) -> dict[str, np.ndarray]:
    """Return how a product sold lately in all stores, and a store in all products, over its usual.

    A shock that all of them share shows in many cells at once, long before it shows in one.
    """
    plan, first = levels.plan, max(day - 6, 0)
    known = ~np.isnan(levels.wanted[first : day + 1])
    wanted = np.where(known, levels.wanted[first : day + 1], 0)
    usual = np.where(known, levels.level[day] * levels.factor[first : day + 1], 0)
    found = {}
    for name, of, days in (
        *(("product_7", plan.product, 7), ("product_2", plan.product, 2)),
        *(("store_7", plan.store, 7), ("store_1", plan.store, 1)),
    ):
        total, base = (np.bincount(of, a[-days:].sum(axis=0)) for a in (wanted, usual))
        found[name] = np.divide(total, base, out=np.ones(len(base)), where=base > 0.5)[of]
    return found


def since_promotion(plan: Plan, day: int, most: int = 56) -> np.ndarray:
    """Return the days since a product was last on promotion, at most so many, (products,)."""
    back = (plan.discount + plan.coupon)[max(day - most + 1, 0) : day + 1][::-1] > 0
    found = back.argmax(axis=0)
    return np.where(back.any(axis=0), found, most)


def _ahead(
    plan: Plan, day: int, window: Window, with_weather: bool = True
) -> dict[str, np.ndarray]:
    """Return what the plan and the forecast of the weather say of the window's days."""
    days = day + window.ahead
    product, cells = plan.product, len(plan.product)
    marks = {name: getattr(plan, name)[days].sum() for name in ("eve", "after", "payday", "closed")}
    middle = DAYS[days[len(days) // 2]]
    angle = 2 * np.pi * middle.dayofyear / 365.25
    marks |= {"week_of_month": (middle.day - 1) // 7}
    marks |= {"season_sin": np.sin(angle), "season_cos": np.cos(angle)}
    both = (plan.discount[days] > 0) & (plan.coupon[days] > 0)
    made = {name: np.full(cells, float(value)) for name, value in marks.items()}
    if with_weather:
        degrees, rain = plan.weather.forecast(day, window.ahead)
        made["degrees"] = degrees.mean(axis=0)[plan.region]
        made["rain"] = rain.mean(axis=0)[plan.region]
    else:  # what a season usually has
        made |= {"degrees": np.zeros(cells), "rain": np.full(cells, 0.3)}
    return made | {
        "discount": plan.discount[days].mean(axis=0)[product],
        "coupon": plan.coupon[days].mean(axis=0)[product],
        "stacked": both.mean(axis=0)[product],
        "since_promotion": since_promotion(plan, day)[product].astype(float),
    }


def _fixed(plan: Plan) -> dict[str, np.ndarray]:
    """Return the attributes of all cells."""
    product, store = plan.products, plan.stores
    own = {name: product[name].to_numpy(float)[plan.product] for name in ("price", "organic")}
    own |= {name: store[name].to_numpy(float)[plan.store] for name in ("size", "income")}
    codes = {"category": plan.category, "product": plan.product, "store": plan.store}
    return own | {name: code.astype(float) for name, code in codes.items()} | {"life": plan.life}


def rows_at(levels: CellLevels, day: int, window: Window, with_weather: bool = True) -> Rows:
    """Return all cells on an evening that the levels have learnt, those not sold included."""
    plan = levels.plan
    base = levels.level[day] * levels.factor[day + window.ahead].sum(axis=0)
    found = _lags(levels, day, window) | _ahead(plan, day, window, with_weather) | _fixed(plan)
    found |= _neighbours(levels, day)
    found["log_plan"] = np.log(np.maximum(base, 0.05))
    found["age"] = np.clip(day + 1 - plan.born, 0, 200).astype(float)
    X = np.column_stack([found[name] for name in FEATURES])
    cells = np.arange(X.shape[0])
    return Rows(X, base, np.full(len(cells), day), cells)


def sold_in(plan: Plan, day: int, window: Window, fresh: bool) -> np.ndarray:
    """Return which cells of a rhythm are sold on some open day of a window, shape (cells,)."""
    days = day + window.ahead
    return (plan.alive[days] & ~plan.closed[days, None]).any(axis=0) & (plan.fresh == fresh)


def history_rows(
    levels: CellLevels, wanted: np.ndarray, window: Window, days: Sequence[int], fresh: bool
) -> tuple[Rows, np.ndarray]:
    """Return cells of a rhythm on past evenings, and what was wanted in their windows.

    Parameters
    ----------
    levels : CellLevels
    wanted : ndarray, shape (days, cells)
        Demand as it is believed to have been; unknown days count as expected.
    window : Window
    days : sequence of int
        Evenings; their windows must lie in ``wanted``.
    fresh : bool
        The rhythm.

    Returns
    -------
    tuple
        Rows, and units of shape (n,). Cells that did not yet sell 28 days before are left out.
    """
    parts, labels = [], []
    expected = levels.expected[: len(wanted)]
    filled = np.where(np.isnan(wanted), np.nan_to_num(expected), wanted)
    for day in days:
        at = day + window.ahead
        if at[-1] >= len(wanted):
            raise ValueError(f"the window of day {day} ends after the history: choose earlier days")
        own = sold_in(levels.plan, day, window, fresh) & (levels.plan.born <= day - 28)
        made = rows_at(levels, day, window)
        parts.append((made.X[own], made.plan[own], made.day[own], made.cell[own]))
        labels.append(filled[at][:, own].sum(axis=0))
    return Rows(*(np.concatenate(part) for part in zip(*parts, strict=True))), np.concatenate(
        labels
    )
