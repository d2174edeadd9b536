"""A policy acts inside the world: it orders, the shelves fill and empty, and it sees what was sold.

Every policy meets the same demand (common random numbers). What it sees later depends on what it
ordered: a shelf that was empty on Tuesday sold nothing on Wednesday, whatever was wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from casebook.cases.inventory_demand.demand import (
    DAYS,
    NAMES,
    SEED,
    SWITCH,
    WEEK,
    Constants,
    Plan,
    World,
    simulate,
)
from casebook.forecasting.credibility import means_of_groups
from casebook.worlds.shelf import Shelf

SUNDAY = 6
#: Trust that is won back each day.
FORGIVES = 0.05


@dataclass(frozen=True)
class Costs:
    """Euro a unit: not there when wanted, thrown away, kept overnight."""

    short: float = 5.0
    over: float = 2.0
    hold: float = 0.02


@dataclass(frozen=True)
class Window:
    """The days that an order is for, counted from the evening of the run.

    Attributes
    ----------
    first, last : int
        Both included. What is sold before ``first`` is sold from the stock that is there.
    """

    first: int
    last: int

    @property
    def ahead(self) -> np.ndarray:
        """Days ahead, shape (length,)."""
        return np.arange(self.first, self.last + 1)


#: Sunday's run covers Thursday to Wednesday; an evening's run covers the next day.
WEEKLY, FRESH = Window(4, 10), Window(1, 1)


@dataclass(frozen=True)
class Seen:
    """What is known on the evening of a day.

    Attributes
    ----------
    plan : Plan
    now : int
        The day.
    sales, closing : ndarray, shape (now + 1, cells)
        Units sold, and left on the shelf when the store closed.
    shelf : Shelf
        The stock this evening, by nights left.
    """

    plan: Plan
    now: int
    sales: np.ndarray
    closing: np.ndarray
    shelf: Shelf

    def sold_out(self, last: int | None = None) -> np.ndarray:
        """Return whether a cell had nothing left when an open store closed, (days, cells).

        Then more may have been wanted than was sold. ``last`` days only, or all.
        """
        days = slice(0 if last is None else max(self.now + 1 - last, 0), self.now + 1)
        open_ = self.plan.alive[days] & ~self.plan.closed[days, None]
        return (self.closing[days] == 0) & open_

    def usable(self, window: Window, before: np.ndarray) -> np.ndarray:
        """Return the stock that is left for a window, if ``before`` is sold until then.

        Parameters
        ----------
        window : Window
        before : ndarray, shape (cells,)
            Units that are sold before the window begins: of what lasts, once the rest is gone.
        """
        nights = window.first - 1
        lasts = self.shelf.lasting(nights)
        expires = self.shelf.stock - lasts
        return np.maximum(lasts - np.maximum(before - expires, 0), 0)


#: From what is known to units ordered for a window, shape (cells,); those of the other rhythm are
#: not read.
Policy = Callable[[Seen, Window], np.ndarray]


@dataclass(frozen=True)
class Played:
    """What happened under a policy, from ``first`` on; arrays of shape (days, cells).

    Attributes
    ----------
    first : int
        Day of the first row.
    demand, sales, closing, waste, ordered : ndarray of int
        ``ordered`` on the day on which the run was made.
    shelf : Shelf
        After the last day.
    coming : dict of int to ndarray
        Orders on their way, by day of delivery.
    trust : ndarray, shape (cells,)
    """

    first: int
    demand: np.ndarray
    sales: np.ndarray
    closing: np.ndarray
    waste: np.ndarray
    ordered: np.ndarray
    shelf: Shelf
    coming: dict[int, np.ndarray]
    trust: np.ndarray

    def days(self, which: range) -> slice:
        """Return the rows of some days."""
        return slice(which.start - self.first, which.stop - self.first)


def joined(past: Played, later: Played) -> Played:
    """Return a history and what followed it as one."""
    names = ("demand", "sales", "closing", "waste", "ordered")
    both = {name: np.vstack([getattr(past, name), getattr(later, name)]) for name in names}
    return replace(later, first=past.first, **both)


def whole(units: np.ndarray) -> np.ndarray:
    """Return units that can be ordered: whole, none below 0; half a unit is one."""
    return np.floor(np.maximum(np.nan_to_num(units), 0) + 0.5).astype(int)


def _ask(policy: Policy, seen: Seen, window: Window) -> np.ndarray:
    """Return what a policy orders for the cells of a rhythm that are sold in the window."""
    plan = seen.plan
    rhythm = plan.fresh if window == FRESH else ~plan.fresh
    days = seen.now + window.ahead
    sold = (plan.alive[days] & ~plan.closed[days, None]).any(axis=0)
    return np.where(rhythm & sold, whole(policy(seen, window)), 0)


def play(world: World, policy: Policy, last: int, start: Played | None = None) -> Played:
    """Let a policy order from an evening on.

    Parameters
    ----------
    world : World
    policy : callable
    last : int
        Last day, included.
    start : Played, optional
        From day 0; goes on from there, with that stock and those orders. Else from empty shelves.

    Returns
    -------
    Played
        From the day after ``start`` on.
    """
    plan, n = world.plan, world.demand.shape[1]
    first = 0 if start is None else len(start.sales)
    shelf = Shelf(n, int(plan.life.max())) if start is None else start.shelf.copy()
    coming = {} if start is None else {day: units.copy() for day, units in start.coming.items()}
    trust = np.ones(n) if start is None else start.trust.copy()
    rows = {name: np.zeros((last + 1, n), int) for name in ("sales", "closing")}
    if start is not None:
        for name, table in rows.items():
            table[:first] = getattr(start, name)
    made = {name: np.zeros((last + 1 - first, n), int) for name in ("demand", "waste", "ordered")}
    fresh, none = plan.fresh, np.zeros(n, int)
    if start is not None:  # the evening of the switch is the new policy's
        known = Seen(plan, first - 1, rows["sales"][:first], rows["closing"][:first], shelf)
        _evening(policy, known, coming)
    for day in range(first, last + 1):
        arrived = coming.pop(day, none)
        shelf.deliver(np.where(fresh, arrived, 0), plan.life)
        demand = world.demand[day]
        if world.constants.trust:
            demand = np.floor(demand * trust + world.uniform[day]).astype(int)
        sold = shelf.sell(demand)
        rows["sales"][day], rows["closing"][day] = sold, shelf.stock
        made["demand"][day - first], made["waste"][day - first] = demand, shelf.night()
        shelf.deliver(np.where(fresh, 0, arrived), plan.life)
        missed = np.divide(demand - sold, demand, out=np.zeros(n), where=demand > 0)
        trust = trust + FORGIVES * (1 - trust) - world.constants.trust * missed * trust
        if day < last:
            known = Seen(plan, day, rows["sales"][: day + 1], rows["closing"][: day + 1], shelf)
            made["ordered"][day - first] = _evening(policy, known, coming)
    kept = {name: table[first:] for name, table in rows.items()}
    return Played(first, **kept, **made, shelf=shelf, coming=coming, trust=trust)


def _evening(policy: Policy, seen: Seen, coming: dict[int, np.ndarray]) -> np.ndarray:
    """Order for tomorrow, and on Sundays for the next cycle; return the units."""
    day, total = seen.now, 0
    windows = [(FRESH, day + 1)]
    if DAYS.dayofweek[day] == SUNDAY:
        windows.append((WEEKLY, day + 3))
    for window, due in windows:
        units = _ask(policy, seen, window)
        coming[due] = coming.get(due, 0) + units
        total = total + units
    return total


# The policy that was in force ----------------------------------------------------------


def incumbent(seen: Seen, window: Window) -> np.ndarray:
    """Order the mean of the last four weeks' sales and 15 % more, 10 % more after a stock-out.

    The planners of the past: a promotion is ordered at a rule of thumb, what was not on the shelf
    counts as not wanted, and a new product gets the mean of its category in the store.
    """
    plan, now = seen.plan, seen.now
    days = now + window.ahead
    if window == FRESH:  # the same weekday of the last four weeks
        at = days[0] - WEEK * np.arange(1, 5)
        blocks = seen.sales[np.maximum(at, 0)] * (at >= 0)[:, None]
    else:
        at = now - WEEK * np.arange(4)
        ends = [np.maximum(now - WEEK * k + 1, 0) for k in range(5)]
        blocks = np.array([seen.sales[b:a].sum(axis=0) for a, b in pairwise(ends)])
    held = np.maximum(at - (0 if window == FRESH else WEEK - 1), 0)
    known = plan.alive[held] & (at >= 0)[:, None] & (blocks > 0)
    mean = (blocks * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    usual = np.where(known.any(axis=0), mean, siblings(plan, mean, known.any(axis=0), window))
    lately = seen.sold_out(WEEK).any(axis=0)
    promoted = 1 + 1.5 * plan.discount[days][:, plan.product].max(axis=0)
    want = usual * 1.15 * np.where(lately, 1.1, 1.0) * promoted
    before = usual * (window.first - 1) / WEEK
    return want - seen.usable(window, before)


def siblings(plan: Plan, mean: np.ndarray, known: np.ndarray, window: Window) -> np.ndarray:
    """Return the mean of a cell's category in its store, or in all, or ten units a day."""
    groups = plan.category, plan.store * len(NAMES) + plan.category
    return means_of_groups(mean, known, groups, 10.0 * len(window.ahead))


@lru_cache(maxsize=2)
def history(
    seed: int = SEED, constants: Constants | None = None, stores: int = 8
) -> tuple[World, Played]:
    """Return a world and what happened in it under the policy in force, until the switch."""
    world = simulate(seed, constants, stores)
    return world, play(world, incumbent, SWITCH)
