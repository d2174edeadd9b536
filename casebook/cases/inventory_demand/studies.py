"""One world after the other: what the ladder's orders cost, and what holds over all worlds.

Worlds 1 to 3 chose the settings; worlds 11 to 25 were played only after world, models and this
module were fixed. Histories are clean: the reports' faults are the Sunday run's matter. What would
be new next time is another world, so every interval is a t interval over worlds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import product

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand.demand import CATEGORIES, NAMES, TEST, WEEK, Constants, World
from casebook.cases.inventory_demand.features import GROUPS, sold_in
from casebook.cases.inventory_demand.levels import learn_levels
from casebook.cases.inventory_demand.models import Training, fit_all
from casebook.cases.inventory_demand.oracle import Learnt, Oracle, Shocks
from casebook.cases.inventory_demand.play import (
    WEEKLY,
    Costs,
    Played,
    Policy,
    Seen,
    Window,
    history,
    incumbent,
    play,
)
from casebook.cases.inventory_demand.policies import (
    LEVELS,
    RATIO,
    DaysAdded,
    Factor,
    Model,
    SafetyStock,
    last_week,
    order,
    sold_out_of,
    spread_of,
    trained,
)
from casebook.evaluate.metrics import wape
from casebook.evaluate.quantiles import pinball
from casebook.forecasting.censored_levels import WAYS
from casebook.forecasting.order_trees import MEAN

#: Worlds of the headline, and those that chose.
SEEDS, CHOSEN_ON = tuple(range(11, 26)), (1, 2, 3)
LIVES = (1, 7, 14, 28)
NAIVE, USED, RULES, MODEL, ORACLE = (
    *("last_week", "in force", "safety stock, as sold", "lightgbm, tobit", "oracle"),
)
#: Knows the constants and levels of the world, and of its shocks what past demand tells.
FILTER = "oracle of past demand"
#: The analyst's rung with the demand filled: what LightGBM itself adds is counted from here.
FILLED = "safety stock, tobit"
#: Levels of the surface; ``MEAN`` is the mean.
GRID = (MEAN, 0.5, 0.6, RATIO, 0.77, 5 / 6, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Setting:
    """A world at the switch, and what was learnt from its history."""

    world: World
    past: Played

    @cached_property
    def sold_out(self) -> np.ndarray:
        """Where the history hides demand."""
        return sold_out_of(self.world.plan, self.past)

    @cached_property
    def _kept(self) -> dict[tuple[str, str], tuple]:
        return {}

    def trained(self, way: str = "tobit", start: str = "attributes") -> tuple[Callable, Training]:
        """Return a maker of fresh levels, and the training; learnt once."""
        if (way, start) not in self._kept:
            sales = self.past.sales.astype(float)
            self._kept[way, start] = trained(self.world.plan, sales, self.sold_out, way, start)
        return self._kept[way, start]

    def model(self, way: str = "tobit", by: Mapping[int, float] = LEVELS, **settings) -> Model:
        """Return the model at some levels."""
        fresh, training = self.trained(way)
        return Model(fresh(), fit_all(training, by, **settings))

    def play(self, policy: Policy, last: int = TEST.stop - 1) -> Played:
        """Let a policy order from the switch on."""
        return play(self.world, policy, last, self.past)


@lru_cache(maxsize=2)
def setting(seed: int, constants: Constants | None = None, stores: int = 8) -> Setting:
    """Return a world at the switch."""
    return Setting(*history(seed, constants, stores))


# Scores ------------------------------------------------------------------------------------


def bill(
    world: World,
    played: Played,
    cells: np.ndarray,
    days: range = TEST,
    costs: Costs | None = None,
) -> dict[str, float]:
    """Return what some cells cost over whole cycles, in euro, and how they were served.

    Returns ``cost`` and its parts ``short``, ``over``, ``hold``; ``service`` (share of orders that
    sufficed: days of fresh goods, cycles of others), ``fill`` (share of the units wanted that were
    sold), ``waste`` (units thrown away over units sold).
    """
    costs = costs or Costs()
    rows, plan = played.days(days), world.plan
    wanted, sold, waste, left = (
        a[rows][:, cells] for a in (played.demand, played.sales, played.waste, played.closing)
    )
    missed = wanted - sold
    parts = {
        "short": costs.short * missed.sum(),
        "over": costs.over * waste.sum(),
        "hold": costs.hold * left.sum(),
    }
    open_ = (plan.alive & ~plan.closed[:, None])[days.start : days.stop][:, cells]
    fresh = plan.fresh[cells]
    weeks = (len(days) // WEEK, WEEK, -1)
    asked = open_[:, ~fresh].reshape(weeks).any(axis=1)
    empty = (missed[:, ~fresh] > 0).reshape(weeks).any(axis=1) & asked
    orders = open_[:, fresh].sum() + asked.sum()
    failed = ((missed[:, fresh] > 0) & open_[:, fresh]).sum() + empty.sum()
    return {
        "cost": float(sum(parts.values())),
        **{name: float(value) for name, value in parts.items()},
        "service": float(1 - failed / max(orders, 1)),
        "fill": float(sold.sum() / max(wanted.sum(), 1)),
        "waste": float(waste.sum() / max(sold.sum(), 1)),
    }


def bills(world: World, played: Played, days: range = TEST) -> pd.DataFrame:
    """Return the bill by life, and that of all cells (``life`` 0)."""
    plan, rows = world.plan, []
    for life in (0, *LIVES):
        cells = np.flatnonzero((plan.life == life) | (life == 0))
        rows.append({"life": life, **bill(world, played, cells, days)})
    return pd.DataFrame(rows)


#: Rungs that are played only for some ways to read days that sold out.
SOME = {"factor": ("as sold", "tobit"), "raw": ("tobit",), "days added": ("tobit",)}


def _made(here: Setting, rung: str, way: str) -> Policy:
    fresh, training = here.trained(way)
    if rung == "safety stock":
        return SafetyStock(fresh(), spread_of(training))
    if rung == "days added":
        return DaysAdded(fresh())
    return Factor(fresh(), training) if rung == "factor" else here.model(way, correct=rung != "raw")


def rungs(
    here: Setting, ways: Sequence[str] = WAYS, only: Collection[str] = ()
) -> Iterable[tuple[str, Policy]]:
    """Yield the ladder by name: all rungs from one history and at the same levels."""
    makers: dict[str, Callable[[], Policy]] = {NAIVE: lambda: last_week, USED: lambda: incumbent}
    for way, rung in product(ways, ("days added", "safety stock", "factor", "raw", "lightgbm")):
        if way in SOME.get(rung, ways):
            makers[f"{rung}, {way}"] = partial(_made, here, rung, way)
    makers["oracle of last month"] = lambda: Oracle(Shocks(here.world, 28), LEVELS)
    makers[FILTER] = lambda: Oracle(Learnt(here.world), LEVELS)
    makers[ORACLE] = lambda: Oracle(Shocks(here.world), LEVELS)
    yield from ((name, make()) for name, make in makers.items() if not only or name in only)


def one_world(seed: int, ways: Sequence[str] = WAYS) -> pd.DataFrame:
    """Play every rung of the ladder in one world; ``seed``, ``policy``, ``life`` and the bill."""
    here = setting(seed)
    parts = [
        bills(here.world, here.play(policy)).assign(policy=name)
        for name, policy in rungs(here, ways)
    ]
    return pd.concat(parts, ignore_index=True).assign(seed=seed)


def worlds(seeds: Sequence[int] = SEEDS, ways: Sequence[str] = WAYS) -> pd.DataFrame:
    """Play the ladder in many worlds."""
    return pd.concat([one_world(seed, ways) for seed in seeds], ignore_index=True)


class Watched:
    """A policy whose targets are kept: what it believed each window to need.

    Attributes
    ----------
    kept : dict
        Target and point forecast by evening and window, shape (cells,) each.
    """

    def __init__(self, policy) -> None:
        self.policy, self.kept = policy, {}

    def __call__(self, seen: Seen, window: Window) -> np.ndarray:
        """Order as the policy does."""
        target = self.policy.target(seen, window)
        middle = getattr(self.policy, "expected", lambda *_: np.full(len(target), np.nan))
        self.kept[seen.now, window] = target, middle(seen, window)
        return order(target, self.policy.before(seen, window), seen, window)


def forecasts(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Score the forecasts behind the orders against the true demand, each under its own orders.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``category``; ``pinball`` at the level of each cell, a unit of mean
        demand; ``wape`` of the point forecast; ``covered`` (share of windows that the target
        covers) and ``bias`` of the point forecast.
    """
    rows = []
    for seed in seeds:
        here = setting(seed)
        for name, policy in rungs(here, ("as sold", "tobit")):
            if not hasattr(policy, "target"):
                continue
            watched = Watched(policy)
            here.play(watched)
            rows += [
                {"seed": seed, "policy": name, "category": category, **found}
                for category, found in _scored(here.world, watched.kept).items()
            ]
    return pd.DataFrame(rows)


