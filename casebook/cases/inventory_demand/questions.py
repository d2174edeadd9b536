"""Questions of exercise 03."""

# To write: the questions of the outline beside this one.

from __future__ import annotations

from functools import lru_cache

import numpy as np

from casebook.cases.inventory_demand.demand import CHAPTER, SEED, TEST, simulate
from casebook.cases.inventory_demand.play import Costs
from casebook.exercises.asked import Exercise, parts


@lru_cache(maxsize=1)  # one world at a time: the contract asks for five
def wanted(seed: int = SEED) -> np.ndarray:
    """Return what was wanted of the best seller among the fresh goods on the days of the test."""
    world = simulate(seed)
    plan = world.plan
    old = plan.fresh & (plan.born == 0) & (plan.store != 1)
    demand = world.demand[TEST.start : TEST.stop][~plan.closed[TEST.start : TEST.stop]]
    return demand[:, np.flatnonzero(old)[demand[:, old].sum(axis=0).argmax()]].astype(float)


exercise = Exercise(CHAPTER, SEED, given={"demand": wanted})

q1 = exercise.asked(
    1,
    "`order`, a number of units",
    setup=f"short, over = {Costs.short:g}, {Costs.over:g}",
    parts=parts("""
order = np.quantile(demand, short / (short + over), method="inverted_cdf")
np.quantile(demand, 0.83, method="inverted_cdf")
  This is the order at .83. Which costs would have to stand to each other as 5 to 1 for that?
np.quantile(demand, 0.95, method="inverted_cdf")
  P95 would be right if a unit too many cost 26 cents. Here it costs {over} euro.
np.median(demand)
  The median is right where both mistakes cost the same.
demand.mean()
  The mean is no answer to any pair of costs: it minimises squares, and you pay by the unit.
np.quantile(demand, over / (short + over), method="inverted_cdf")
  You have the two costs the wrong way round: this order runs out on most days.
"""),
    shows="The order of {order:.0f} units suffices on five days of seven.",
    hints=(
        "What does one more unit save when it is needed, and what does it cost when it is not?",
        "Order the quantile of `demand` at the critical ratio.",
    ),
)
