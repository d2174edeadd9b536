"""Fresh goods in the day: a forecast every six hours, and what can still be delivered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand.demand import TEST, World
from casebook.cases.inventory_demand.play import FRESH, Costs
from casebook.cases.inventory_demand.policies import RATIO
from casebook.cases.inventory_demand.studies import MODEL, SEEDS, Watched, setting
from casebook.forecasting.intraday import Day, Vans, ordered, shape_of
from casebook.worlds.draws import stream

#: Share of a day's demand from 6, 12 and 18 o'clock on: nobody orders at night.
SHARES = (0.35, 0.45, 0.20)
#: Euro a unit that comes with a later van; level of an order that a later one follows.
EXTRA, AMPLE = 0.3, 0.95
#: Quarters of the day at which goods arrive; the first was ordered the evening before.
SCHEDULES = {"once": (0,), "and at noon": (0, 1), "every six hours": (0, 1, 2)}


def quarters(world: World, days: range) -> np.ndarray:
    """Split the true demand of days by quarters, shape (3, days, cells): the same under each."""
    rng = stream(world.seed, 0, 6)
    return np.moveaxis(rng.multinomial(world.demand[days.start : days.stop], SHARES), -1, 0)


def six_hours(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Bill the fresh goods of the test under each schedule, from the model's forecasts.

    Returns
    -------
    DataFrame
        ``seed``, ``schedule``, ``cost`` in euro and its parts, ``later`` (units of later vans),
        ``vans`` (later vans that drove: one a store, day and arrival). That a van drives at all
        costs nothing here; what is saved over ``vans`` is what it may cost.
    """
    rows = []
    for seed in seeds:
        here = setting(seed)
        watched = Watched(here.model())
        here.play(watched)
        plan, parts = here.world.plan, quarters(here.world, TEST)
        _, training = here.trained()
        made, units, late = training.rows(FRESH)
        wanted, mean, store_days = [], [], 0
        for k, day in enumerate(TEST):
            cells = np.flatnonzero(plan.fresh & plan.alive[day] & ~plan.closed[day])
            store_days += len(np.unique(plan.store[cells]))
            wanted.append(parts[:, k, cells])
            mean.append(np.maximum(watched.kept[day - 1, FRESH][1][cells], 0.2))
        for name, arrivals in SCHEDULES.items():
            vans = Vans(SHARES, arrivals, EXTRA, AMPLE)
            day = Day(np.concatenate(mean), shape_of(units[late], made.plan[late]))
            bill = ordered(np.hstack(wanted), day, vans, Costs.short, Costs.over, RATIO)
            bill["vans"] = store_days * (len(arrivals) - 1)
            rows.append({"seed": seed, "schedule": name, "policy": MODEL, **bill})
    return pd.DataFrame(rows)