def windows(world: World, kept: Mapping, first: int = TEST.start) -> pd.DataFrame:
    """Return every window of the test that was ordered for.

    Returns
    -------
    DataFrame
        ``cell``, ``day`` (of the run), ``length``, ``wanted`` (true), ``target``, ``point``.
    """
    plan, parts = world.plan, []
    for (day, window), (target, middle) in kept.items():
        days = day + window.ahead
        if days[0] < first or days[-1] >= TEST.stop:
            continue
        cell = np.flatnonzero(sold_in(plan, day, window, window != WEEKLY))
        wanted = world.demand[days][:, cell].sum(axis=0)
        values = {"wanted": wanted, "target": target[cell], "point": middle[cell]}
        parts.append(pd.DataFrame({"cell": cell, "day": day, "length": len(days), **values}))
    return pd.concat(parts, ignore_index=True)


def _scored(world: World, kept: Mapping) -> dict[str, dict[str, float]]:
    table, found = windows(world, kept), {}
    for code, own in table.groupby(world.plan.category[table["cell"]]):
        level = LEVELS[CATEGORIES[NAMES[code]].life]
        known, total = own["point"].notna().all(), own["wanted"].sum()
        found[NAMES[code]] = {
            "pinball": pinball(own["wanted"], own["target"], level) / own["wanted"].mean(),
            "covered": float((own["wanted"] <= own["target"]).mean()),
            "wape": wape(own["wanted"], own["point"]) if known else np.nan,
            "bias": own["point"].sum() / total - 1 if known else np.nan,
        }
    return found


