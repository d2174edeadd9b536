"""What breaks the orders, each shown by running it: a wrong horizon, stacked promotions, a swan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand.demand import (
    DAYS,
    LATE,
    NAMES,
    STACKS,
    SWAN,
    SWITCH,
    TEST,
    Plan,
)
from casebook.cases.inventory_demand.levels import capped, unannounced
from casebook.cases.inventory_demand.play import FRESH, WEEKLY, Costs, Played, Seen, Window, play
from casebook.cases.inventory_demand.policies import LEVELS, Model, order
from casebook.cases.inventory_demand.studies import (
    CHOSEN_ON,
    FILLED,
    MODEL,
    ORACLE,
    SEEDS,
    Setting,
    Watched,
    bill,
    bills,
    rungs,
    setting,
    windows,
)
from casebook.forecasting.censored_levels import errors_by
from casebook.forecasting.newsvendor import cost, over_for
from casebook.serving.monitor import DriftAlarm
from casebook.serving.overrides import Desk, Prices


class Short(Model):
    """The model, asked on Sunday for the next seven days: Monday to Sunday."""

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the target of the wrong days."""
        return super().target(seen, Window(1, 7) if window == WEEKLY else window)


def horizon(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Bill the weekly goods when Sunday's run looks ten days ahead, and when it looks seven."""
    rows = []
    for seed in seeds:
        here = setting(seed)
        right = here.model()
        fresh, _ = here.trained()
        for name, policy in (("ten days", right), ("seven days", Short(fresh(), right.fitted))):
            cells = np.flatnonzero(~here.world.plan.fresh)
            found = bill(here.world, here.play(policy), cells)
            rows.append({"seed": seed, "horizon": name, **found})
    return pd.DataFrame(rows)


# Promotions that were never seen ----------------------------------------------------------------


def stacked(plan: Plan, days: np.ndarray) -> np.ndarray:
    """Return which cells have discount and coupon together on some of the days."""
    both = (plan.discount[days] > 0) & (plan.coupon[days] > 0)
    return both.any(axis=0)[plan.product]


def promoted(plan: Plan, table: pd.DataFrame) -> np.ndarray:
    """Return whether each window has "none", "one" or "stacked" promotions."""
    kinds = np.zeros(len(table), int)
    for (day, length), own in table.groupby(["day", "length"]):
        days = day + (WEEKLY if length > 1 else FRESH).ahead
        any_ = (plan.discount[days] + plan.coupon[days] > 0).any(axis=0)[plan.product]
        kinds[own.index] = (any_ + stacked(plan, days).astype(int))[own["cell"]]
    return np.array(["none", "one", "stacked"])[kinds]


def promotions(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Score targets in windows without promotion, with one, and with two at once.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``promotion``; ``windows``, ``target`` and ``point`` over what was
        wanted (sums), ``cost`` a unit wanted, in euro at the prices of each life, and ``spoils``
        that of the goods that live a day or a week.
    """
    rows = []
    for seed in seeds:
        here = setting(seed)
        plan = here.world.plan
        policies = dict(rungs(here, ("tobit",), {FILLED, ORACLE}))
        model, limited = here.model(), here.model()
        limited.levels.factor = capped(limited.levels, SWITCH + 1)
        chosen = {FILLED: policies[FILLED], MODEL: model, "capped": limited}
        for name, policy in (chosen | {ORACLE: policies[ORACLE]}).items():
            watched = Watched(policy)
            here.play(watched)
            table = windows(here.world, watched.kept, STACKS)
            life = plan.life[table["cell"]]
            over = np.array([prices_of(int(lives)).over for lives in life])
            table["cost"] = cost(table["wanted"], table["target"], Costs.short, over)
            for kind, own in table.groupby(promoted(plan, table)):
                spoils = own[life[own.index] <= 7][["cost", "wanted"]].sum()
                share = own[["target", "point", "cost"]].sum(min_count=1) / own["wanted"].sum()
                found = {"seed": seed, "policy": name, "promotion": kind, "windows": len(own)}
                rows.append(found | share.to_dict() | {"spoils": spoils["cost"] / spoils["wanted"]})
    return pd.DataFrame(rows)


# A black swan, and planners --------------------------------------------------------------------


class Overridden:
    """A policy whose weekly targets a planner changes, through the desk.

    Parameters
    ----------
    policy : policy with ``target`` and ``before``
    planner : callable
        From what is seen, the window and the order to units.
    desk : Desk
    """

    def __init__(self, policy, planner: Callable, desk: Desk) -> None:
        self.policy, self.planner, self.desk = policy, planner, desk
        self.placed: dict[tuple[int, int], tuple[float, float]] = {}

    def __call__(self, seen: Seen, window: Window) -> np.ndarray:
        """Order as the policy does, but for the lines that the planner overrides."""
        target, before = self.policy.target(seen, window), self.policy.before(seen, window)
        if window != WEEKLY:
            return order(target, before, seen, window)
        wish = self.planner(seen, window, target)
        for cell in np.flatnonzero((wish != target) & seen.plan.alive[seen.now]):
            self.desk.place(
                f"{seen.now}", f"{cell}", "planner", target[cell], wish[cell], "by experience"
            )
            self.placed[seen.now, int(cell)] = target[cell], wish[cell]
        return order(wish, before, seen, window)


def after_stock_out(seen: Seen, window: Window, target: np.ndarray) -> np.ndarray:
    """Order a third more of what sold out in the last week: what many planners do."""
    hit = seen.sold_out(7).any(axis=0) & (seen.plan.life == 7)
    return np.where(hit, np.round(target * 1.33), target)


def knows_the_swan(seen: Seen, window: Window, target: np.ndarray) -> np.ndarray:
    """Order twice as much of what keeps, where the window is the swan's week."""
    keeps = np.isin(seen.plan.category, [NAMES.index(name) for name in ("pantry", "drinks")])
    due = seen.now + window.first == SWAN.start
    return np.where(keeps & due, np.round(2 * target), target)


def prices_of(life: int) -> Prices:
    """Return the prices under which the level of a life is the critical ratio."""
    return Prices(Costs().short, over_for(LEVELS[life], Costs().short))


def _settled(here: Setting, policy: Overridden, played: Played, last: int) -> dict[str, float]:
    """Settle overrides by what the sales say, and sum up what else could be said of them."""
    saved, plan = dict.fromkeys(("by_sales", "as_waste", "by_demand"), 0.0), here.world.plan
    waste = Prices(Costs().short, Costs().over)
    for (day, cell), (model, units) in policy.placed.items():
        days, price = day + WEEKLY.ahead, prices_of(int(plan.life[cell]))
        if days[-1] > last:
            continue
        wanted = float(np.nansum(policy.policy.levels.wanted[days, cell]))
        out = bool((played.closing[days - played.first, cell] == 0).any())
        saved["by_sales"] += policy.desk.settle(f"{day}", f"{cell}", wanted, out, price)
        saved["as_waste"] += waste.cost(wanted, model) - waste.cost(wanted, units)
        true = float(here.world.demand[days, cell].sum())
        saved["by_demand"] += price.cost(true, model) - price.cost(true, units)
    return saved


def overrides(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Bill a planner's overrides three ways: by the sales, by true demand, and in the world.

    Returns
    -------
    DataFrame
        ``seed``, ``planner``, ``lines``; euro saved ``by_sales`` (the audit, each line at the
        prices of its life), ``as_waste`` (the audit, if every leftover were thrown away),
        ``by_demand`` (with the true demand) and ``in_world`` (both played, stock carried on).
    """
    rows, price = [], prices_of(7)
    cases = {"a third more after a stock-out": (after_stock_out, TEST),
             "knows of the swan": (knows_the_swan, LATE)}  # fmt: skip
    for seed in seeds:
        here = setting(seed)
        plain = here.model()
        for name, (planner, days) in cases.items():
            fresh, _ = here.trained()
            with TemporaryDirectory() as folder, Desk(Path(folder) / "log.db", price, 1e5) as desk:
                changed = Overridden(Model(fresh(), plain.fitted), planner, desk)
                with_ = play(here.world, changed, days.stop - 1, here.past)
                said = _settled(here, changed, with_, days.stop - 2)
            without = here.play(Model(fresh(), plain.fitted), days.stop - 1)
            total = [bills(here.world, p, days).loc[0, "cost"] for p in (without, with_)]
            found = {"seed": seed, "planner": name, "lines": len(changed.placed)}
            rows.append(found | said | {"in_world": total[0] - total[1]})
    return pd.DataFrame(rows)


# What has not come ------------------------------------------------------------------------------


class Blind(Model):
    """The model in weeks whose promotions have not come: each day is planned as a plain one."""

    def expected(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the point forecast without promotions."""
        return self._plainly(super().expected, seen, window)

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the target without promotions in the plan."""
        return self._plainly(super().target, seen, window)

    def _plainly(self, ask: Callable, seen: Seen, window: Window) -> np.ndarray:
        known = self.caught_up(seen)
        self.levels = unannounced(known, seen.now)
        try:
            return ask(seen, window)
        finally:
            self.levels = known


def missing(seeds: Sequence[int] = CHOSEN_ON) -> pd.DataFrame:
    """Bill the model without the weather's forecast, without promotions, and with both."""
    rows = []
    for seed in seeds:
        here = setting(seed)
        fresh, _ = here.trained()
        fitted = here.model().fitted
        policies = {
            "all there": Model(fresh(), fitted),
            "no weather": Model(fresh(), fitted, with_weather=False),
            "no promotions": Blind(fresh(), fitted),
        }
        for name, policy in policies.items():
            found = bills(here.world, here.play(policy)).iloc[0].to_dict()
            rows.append({"seed": seed, "what": name, **found})
    return pd.DataFrame(rows)


# Errors that are watched --------------------------------------------------------------------------


#: A swan lasts a week: two days of three times the usual error are enough.
ALARM = DriftAlarm(slack=1.0, limit=1.5)


def drift(seeds: Sequence[int] = SEEDS, alarm: DriftAlarm = ALARM) -> pd.DataFrame:
    """Say in which categories the errors alarm before the swan (wrongly) and in its week.

    Errors are of days that no fit has seen, from the switch on: the alarm is blind for its first
    nine weeks.
    """
    rows = []
    for seed in seeds:
        model = setting(seed).model()
        setting(seed).play(model, SWAN.stop)
        levels, known = model.levels, slice(SWITCH + 1, model.levels.now + 1)
        error = errors_by(levels, known, levels.plan.category)
        for name, errors in pd.DataFrame(error, DAYS[known], columns=NAMES).items():
            fires = alarm.path(errors)["fires"]
            quiet, week = fires[: DAYS[SWAN.start - 1]], fires[DAYS[SWAN.start] :]
            found = {"quiet": int(quiet.sum()), "days": len(quiet) - alarm.blind}
            delay = float(week.argmax()) if week.any() else np.nan
            rows.append({"seed": seed, "category": name, **found, "delay": delay})
    return pd.DataFrame(rows)
