"""What exercise 03 shows: small shelves, drawn by the student's seed.

No question needs the chapter's world. Each draws what it is about on a grid, so that the edges its
text states (a shelf that is empty in the morning, the last night of a unit) are rows of the data.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand.demand import SEED
from casebook.exercises.grading import student_seed

#: Euro a unit: not there when wanted, thrown away.
SHORT, OVER = 5.0, 2.0
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def wanted(seed: int) -> np.ndarray:
    """Return what was wanted of a loaf on 138 days; nothing was ever sold out."""
    rng = np.random.default_rng(seed)
    units = np.sort(rng.poisson(40 * rng.gamma(4.0, 0.25, 138)) + 5)
    units[95:102] = units[98]  # every definition of the quantile at 5 / 7 gives this number
    return rng.permutation(units).astype(float)


def shelf(seed: int) -> pd.DataFrame:
    """Return twelve days of a shelf: units in the morning and units sold."""
    rng = np.random.default_rng(seed)
    sold = np.array([2, 3, 4, 4, 5, 6, 6, 7, 7, 9, 10, 0])
    out = np.array([0, 0, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1], bool)
    sold = np.where(sold > 0, int(rng.integers(2, 5)) * sold + int(rng.integers(0, 3)), 0)
    stock = np.where(out, sold, sold + rng.integers(1, 9, len(sold)))
    names = [f"day {k}" for k in range(1, len(sold) + 1)]
    return (
        pd.DataFrame({"stock": stock, "sold": sold})
        .sample(frac=1, random_state=rng)
        .set_axis(names)
    )


def prices(seed: int) -> dict[str, float]:
    """Return euro a unit: short, thrown away, kept for the next cycle."""
    if seed == SEED:
        return {"short": SHORT, "waste": OVER, "keep": 0.05}
    rng = np.random.default_rng(seed)
    short, waste = rng.choice([4.0, 4.5, 5.5, 6.0]), rng.choice([1.6, 1.8, 2.2, 2.4])
    return {"short": float(short), "waste": float(waste), "keep": float(rng.choice([0.04, 0.06]))}


def promoted(seed: int) -> pd.DataFrame:
    """Return 40 weeks with one promotion, and ten later weeks with two at once."""
    rng = np.random.default_rng(seed)
    usual = float(rng.choice([40, 50, 60]))
    discount, coupon = rng.uniform(0.50, 0.60), rng.uniform(0.34, 0.42)
    kinds = {"discount": (22, discount), "coupon": (18, coupon)}
    kinds["both"] = (10, discount + coupon * rng.uniform(0.45, 0.55))
    parts = []
    for name, (n, effect) in kinds.items():
        scatter = rng.permutation(np.linspace(-1, 1, n)) * 0.12
        units = np.round(usual * np.exp(effect + scatter))
        parts.append(pd.DataFrame({"promotion": name, "usual": usual, "units": units}))
    return pd.concat(parts, ignore_index=True)


def timetable(seed: int) -> dict[str, int | str]:
    """Return when the run is, how many days later the delivery comes, and days to the next one."""
    rng = np.random.default_rng(seed)
    lead = 3 if seed == SEED else int(rng.choice([2, 4, 5]))
    run = 6 if seed == SEED else int(rng.integers(0, 6))
    arrives = WEEKDAYS[(run + lead) % 7]
    return {"run": WEEKDAYS[run], "arrives": arrives, "lead": lead, "cycle": 7}


def stock(seed: int) -> pd.DataFrame:
    """Return this evening's units of two products by the days on which they may still be sold."""
    rng, lead = np.random.default_rng([seed, 1]), timetable(seed)["lead"]
    days = np.arange(1, lead + 5)
    units = rng.integers(3, 7, (len(days), 2))
    units[[lead - 1, lead]] = rng.integers(5, 9, (2, 2))  # the last before the window, and in it
    return pd.DataFrame(units, pd.Index(days, name="days_left"), columns=["yoghurt", "cream"])


def needs(seed: int) -> pd.DataFrame:
    """Return units of both that are sold a day until the window, and that the window needs.

    Of the yoghurt more is sold than expires before the window, of the cream less.
    """
    units, lead = stock(seed), timetable(seed)["lead"]
    expires, early = (units[units.index <= last].sum() for last in (lead, lead - 1))
    a_day = np.array([expires["yoghurt"] // lead + 2, max((early["cream"] - 1) // lead, 1)])
    return pd.DataFrame([a_day, 8 * a_day + 40], ["sold_a_day", "target"], units.columns)


def overrides(seed: int) -> pd.DataFrame:
    """Return lines that a planner changed: both orders, units sold, units left at the end."""
    rng = np.random.default_rng([seed, 2])
    model = rng.integers(30, 60, 12)
    change = rng.integers(6, 15, 12) * np.repeat([1, -1], 6)
    planner = model + change
    # Of each six: three had units left, three sold out; one of the former sold between the orders.
    left = np.array([18, 16, 3, 0, 0, 0, 12, 5, 1, 0, 0, 0]) * (np.arange(12) % 6 < 3)
    lines = pd.DataFrame({"model": model, "planner": planner, "sold": planner - left, "left": left})
    return lines.sample(frac=1, random_state=rng).set_axis(list("ABCDEFGHIJKL"))


GIVEN = {
    "demand": wanted,
    "shelf": shelf,
    "prices": prices,
    "promoted": promoted,
    "timetable": timetable,
    "stock": stock,
    "needs": needs,
    "overrides": overrides,
    "SHORT": lambda seed: SHORT,
    "OVER": lambda seed: OVER,
}


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return GIVEN[name](student_seed(SEED))
