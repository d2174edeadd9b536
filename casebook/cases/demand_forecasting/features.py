"""What is known about a future day of a route: calendar, promotions, age, distance.

Everything here is known on the morning of a forecast for 28 days ahead: the
public holidays years ahead, openings and closings when planned, promotions 28
days ahead. No parcel count enters, so no column can leak one.

A feature of a node above the routes is the mean of its routes that are open on
the day, weighted by their volume before the origin.
"""

from __future__ import annotations

import pandas as pd

from casebook.data.plans import check_calendar, check_plan
from casebook.features.calendar import holiday_features
from casebook.forecasting.classical import DAY, KEYS
from casebook.forecasting.origins import KNOWN, OLD


def add_known(
    frame: pd.DataFrame, routes: pd.DataFrame, calendar: pd.DataFrame, promotions: pd.DataFrame
) -> pd.DataFrame:
    """Add the known features to rows of routes and days.

    Parameters
    ----------
    frame : DataFrame
        ``unique_id``, ``ds`` and more; past rows, future rows or both.
    routes : DataFrame
        ``unique_id``, ``country``, ``distance_km``, ``opens``.
    calendar : DataFrame
        ``country``, ``ds``: public holidays.
    promotions : DataFrame
        ``unique_id``, ``ds``: days with a planned promotion.

    Returns
    -------
    DataFrame
        The rows of ``frame`` in their order, with

        * ``promotion``: 1 on a planned day of the route;
        * ``holiday``, ``eve``, ``backlog_1``, ``backlog_2``: see :func:`holiday_features`;
        * ``age``: days since the route opened, 365 at most (and for a route that is as old as the
          records: its opening was not seen);
        * ``distance``: kilometres.

    Raises
    ------
    ValueError
        On rows of a route that has no master data, or before its opening, where the calendar does
        not cover a country, and on promotions that would match no day or no route
        (:mod:`casebook.data.plans`).
    """
    check_plan(promotions)
    rows = frame.drop(columns=[c for c in KNOWN if c in frame])
    unknown = set(rows["unique_id"]) - set(routes["unique_id"])
    if unknown:
        raise ValueError(f"{len(unknown)} routes have no master data, such as {min(unknown)!r}.")
    master = routes[["unique_id", "country", "distance_km", "opens"]]
    joined = rows[KEYS].merge(master, on="unique_id", how="left")
    first, last = frame["ds"].min(), frame["ds"].max()
    check_calendar(calendar, joined["country"].unique(), first, last)
    around = pd.date_range(first - 7 * DAY, last + 7 * DAY)
    joined = joined.merge(holiday_features(calendar, around), on=["country", "ds"], how="left")
    plan = promotions[["unique_id", "ds"]].drop_duplicates().assign(promotion=1)
    joined = joined.merge(plan, on=["unique_id", "ds"], how="left")
    age = (joined["ds"] - joined["opens"]).dt.days
    if (age < 0).any():
        raise ValueError(f"{joined.loc[age < 0, 'unique_id'].iloc[0]!r} has rows before it opens.")
    joined["age"] = age.clip(upper=OLD).where(joined["opens"] > routes["opens"].min(), OLD)
    joined = joined.rename(columns={"distance_km": "distance"}).fillna(
        {c: 0 for c in KNOWN if c not in ("age", "distance")}
    )
    return rows.assign(**{c: joined[c].to_numpy(float) for c in KNOWN})
