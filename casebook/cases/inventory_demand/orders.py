"""The Sunday run: from the stores' reports to an order file that a supplier can take.

Rungs stand in for each other: the model, the model without the weather, the textbook, last week.
Whatever made the numbers, one function turns them into cases, and one contract holds for the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand import feed
from casebook.cases.inventory_demand.demand import DAYS, WEEK, Plan
from casebook.cases.inventory_demand.levels import CellLevels, unannounced
from casebook.cases.inventory_demand.play import WEEKLY, Costs, Seen, Window
from casebook.cases.inventory_demand.policies import (
    LEVELS,
    Following,
    Model,
    SafetyStock,
    last_week,
)
from casebook.data.contracts import between, enforce, summary
from casebook.forecasting.cases import within_budget, worth_of_cases
from casebook.forecasting.censored_levels import follow
from casebook.forecasting.newsvendor import over_for
from casebook.forecasting.order_trees import Fitted
from casebook.project import write_whole
from casebook.serving.nights import climb

PACKS = {"produce": 4, "meat": 4, "dairy": 6, "drinks": 6, "pantry": 8}
#: Cases of a line; a line with fewer than ``LEAST`` is not worth picking.
MOST, LEAST = 60, 1
#: A target above so many times the median of the last eight weeks is cut, and told.
ABSURD = 6.0
SOURCES = ("model", "model without weather", "safety stock", "last week", "planner")


@dataclass(frozen=True)
class Terms:
    """What binds an order: units a case, euro a case, euro for each store and delivery."""

    pack: np.ndarray
    price: np.ndarray
    budget: float = np.inf


def terms(plan: Plan, budget: float = np.inf) -> Terms:
    """Return the supplier's terms for each cell: packs by category, 60 % of the shelf price."""
    names = plan.products["category"].to_numpy()[plan.product]
    pack = np.array([PACKS.get(name, 1) for name in names])
    return Terms(pack, 0.6 * plan.products["price"].to_numpy()[plan.product] * pack, budget)


def to_cases(
    target: np.ndarray,
    there: np.ndarray,
    plan: Plan,
    given: Terms,
    ratios: Mapping[int, np.ndarray],
    levels: Mapping[int, float] = LEVELS,
) -> tuple[np.ndarray, pd.Series]:
    """Return cases of each cell, and what a euro more would be worth in each store.

    Parameters
    ----------
    target, there : ndarray, shape (cells,)
        Units that a window needs, and that will be left when it begins.
    ratios : mapping of int to ndarray
        By life: demand over such targets, as it has been.
    """
    cases, worth = np.zeros(len(target), int), {}
    short = Costs().short
    over = np.array([over_for(levels[life], short) for life in plan.life])
    for place, store in enumerate(plan.stores["store"]):
        own = np.flatnonzero((plan.store == place) & ~plan.fresh & (target > 0))
        if not len(own):
            continue
        draws = np.array([np.quantile(ratios[life], (np.arange(40) + 0.5) / 40)
                          for life in plan.life[own]])  # fmt: skip
        gain = worth_of_cases(
            target[own, None] * draws, there[own], given.pack[own], short, over[own], MOST
        )
        cases[own], worth[store] = within_budget(gain, given.price[own], given.budget)
    return np.where(cases < LEAST, 0, cases), pd.Series(worth, dtype=float)


def contract(plan: Plan):
    """Return the contract of an order file; it holds for an empty one, too."""
    import pandera.pandas as pa

    names = {
        name: pa.Column("object", pa.Check.isin([*getattr(plan, f"{name}s")[name]], name=name,
                        error=f"unknown {name}"))
        for name in ("store", "product")
    }  # fmt: skip
    source = pa.Check.isin(SOURCES, name="source", error="nobody that may order")
    once = pa.Check(lambda t: ~t.duplicated(["store", "product"]), name="once", error="line twice")
    sums = pa.Check(lambda t: t["units"] == t["cases"] * t["pack"], name="sum", error="no sum")
    return pa.DataFrameSchema(
        names
        | {
            "cases": between("int64", 0, MOST, "cases"),
            "pack": between("int64", 1, 48, "pack"),
            "units": between("int64", 0, feed.MOST, "units"),
            "source": pa.Column("object", source),
        },
        checks=[once, sums],
    )


