"""Orders for any table of daily demand: six rungs from last week to LightGBM, billed at the end.

Demand is taken for what it says: nothing is filled. Nothing is kept for the next order either, so a
unit too many costs ``over`` at once.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=400)
>>> rng = np.random.default_rng(0)
>>> daily = pd.DataFrame({"a": rng.poisson(9.0, 400), "b": rng.poisson(3.0, 400)}, days)
>>> table = ladder(daily, pd.DataFrame(index=days), np.array([1]), 1, short=5, over=2)
>>> table[table["series"] == "all"].set_index("model")["cost"].idxmax()
'last week'
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import by_cluster
from casebook.forecasting.censored_levels import Levels, follow
from casebook.forecasting.newsvendor import (
    cost,
    critical_ratio,
    over_plan,
    safety_stock,
    window_spread,
)
from casebook.forecasting.order_trees import fit

#: Days that train levels and factors only; days at the end that calibrate, and that test.
FIRST, CALIBRATE, TEST = 84, 84, 112
#: The rung that the others are compared with: errors of whole windows, taken for normal.
TEXTBOOK = "safety stock"


def _levels(daily: pd.DataFrame, known: int) -> Levels:
    """Learn levels with a weekday profile of all series together; ``known`` days teach it."""
    demand = daily.to_numpy()
    weekday = daily.index.dayofweek.to_numpy()
    total = pd.Series(demand[:known].sum(axis=1)).groupby(weekday[:known]).mean()
    profile = (total / total.mean()).reindex(range(7)).fillna(0.0).to_numpy()
    factor = np.repeat(profile[weekday][:, None], demand.shape[1], axis=1)
    levels = Levels(factor, np.ones_like(demand, bool), np.zeros(demand.shape[1], int), "as sold")
    return follow(levels, demand, np.zeros_like(demand, bool))


def _features(daily: pd.DataFrame, levels: Levels, day: int, ahead: np.ndarray, extra: np.ndarray):
    """Return plan and features of all series on an evening; ``extra`` is known on it."""
    demand, n = daily.to_numpy(), daily.shape[1]
    plan = levels.level[day] * levels.factor[day + ahead].sum(axis=0)
    usual = np.maximum(levels.level[day] * levels.factor[day - 27 : day + 1], 0.1)
    ratio = demand[day - 27 : day + 1] / usual
    middle = daily.index[day + int(ahead.mean())]
    angle = 2 * np.pi * middle.dayofyear / 365.25
    marks = [middle.dayofweek, (middle.day - 1) // 7, np.sin(angle), np.cos(angle), *extra]
    columns = [ratio[-7:].mean(axis=0), ratio[-14:-7].mean(axis=0), ratio.mean(axis=0)]
    columns += [ratio.std(axis=0), ratio[-7], np.log(np.maximum(plan, 0.1)), np.arange(n)]
    fixed = [np.full(n, float(mark)) for mark in marks]
    return plan, np.column_stack([*columns, *fixed])


def _rows(
    daily: pd.DataFrame, known: pd.DataFrame, levels: Levels, ahead: np.ndarray, days: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return plan, features and units wanted of all series on some evenings, day by day."""
    made = [_features(daily, levels, day, ahead, known.to_numpy()[day]) for day in days]
    wanted = np.concatenate([daily.to_numpy()[day + ahead].sum(axis=0) for day in days])
    return np.concatenate([part for part, _ in made]), np.vstack([X for _, X in made]), wanted


def ladder(
    daily: pd.DataFrame,
    known: pd.DataFrame,
    ahead: np.ndarray,
    step: int,
    short: float,
    over: float,
) -> pd.DataFrame:
    """Order every few days for a window; bill the last weeks, each leftover as waste.

    Parameters
    ----------
    daily, known : DataFrame
        Units by day and series, and what is known on the evening of each day.
    ahead : ndarray of int
        Days that an order is for, counted from the evening on which it is made.
    step : int
        Days between two orders.
    short, over : float
        Euro of a unit too few and too many.

    Returns
    -------
    DataFrame
        ``model``, ``series`` ("all", or one of at most ten), ``cost`` (euro a unit wanted),
        ``service`` (share of orders that sufficed), ``orders``; ``ratio`` (cost over that of the
        safety stock) with its interval ``low`` to ``high``, a bootstrap over weeks of the test.

    Raises
    ------
    ValueError
        With too few days to train, calibrate and test.
    """
    demand, n, level = daily.to_numpy(), len(daily), critical_ratio(short, over)
    if n < FIRST + 2 * CALIBRATE + TEST:
        raise ValueError(f"{n} days are too few: {FIRST + 2 * CALIBRATE + TEST} are needed.")
    cut = n - TEST
    levels = _levels(daily, cut)
    days = np.arange(n - 1 - ahead[-1], FIRST, -step)[::-1]
    plan, X, wanted = _rows(daily, known, levels, ahead, days)
    day, cell = (a.ravel() for a in np.meshgrid(days, np.arange(daily.shape[1]), indexing="ij"))
    test = day + ahead[0] >= cut
    old = day + ahead[-1] < cut
    late = old & (day >= cut - CALIBRATE)
    train = old & (late | (day + ahead[-1] < cut - CALIBRATE))
    model = fit(X[train], wanted[train], plan[train], late[train], level, [6])
    length, last = len(ahead), np.maximum(day[:, None] + ahead - 7, 0)
    back = np.where(last <= day[:, None], last, last - 7)
    wrong = (demand - levels.expected)[FIRST:cut]
    group = np.where(length == 1, daily.index.dayofweek.to_numpy()[day + ahead[0]], 0)
    table = pd.DataFrame({"key": cell * 7 + group, "wanted": wanted})
    share = table[old].groupby("key")["wanted"].quantile(level, interpolation="higher")
    ratio = (wanted / np.maximum(plan, 0.5))[train & late]
    spread = window_spread(wanted[old], plan[old], cell[old], daily.shape[1])
    orders = {
        "last week": demand[back, cell[:, None]].sum(axis=1),
        "past quantile": table["key"].map(share).to_numpy(),
        "days added": plan + safety_stock(wrong.std(axis=0)[cell], length, level),
        TEXTBOOK: over_plan(plan, spread[cell], level),
        "factor": plan * np.quantile(ratio, level),
        "lightgbm": model.order(X, plan),
    }
    few = enumerate(daily) if daily.shape[1] <= 10 else ()
    series = {"all": test, **{f"{item}": test & (cell == k) for k, item in few}}
    return _billed(orders, wanted, series, (day + ahead[0] - cut) // 7, (short, over))


def _billed(
    orders: dict[str, np.ndarray],
    wanted: np.ndarray,
    series: dict[str, np.ndarray],
    week: np.ndarray,
    prices: tuple[float, float],
) -> pd.DataFrame:
    """Bill each rung's orders in whole units, over all series and over each of a few."""
    whole = {name: np.floor(np.maximum(units, 0) + 0.5) for name, units in orders.items()}
    euro, rows = {name: cost(wanted, units, *prices) for name, units in whole.items()}, []
    for name, item in product(orders, series):
        on = series[item]
        found = {"cost": euro[name][on].sum() / wanted[on].sum(), "orders": int(on.sum())}
        found["service"] = float((wanted <= whole[name])[on].mean())
        sums = [np.bincount(week[on], euro[rung][on]) for rung in (name, TEXTBOOK)]
        times = by_cluster(sums[0], np.arange(len(sums[0])), sums[1])
        found |= {"ratio": times.mean, "low": times.low, "high": times.high}
        rows.append({"model": name, "series": item, **found})
    return pd.DataFrame(rows)
