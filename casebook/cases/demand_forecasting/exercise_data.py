"""What exercise 01 shows: a feed, error variances, forecasts, clean-ups, routes.

A student has the chapter's network, seasons and breaks; the depots' shocks and each day's parcels
are drawn by the student's seed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting import world as chapter
from casebook.cases.demand_forecasting.world import KEYS, SEED, simulate
from casebook.data import snapshot
from casebook.exercises.asked import Exercise
from casebook.exercises.grading import student_seed

CASE = "01_demand_forecasting"
#: The first days that questions 3 and 4 forecast.
ORIGIN, TODAY = pd.Timestamp("2022-06-06"), pd.Timestamp("2022-04-11")
#: Question 4 tells what was seen in France, so that there the shocks stay.
TOLD = ("FR", slice("2022-02-01", "2022-09-30"))
#: Euro a parcel: capacity that is not used, and a parcel without capacity.
IDLE, SHORT = 0.60, 2.40


def truth(seed: int | None = None) -> pd.DataFrame:
    """Return what really happened; see :class:`casebook.cases.demand_forecasting.world.World`.

    A seed that is not given is the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    return _truth(student_seed(SEED) if seed is None else seed)


@cache
def _truth(seed: int) -> pd.DataFrame:
    known = simulate().truth
    if seed == SEED:
        return known
    rng = np.random.default_rng(seed)
    drawn = known.assign(depot=known["unique_id"].str.rsplit("/", n=1).str[0])
    shocks = drawn.pivot_table("shock", "ds", "depot")
    fresh = shocks.copy()
    for country, depots in shocks.T.groupby(shocks.columns.str[:2]).groups.items():
        fresh[depots] = chapter._shocks(rng, len(depots)).T
        if country == TOLD[0]:
            fresh.loc[TOLD[1], depots] = shocks.loc[TOLD[1], depots]
    by_day = fresh.stack().rename("shock").reset_index()
    drawn = drawn.drop(columns="shock").merge(by_day, on=["ds", "depot"])
    intensity = drawn["base"] * np.exp(drawn["jump"] + drawn["shock"])
    share = chapter.DISPERSION / (chapter.DISPERSION + intensity)
    drawn["y"] = rng.negative_binomial(chapter.DISPERSION, share)
    return drawn[list(known.columns)]


def reports(seed: int | None = None) -> pd.DataFrame:
    """Return the feed of the exercise, with the chapter's faults; for a seed see :func:`truth`."""
    seed = student_seed(SEED) if seed is None else seed
    sent = snapshot(CASE, "reports.parquet")
    if seed == SEED:
        return sent
    faults = snapshot(CASE, "faults.parquet").query("fault == 'wrong unit'")
    drawn = sent.drop(columns="y").merge(truth(seed)[[*KEYS, "y"]], on=KEYS)
    wrong = drawn.set_index(KEYS).index.isin(faults.set_index(KEYS).index)
    drawn.loc[wrong, "y"] = (drawn.loc[wrong, "y"] / 100).round().astype(int)
    return drawn[list(sent.columns)]


def variances(seed: int | None = None) -> pd.Series:
    """Return the error variances of question 2 (parcels²); for a seed see :func:`truth`."""
    seed = student_seed(SEED) if seed is None else seed
    a, b, rho = 60, 40, -0.25
    if seed != SEED:
        rng = np.random.default_rng(seed)
        a, b = 10 * rng.choice(np.arange(3, 10), 2, replace=False)
        rho = rng.choice([-0.2, -0.25, -0.3, -0.35, -0.4])
    values = [a**2, b**2, a**2 + b**2 + 2 * rho * a * b]
    return pd.Series(values, ["depot A", "depot B", "the total, directly"], float)


@cache
def _parcels(seed: int) -> pd.DataFrame:
    """Return parcels by day and route, as the exercise prepares them."""
    once = reports(seed).drop_duplicates(KEYS, keep="last")
    wide = once.pivot(index="ds", columns="unique_id", values="y")
    return wide.fillna(wide.shift(7))


def _y(seed: int) -> pd.Series:
    return _parcels(seed)["PL/PL2/r2"]


def _forecast(seed: int) -> pd.Series:
    last, days = _y(seed)[:ORIGIN].iloc[-29:-1], pd.date_range(ORIGIN, periods=28)
    by_weekday = last.groupby(last.index.dayofweek).mean()
    return pd.Series(by_weekday[days.dayofweek].to_numpy(), days)


def cleanups(y, origin):
    week, month = y.rolling(7).mean(), y.rolling(28).mean()
    alarm = (week < 0.8 * week.shift(28)).idxmax()  # first such day
    back = week[alarm:] > 0.8 * week.shift(28)[alarm]
    jump = (month.shift(-28) - month).abs().idxmax()
    past = y[y.index < origin]
    day, history = y.index, y.where(y.index < origin)
    return pd.DataFrame(
        {
            "since_alarm": day >= alarm,
            "until_back": (day >= alarm) & (day < back.idxmax()),
            "largest_jump": day > jump,
            "clipped": history.clip(*y.quantile([0.1, 0.9])),
            "clipped_past": history.clip(*past.quantile([0.1, 0.9])),
            "level_free": history / y.rolling(15, center=True).mean(),
        },
        index=day,
    ).astype(float)


def _table_of_october(seed: int) -> pd.Series:
    return _parcels(seed).filter(regex="^FR/").sum(axis=1)["2022-02-01":"2022-09-30"]


@cache
def _route_errors(seed: int) -> pd.DataFrame:
    """Return the errors (actual − forecast) of the routes of FR1 on working days."""
    routes = _parcels(seed).filter(regex="^FR/FR1/")
    weeks = pd.concat([routes.shift(7 * k) for k in (1, 2, 3, 4)])
    errors = routes - weeks.groupby(level="ds").median()
    return errors[errors.index.dayofweek < 5]


def staff_cost(errors, margin):  # errors of the depot; euro a day
    short = errors - margin
    cost = SHORT * short.clip(lower=0) + IDLE * (-short).clip(lower=0)
    return cost.mean()


exercise = Exercise(
    CASE,
    SEED,
    given={
        "variances": variances,
        "y": _y,
        "origin": lambda seed: ORIGIN,
        "test": lambda seed: _y(seed)[ORIGIN:].head(28),
        "forecast": _forecast,
        "today": lambda seed: TODAY,
        "table_of_october": _table_of_october,
        "cleanups": lambda seed: cleanups,
        "cleaned": lambda seed: cleanups(_table_of_october(seed), TODAY),
        "sparse": lambda seed: _parcels(seed)["DE/DE1/r2"]["2023-07":"2024-06"].to_numpy(),
        "steps": lambda seed: np.arange(0, 2.001, 0.01),
        "past": lambda seed: _route_errors(seed)["2022-07":"2023-06"],
        "held_out": lambda seed: _route_errors(seed)["2023-07":"2024-06"],
        "staff_cost": lambda seed: staff_cost,
        "IDLE": lambda seed: IDLE,
        "SHORT": lambda seed: SHORT,
    },
)
