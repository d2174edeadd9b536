"""The rules rung: what a good analyst writes in an afternoon, no learning involved.

The usual day of a route is the mean of its plain days (no promotion, nothing around a holiday) with
that weekday in the last eight weeks. Each effect multiplies it by a ratio that is pooled over all
routes and the whole past. The season multiplies it by what the same days of last year were to the
eight weeks before them, pooled over all routes.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=15)
>>> past = pd.DataFrame({"unique_id": "a", "ds": days, "y": 10.0})
>>> past = past.assign(**dict.fromkeys(EFFECTS, 0))
>>> past.loc[14, ["y", "holiday"]] = 2.0, 1
>>> float(ratios(past)["holiday"])
0.2
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: What the calendar and the plan know of a day, by column: 1 on such a day, else 0.
EFFECTS = ["promotion", "holiday", "eve", "backlog_1", "backlog_2"]
#: Weeks whose plain days make the usual day; weeks from a day to the same weekday of last year.
WEEKS, YEAR = 8, 52


def ratios(train: pd.DataFrame) -> pd.Series:
    """Return the factor of each effect on the usual day, pooled over all routes.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y`` (parcels a day) and the columns of :data:`EFFECTS`.

    Returns
    -------
    Series
        Index :data:`EFFECTS`; from the days that have one effect alone, 1 if there are none.
    """
    past = train.sort_values("ds", ignore_index=True)
    plain = past["y"].where(past[EFFECTS].eq(0).all(axis=1))
    weekdays = [past["unique_id"], past["ds"].dt.dayofweek]
    before = plain.groupby(weekdays).shift().groupby(weekdays)
    usual = before.rolling(WEEKS, min_periods=1).mean().droplevel([0, 1])
    one = past[EFFECTS].where(past[EFFECTS].sum(axis=1).eq(1) & usual.notna(), 0)
    return (one.mul(past["y"], axis=0).sum() / one.mul(usual, axis=0).sum()).fillna(1.0)


def usual_days(train: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """Return ``unique_id``, ``weekday``, ``usual``: plain days of the eight weeks before a day."""
    recent = train[(train["ds"] < first) & (train["ds"] >= first - pd.Timedelta(weeks=WEEKS))]
    plain = recent[recent[EFFECTS].eq(0).all(axis=1)].assign(weekday=recent["ds"].dt.dayofweek)
    return plain.groupby(["unique_id", "weekday"])["y"].mean().rename("usual").reset_index()


def season(train: pd.DataFrame, days: pd.DatetimeIndex) -> pd.Series:
    """Return last year's index: the same days of last year over what was usual before them.

    Parameters
    ----------
    train : DataFrame
        As for :func:`ratios`.
    days : DatetimeIndex
        Consecutive days from the first one to forecast on.

    Returns
    -------
    Series
        Index ``days``. Plain days of all routes, over the week around each day; 1 where last year
        is not known.
    """
    last_year = days - pd.Timedelta(weeks=YEAR)
    plain = train[train[EFFECTS].eq(0).all(axis=1)].assign(weekday=train["ds"].dt.dayofweek)
    pairs = plain.merge(usual_days(train, last_year[0]))
    sums = pairs.groupby("ds")[["y", "usual"]].sum().asfreq("D", fill_value=0.0)
    around = sums.rolling(7, center=True, min_periods=1).sum().reindex(last_year)
    return (around["y"] / around["usual"].where(around["usual"] > 0)).fillna(1.0).set_axis(days)


def rules(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast a day by the route's usual day, times the ratios of what falls on it.

    Parameters
    ----------
    train : DataFrame
        As for :func:`ratios`.
    future : DataFrame
        ``unique_id``, ``ds`` and the columns of :data:`EFFECTS`.

    Returns
    -------
    ndarray, shape (len(future),)
        NaN for a route without a plain day of that weekday in the last eight weeks.
    """
    usual = usual_days(train, future["ds"].min())
    days = future.assign(weekday=future["ds"].dt.dayofweek).merge(usual, how="left")
    factor = (ratios(train) ** future[EFFECTS]).prod(axis=1)
    return days["usual"].to_numpy() * factor.to_numpy()


def seasonal_rules(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast by the rules, times last year's index: the rung that a model has to beat.

    Parameters
    ----------
    train, future : DataFrame
        As for :func:`rules`.

    Returns
    -------
    ndarray, shape (len(future),)
        NaN as of :func:`rules`.
    """
    days = pd.date_range(future["ds"].min(), future["ds"].max())
    return rules(train, future) * future["ds"].map(season(train, days)).to_numpy()
