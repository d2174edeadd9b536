"""The Sunday run: from the stores' reports to an order file that a supplier can take.

Rungs stand in for each other: the model, the model without the weather, the textbook, last week.
Whatever made the numbers, one function turns them into cases, and one contract holds for the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand import feed
from casebook.cases.inventory_demand.demand import DAYS, NAMES, WEEK, Plan
from casebook.cases.inventory_demand.levels import CellLevels, unannounced
from casebook.cases.inventory_demand.play import SUNDAY, WEEKLY, Costs, Seen, Window, siblings
from casebook.cases.inventory_demand.policies import (
    LEVELS,
    Following,
    Model,
    SafetyStock,
    last_week,
)
from casebook.data.order_lines import check_lines
from casebook.data.stock_reports import need_same_stock, silent, usual_weeks
from casebook.forecasting.cases import MOST, Terms, cases_of
from casebook.forecasting.censored_levels import follow
from casebook.forecasting.newsvendor import over_for
from casebook.forecasting.order_trees import Fitted
from casebook.serving.nights import climb, need_amounts
from casebook.serving.order_desk import write_orders

PACKS = {"bakery": 1, "ready meals": 1, "produce": 4, "meat": 4, "dairy": 6, "drinks": 6,
         "pantry": 8}  # fmt: skip
#: A target above so many times the middling week is cut, and told; a category below such a share of
#: its weeks is not ordered. A degree beyond the season above this is none.
ABSURD, LITTLE, HOT = 6.0, 0.4, 30.0
SOURCES = ("model", "model without weather", "safety stock", "last week", "planner")
#: Points of the distribution of demand over target.
POINTS = (np.arange(40) + 0.5) / 40


def terms(plan: Plan, budget: float = np.inf) -> Terms:
    """Return the supplier's terms for each cell: packs by category, 60 % of the shelf price."""
    pack = np.array([PACKS[name] for name in plan.products["category"]])[plan.product]
    return Terms(pack, 0.6 * plan.products["price"].to_numpy()[plan.product] * pack, budget)


def check_orders(lines: pd.DataFrame, plan: Plan, given: Terms) -> None:
    """Refuse an order file with a line that breaks the contract (``ContractBroken``)."""
    cells = np.flatnonzero(~plan.fresh)
    known = pd.DataFrame(plan.names(cells))
    known = known.assign(pack=given.pack[cells], price=given.price[cells])
    check_lines(lines, known, SOURCES, MOST, given.budget)


@dataclass(frozen=True)
class Sunday:
    """What one Sunday made: lines, who made them, notes, budget's worth, file."""

    lines: pd.DataFrame
    source: str
    notes: tuple[str, ...]
    worth: pd.Series
    path: Path