def sums(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Say how often the sum of the cells' targets covers the sum of what they wanted.

    Point forecasts of one model add up; quantiles do not. A depot that stocks the sum of its
    stores' targets stocks another level than theirs.

    Returns
    -------
    DataFrame
        ``seed``, ``unit`` (cell, product in a region, category in a region), ``covered`` (share of
        windows of the goods at the critical ratio) and ``over`` (target over demand, less one).
    """
    rows = []
    for seed in seeds:
        here = setting(seed)
        plan, watched = here.world.plan, Watched(here.model())
        here.play(watched)
        table = windows(here.world, watched.kept)
        cell = table["cell"].to_numpy()
        names = {name: getattr(plan, name)[cell] for name in ("product", "category", "region")}
        table = table.assign(**names)[plan.life[cell] <= 7]
        for unit in (["cell"], ["product", "region"], ["category", "region"]):
            both = table.groupby(["day", "length", *unit])[["target", "wanted"]].sum()
            covered = float((both["wanted"] <= both["target"]).mean())
            over = both["target"].sum() / both["wanted"].sum() - 1
            rows.append({"seed": seed, "unit": " ".join(unit), "covered": covered, "over": over})
    return pd.DataFrame(rows)


# The level, and the ratio behind it -----------------------------------------------------------


def surface(
    seeds: Sequence[int] = SEEDS[:5],
    grid: Sequence[float] = GRID,
    constants: Constants | None = None,
) -> pd.DataFrame:
    """Order at other levels, for all lives alike; ``level`` is -1 for the mean.

    Returns
    -------
    DataFrame
        ``seed``, ``policy`` (the model, the oracle), ``level``, ``life`` and the bill: units short,
        thrown away and kept give the cost at any other prices.
    """
    parts = []
    for seed in seeds:
        here = setting(seed, constants)
        for level in grid:
            by = dict.fromkeys(LIVES, level)
            policies: dict[str, Policy] = {MODEL: here.model(by=by)}
            if level != MEAN:
                policies[ORACLE] = Oracle(Shocks(here.world), by)
            for name, policy in policies.items():
                table = bills(here.world, here.play(policy))
                parts.append(table.assign(seed=seed, policy=name, level=level))
    return pd.concat(parts, ignore_index=True)


def trust(
    seeds: Sequence[int] = CHOSEN_ON,
    grid: Sequence[float] = GRID[1:],
    losses: Sequence[float] = (0.0, 0.05, 0.1, 0.3),
) -> pd.DataFrame:
    """The surface where empty shelves drive customers away: what they did not buy counts as short.

    The bill is that of what was wanted with trust: demand that stays away is lost, too.
    """
    parts = []
    for seed in seeds:
        for loss in losses:
            here = setting(seed, Constants(trust=loss))
            for level in grid:
                played = here.play(here.model(by=dict.fromkeys(LIVES, level)))
                rows = slice(played.first, played.first + len(played.demand))
                loyal = replace(played, demand=here.world.demand[rows])
                table = bills(here.world, loyal)
                parts.append(table.assign(seed=seed, trust=loss, level=level))
    return pd.concat(parts, ignore_index=True)


# What sales hide ---------------------------------------------------------------------------------


def censoring(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Compare the demand that each way believes in with the true one.

    Returns
    -------
    DataFrame
        ``seed``, ``way``, ``rhythm``; ``hidden`` (share of open cell-days that sold out), ``bias``
        on those days and ``all`` over all days, as shares of the true demand.
    """
    rows = []
    for seed in seeds:
        here = setting(seed)
        plan, n = here.world.plan, len(here.past.sales)
        days = slice(100, n)
        true, hidden = here.world.demand[days], here.sold_out[days]
        open_ = (plan.alive[:n] & ~plan.closed[:n, None])[days]
        for way in WAYS:
            levels = learn_levels(plan, here.past.sales.astype(float), here.sold_out, way)
            found = np.nan_to_num(levels.wanted[:n][days])
            for rhythm, own in (("fresh", plan.fresh), ("weekly", ~plan.fresh)):
                where, known = hidden & own, {"seed": seed, "way": way, "rhythm": rhythm}
                known["hidden"] = float(hidden[:, own][open_[:, own]].mean())
                known["bias"] = float(found[where].sum() / true[where].sum() - 1)
                rows.append(known | {"all": float(found[:, own].sum() / true[:, own].sum() - 1)})
    return pd.DataFrame(rows)


def cold_start(seeds: Sequence[int] = SEEDS, weeks: int = 8) -> pd.DataFrame:
    """Bill the first weeks of cells that open in the test: with pooled priors and without.

    A prior is that of the attributes or of the category alone. Without one a cell starts at one
    unit a day and believes its own days at once.
    """
    parts = []
    for seed in seeds:
        here = setting(seed)
        plan = here.world.plan
        fitted = here.model().fitted
        starts = {"own days": "", "category mean": "category", "pooled prior": "attributes"}
        policies: dict[str, Policy] = {
            USED: incumbent,
            **{name: Model(here.trained("tobit", start)[0](), fitted)
               for name, start in starts.items()},
            ORACLE: Oracle(Shocks(here.world), LEVELS),
        }  # fmt: skip
        new = (plan.born >= TEST.start) & (plan.born <= TEST.stop - weeks * WEEK)
        for name, policy in policies.items():
            played, cost = here.play(policy), 0.0
            for born in np.unique(plan.born[new]):
                first = int(born) + (TEST.start - int(born)) % WEEK
                days, own = range(first, first + weeks * WEEK), new & (plan.born == born)
                cost += bill(here.world, played, np.flatnonzero(own), days)["cost"]
            parts.append({"seed": seed, "policy": name, "cells": int(new.sum()), "cost": cost})
    return pd.DataFrame(parts)


# What the headline depends on ------------------------------------------------------------------


def varied(seed: int, constants: Constants) -> pd.DataFrame:
    """Bill five rungs of a world with other constants."""
    here = setting(seed, constants)
    keep = {NAIVE, RULES, FILLED, MODEL, ORACLE}
    parts = [
        bills(here.world, here.play(policy)).head(1).assign(policy=name)
        for name, policy in rungs(here, ("as sold", "tobit"), keep)
    ]
    return pd.concat(parts, ignore_index=True)


def ablation(seeds: Sequence[int] = CHOSEN_ON) -> pd.DataFrame:
    """Leave one group of features out at a time: pinball is not asked, the bill is."""
    parts = []
    for seed in seeds:
        here = setting(seed)
        fresh, training = here.trained("tobit")
        for group, names in {"nothing": (), **GROUPS}.items():
            less = copy.copy(training)
            less.leave_out = names
            policy = Model(fresh(), fit_all(less, LEVELS), features=less.features)
            cost = bills(here.world, here.play(policy)).loc[0, "cost"]
            parts.append({"seed": seed, "without": group, "cost": cost})
    return pd.DataFrame(parts)