def check_orders(lines: pd.DataFrame, plan: Plan) -> None:
    """Refuse an order file with a line that breaks the contract (``ContractBroken``)."""

    def say(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
        return [summary(f"{rule}: {what}", rows, ["store", "product"], "send no order; run again")]

    enforce(contract(plan), lines, say)


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
    """

    plan: Plan
    fresh_levels: Callable[[], CellLevels]
    fitted: Mapping[int, Fitted] | None
    folder: Path
    terms: Terms
    window: Window = WEEKLY
    ratios: dict[int, np.ndarray] = field(default_factory=dict)
    spread: np.ndarray | None = None

    def path(self, day: int) -> Path:
        """Return the file of a Sunday's orders."""
        return Path(self.folder) / f"orders_{DAYS[day]:%Y-%m-%d}.csv"

    def seen(self, reports: pd.DataFrame, day: int, shelf, notes: list[str]) -> Seen:
        """Return what accepted and mended reports say on an evening."""
        known = feed.accepted(reports[reports["day"] <= DAYS[day]], self.plan)
        notes += [f"quarantine: {line}" for line in known.lines]
        if known.accepted.empty or known.accepted["day"].max() < DAYS[day] - pd.Timedelta(days=2):
            raise ValueError(f"no report of the three days to {DAYS[day]:%Y-%m-%d}: ask the stores")
        mended = feed.repair(known.accepted, self.plan, day + 1)
        found = feed.audit(known.accepted, self.plan, day + 1)
        recent = found[found["day"] > DAYS[day] - pd.Timedelta(days=WEEK)]
        notes += [
            f"{name}: {n} rows this week" for name, n in recent["fault"].value_counts().items()
        ]
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
            On a day that is no Sunday, without reports, or when the orders have been sent.
        NightFailed
            If no rung works. A file that is there stays as it is.
        """
        if DAYS.dayofweek[day] != 6:
            raise ValueError(f"{DAYS[day]:%Y-%m-%d} is no Sunday: orders go out on Mondays.")
        if self.path(day).with_suffix(".sent").exists():
            raise ValueError(f"the orders of {DAYS[day]:%Y-%m-%d} have been sent: nothing is run.")
        notes: list[str] = [] if promotions else [
            "promotions: next week's have not come; its lines are those of a plain week, confirm "
            "each product with the buyers"
        ]  # fmt: skip
        seen = self.seen(reports, day, shelf, notes)
        target, before, source = self._target(seen, weather, promotions, notes)
        target = self._sane(target, seen, notes)
        there = seen.usable(self.window, before)
        ratios = self.ratios or {life: np.linspace(0.4, 1.4, 40) for life in LEVELS}
        cases, worth = to_cases(target, there, self.plan, self.terms, ratios)
        own = np.flatnonzero((cases > 0) & ~self.plan.fresh)
        lines = pd.DataFrame(
            {
                "store": self.plan.stores["store"].to_numpy()[self.plan.store[own]],
                "product": self.plan.products["product"].to_numpy()[self.plan.product[own]],
                "cases": cases[own],
                "pack": self.terms.pack[own],
                "units": cases[own] * self.terms.pack[own],
                "source": source,
            }
        )
        check_orders(lines, self.plan)
        text = io.StringIO()
        lines.to_csv(text, index=False, lineterminator="\n")
        write_whole(self.path(day), text.getvalue().encode())
        return Sunday(lines, source, tuple(notes), worth, self.path(day))

    def _target(self, seen: Seen, weather: bool, promotions: bool, notes: list[str]):
        """Return target, what is sold before, and who made them: the first rung that works."""

        def levels() -> CellLevels:
            known = follow(self.fresh_levels(), seen.sales, seen.sold_out())
            return known if promotions else unannounced(known, seen.now)

        def made(name: str, target: np.ndarray, before) -> tuple[np.ndarray, np.ndarray, str]:
            days = seen.now + self.window.ahead
            sold = (self.plan.alive[days] & ~self.plan.closed[days, None]).any(axis=0)
            target = np.where(sold & ~self.plan.fresh, target, 0)
            if not np.isfinite(target).all() or not target.any():
                raise ValueError(f"{name}: targets that are no numbers, or all zero")
            return target, before, name

        def follows(name: str, policy: Following) -> tuple[np.ndarray, np.ndarray, str]:
            return made(name, policy.target(seen, self.window), policy.before(seen, self.window))

        def model(why: str):
            if self.fitted is None:
                raise ValueError("there is no model: train it again")
            name = "model" if weather else "model without weather"
            return follows(name, Model(levels(), self.fitted, with_weather=weather))

        def textbook(why: str):
            if self.spread is None:
                raise ValueError("no spread was learnt: train it again")
            notes.append(f"safety stock stands in, since {why}")
            return follows("safety stock", SafetyStock(levels(), self.spread))

        def baseline(why: str):
            notes.append(f"last week stands in, since {why}")
            units = last_week(seen, self.window)
            return made("last week", units + seen.usable(self.window, 0.0), 0.0)

        return climb(seen.now, {"model": model, "safety stock": textbook, "last week": baseline})

    def _sane(self, target: np.ndarray, seen: Seen, notes: list[str]) -> np.ndarray:
        """Cut targets that are far beyond the last eight weeks."""
        weeks = np.nan_to_num(seen.sales[-8 * WEEK :]).reshape(8, WEEK, -1).sum(axis=1)
        most = ABSURD * np.maximum(np.median(weeks, axis=0), 5.0)
        cut = (target > most) & (self.plan.born <= seen.now - 8 * WEEK)
        for cell in np.flatnonzero(cut):
            store = self.plan.stores["store"].iloc[self.plan.store[cell]]
            product = self.plan.products["product"].iloc[self.plan.product[cell]]
            notes.append(f"{store} {product}: {target[cell]:.0f} units cut to {most[cell]:.0f}")
        return np.where(cut, most, target)