@dataclass
class SundayRun:
    """The weekly batch.

    Parameters
    ----------
    plan : Plan
    fresh_levels : callable
        Returns levels with factors, tails and priors learnt, as of the training.
    fitted : mapping of int to Fitted or None
        None when there is no model to load.
    folder : Path
    terms : Terms
    ratios : mapping of int to ndarray
        By life: demand over such targets, as it has been.
    spread : ndarray or None
        Of windows, for the textbook.
    """

    plan: Plan
    fresh_levels: Callable[[], CellLevels]
    fitted: Mapping[int, Fitted] | None
    folder: Path
    terms: Terms
    ratios: Mapping[int, np.ndarray]
    spread: np.ndarray | None = None
    window: Window = WEEKLY

    def __post_init__(self) -> None:
        for life in {*self.plan.life[~self.plan.fresh].tolist()}:
            known = np.asarray(self.ratios.get(life, ()), float)
            if not known.size or not (np.isfinite(known) & (known >= 0)).all():
                raise ValueError(f"ratios of life {life}: numbers from 0 on; train it again.")

    def path(self, day: int) -> Path:
        """Return the file of a Sunday's orders."""
        return Path(self.folder) / f"orders_{DAYS[day]:%Y-%m-%d}.csv"

    def seen(self, reports: pd.DataFrame, day: int, shelf, notes: list[str]) -> Seen:
        """Return what accepted and mended reports say on an evening."""
        known, names = feed.accepted(reports, self.plan, day), self.plan.stores["store"]
        notes += [f"quarantine: {line}" for line in known.lines]
        due = np.bincount(self.plan.store, self.plan.alive[day - 2 : day + 1].sum(axis=0))
        try:
            away = silent(known.accepted, names, due, DAYS[day - 2])
        except ValueError as error:
            raise ValueError(f"{error}. {' '.join(known.lines)}".strip()) from None
        notes += [f"silent: {name} for three days; its levels stay, call it" for name in away]
        mended = feed.repair(known.accepted, self.plan, day + 1)
        found = feed.audit(known.accepted, self.plan, day + 1)
        recent = found[found["day"] > DAYS[day] - pd.Timedelta(days=WEEK)]
        notes += [
            f"{name}: {n} rows this week" for name, n in recent["fault"].value_counts().items()
        ]
        g = feed.grid(known.accepted, self.plan, day + 1)
        left = np.where(self.plan.fresh, np.nan, g.closing[day] - g.wasted[day])
        need_same_stock(shelf.ages, int(self.plan.life.max()), left)
        closing = np.where(mended.sold_out, 0, 1)
        return Seen(self.plan, day, mended.sales, closing, shelf)

    def run(
        self, reports: pd.DataFrame, day: int, shelf, weather: bool = True, promotions: bool = True
    ) -> Sunday:
        """Make and write the orders of a Sunday; a second run writes the same file.

        Parameters
        ----------
        reports : DataFrame
        day : int
        shelf : Shelf
            Stock by age, from the stores' ledger.
        weather, promotions : bool
            Whether the forecast of the weather and next week's promotions have come.

        Raises
        ------
        ValueError
            On a day that is no Sunday of the calendar, without reports, with another evening's
            stock, when nothing would be ordered, or when the orders have been sent or overridden.
        NightFailed
            If no rung works. A file that is there stays as it is.
        """
        whole = isinstance(day, int | np.integer) and 8 * WEEK <= day < len(DAYS) - self.window.last
        if not whole or DAYS.dayofweek[day] != SUNDAY:
            which = f"{DAYS[day]:%Y-%m-%d}" if whole else f"day {day}"
            raise ValueError(f"{which} is no Sunday of the calendar with eight weeks behind it.")
        if self.path(day).with_suffix(".sent").exists():
            raise ValueError(f"the orders of {DAYS[day]:%Y-%m-%d} have been sent: nothing is run.")
        notes: list[str] = []
        seen = self.seen(reports, day, shelf, notes)
        days = day + self.window.ahead
        if not promotions:
            notes.append("promotions: next week's have not come; its lines are those of a plain "
                         "week, confirm each product with the buyers")  # fmt: skip
        elif not (self.plan.discount[days] + self.plan.coupon[days]).any():
            notes.append("promotions: the plan has none for these days; ask the buyers")
        target, before, source = self._target(seen, weather, promotions, notes)
        lines, worth = self._lines(self._sane(target, seen, notes), before, source, seen, notes)
        check_orders(lines, self.plan, self.terms)
        write_orders(self.path(day), lines, notes, MOST)
        return Sunday(lines, source, tuple(notes), worth, self.path(day))

    def _lines(
        self, target: np.ndarray, before, source: str, seen: Seen, notes: list[str]
    ) -> tuple[pd.DataFrame, pd.Series]:
        """Return lines in whole cases within the budget, and the budget's worth by store."""
        plan, short = self.plan, Costs().short
        over = np.array([over_for(LEVELS[life], short) for life in plan.life])
        draws = {life: np.quantile(known, POINTS) for life, known in self.ratios.items()}
        demand = target[:, None] * np.array([draws.get(life, POINTS * 0) for life in plan.life])
        there = seen.usable(self.window, before)
        cases, worth, cut = cases_of(demand, there, plan.store, self.terms, short, over)
        own = np.flatnonzero(cases)
        notes += [f"{' '.join(plan.names(k).values())}: more than {MOST} cases, cut"
                  for k in np.flatnonzero(cut)]  # fmt: skip
        pack = self.terms.pack[own]
        values = {"cases": cases[own], "pack": pack, "units": cases[own] * pack, "source": source}
        stores = plan.stores["store"].to_numpy()
        euro = {stores[place]: value for place, value in worth.items()}
        return pd.DataFrame({**plan.names(own), **values}), pd.Series(euro, dtype=float)

    def _target(self, seen: Seen, weather: bool, promotions: bool, notes: list[str]):
        """Return target, what is sold before, and who made them: the first rung that works."""
        plan, days = self.plan, seen.now + self.window.ahead
        sold = (plan.alive[days] & ~plan.closed[days, None]).any(axis=0) & ~plan.fresh
        least = LITTLE * self._usual(seen) * (~plan.closed[days]).mean() * sold

        def rung(name: str, make: Callable[[], tuple]) -> Callable[[str], tuple]:
            def tried(why: str) -> tuple[np.ndarray, np.ndarray, str]:
                target, before = make()
                target = np.where(sold, target, 0)
                need_amounts(name, target, least, plan.category, NAMES)
                if why:
                    notes.append(f"{name} stands in, since {why}")
                return target, before, name

            return tried

        makers = self._makers(seen, weather, promotions)
        return climb(seen.now, {name: rung(name, make) for name, make in makers.items()})

    def _makers(self, seen: Seen, weather: bool, promotions: bool) -> dict[str, Callable]:
        """Return how each rung finds what the window needs, and what is sold before it."""

        def asked(make: Callable[[CellLevels], Following]) -> tuple:
            levels = follow(self.fresh_levels(), seen.sales, seen.sold_out())
            policy = make(levels if promotions else unannounced(levels, seen.now))
            return policy.target(seen, self.window), policy.before(seen, self.window)

        def model() -> tuple:
            degrees, rain = self.plan.weather.forecast(seen.now, self.window.ahead)
            if not weather or not ((np.abs(degrees) < HOT) & (rain >= 0) & (rain <= 1)).all():
                raise ValueError("the forecast of the weather has not come, or is none")
            return asked(lambda levels: Model(levels, self._model()))

        def textbook() -> tuple:
            if self.spread is None:
                raise ValueError("no spread was learnt: train it again")
            return asked(lambda levels: SafetyStock(levels, self.spread))

        return {
            "model": model,
            "model without weather": lambda: asked(lambda own: Model(own, self._model(), False)),
            "safety stock": textbook,
            "last week": lambda: (last_week(seen, self.window) + seen.usable(self.window, 0), 0),
        }

    def _model(self) -> Mapping[int, Fitted]:
        """Return the model, if it is there and knows all goods."""
        if self.fitted is None:
            raise ValueError("there is no model: train it again")
        if lacks := {*self.plan.life[~self.plan.fresh].tolist()} - {*self.fitted}:
            raise ValueError(f"the model lacks goods that live {sorted(lacks)} days")
        return self.fitted

    def _usual(self, seen: Seen) -> np.ndarray:
        """Return each cell's middling week of the last eight; of siblings where it is new."""
        week = usual_weeks(np.where(self.plan.alive[: seen.now + 1], seen.sales, np.nan), WEEK, 8)
        known = ~np.isnan(week)
        return np.where(known, week, siblings(self.plan, np.nan_to_num(week), known, self.window))

    def _sane(self, target: np.ndarray, seen: Seen, notes: list[str]) -> np.ndarray:
        """Cut targets that are far beyond the last eight weeks."""
        most = ABSURD * np.maximum(self._usual(seen), 5.0)
        for cell in np.flatnonzero(target > most):
            name = " ".join(self.plan.names(cell).values())
            notes.append(f"{name}: {target[cell]:.0f} units cut to {most[cell]:.0f}")
        return np.minimum(target, most)
