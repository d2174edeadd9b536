"""The rules rung: what a good analyst writes in an afternoon, no learning involved.

The usual day of a route is the mean of its plain days (no promotion, nothing around a holiday) with
that weekday in the last eight weeks. Each effect multiplies it by a ratio that is pooled over all
routes and the whole past.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: What the calendar and the plan know of a day, by column: 1 on such a day, else 0.
EFFECTS = ["promotion", "holiday", "eve", "backlog_1", "backlog_2"]
#: Weeks whose plain days make the usual day.
WEEKS = 8


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
    past = train.sort_values("ds")
    plain = past["y"].where(past[EFFECTS].eq(0).all(axis=1))
    weekdays = plain.groupby([past["unique_id"], past["ds"].dt.dayofweek])
    usual = weekdays.transform(lambda y: y.shift().rolling(WEEKS, min_periods=1).mean())
    one = past[EFFECTS].where(past[EFFECTS].sum(axis=1).eq(1) & usual.notna(), 0)
    return (one.mul(past["y"], axis=0).sum() / one.mul(usual, axis=0).sum()).fillna(1.0)


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
    recent = train[train["ds"] >= future["ds"].min() - pd.Timedelta(weeks=WEEKS)]
    plain = recent[recent[EFFECTS].eq(0).all(axis=1)].assign(weekday=recent["ds"].dt.dayofweek)
    usual = plain.groupby(["unique_id", "weekday"])["y"].mean().rename("usual").reset_index()
    days = future.assign(weekday=future["ds"].dt.dayofweek).merge(usual, how="left")
    factor = (ratios(train) ** future[EFFECTS]).prod(axis=1)
    return days["usual"].to_numpy() * factor.to_numpy()
