"""The tables beside daily reports: master data, planned promotions, calendars of public holidays.

A row that they lose is a series that is planned with nothing, and nobody would see it: each check
refuses such a table with the first broken row and what to do about it.

Examples
--------
>>> days = pd.to_datetime(["2023-12-25", "2024-01-01", "2024-05-01"])
>>> calendar = pd.DataFrame({"country": "BE", "ds": days})
>>> check_calendar(calendar, ["BE", "FR"], days[1], days[2])
Traceback (most recent call last):
...
ValueError: calendar: FR has no holiday: add the country's calendar
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_dtype

from casebook.data.contracts import need_columns
from casebook.data.values import hashable, is_number, numbers

KEYS = ["unique_id", "ds"]
DAY = pd.Timedelta(days=1)
#: No country of the network has that many days between two public holidays (Germany has 139).
LONGEST_GAP = 150


def check_master(routes: pd.DataFrame) -> None:
    """Refuse master data that would lose a route.

    Parameters
    ----------
    routes : DataFrame
        ``unique_id``, ``country``, ``depot``, ``opens``, ``closes`` (empty if none); ``most``
        (parcels a day, empty for the usual bound) where a planner has confirmed a large count;
        ``distance_km``, empty where it is not known yet.

    Raises
    ------
    ValueError
        If a column is missing, a route is there twice, a name or an opening is empty, dates are
        not dates, a route closes before it opens, or a number is none above 0; with the first
        such route.
    """
    need_columns(routes, ["unique_id", "country", "depot", "opens", "closes"], "master data")
    for column in ("opens", "closes"):
        empty = column == "closes" and routes[column].isna().all()
        if not (empty or is_datetime64_dtype(routes[column])):
            raise ValueError(
                f"master data: {column} holds {routes[column].dtype}, not dates without a time "
                "zone: parse the column"
            )
    if (lists := ~hashable(routes["unique_id"])).any():
        name = routes.loc[lists, "unique_id"].iloc[0]
        raise ValueError(f"route {name} has a name that is no text: correct its row")
    closed_early = routes["closes"].notna() & (routes["closes"] <= routes["opens"])
    rules = {
        "has no name: give it one": routes["unique_id"].isna(),
        "stands in the master data more than once: keep one row for each route": routes[
            "unique_id"
        ].duplicated(),
        "has no country or depot: complete its row": routes[["country", "depot"]]
        .isna()
        .any(axis=1),
        "has no opening day: enter one, or take the route out": routes["opens"].isna(),
        "closes before it opens: correct the dates": closed_early,
        "opens or closes at a time of day: cut the time off": _has_time(routes["opens"])
        | _has_time(routes["closes"]),
        "has a country or depot that is no text: correct its row": ~routes[["country", "depot"]]
        .map(lambda value: isinstance(value, str))
        .all(axis=1),
    }
    for column, unit in (("most", "parcels a day"), ("distance_km", "kilometres")):
        if column in routes:
            what = f"has a {column} that is no number above 0: enter {unit}, or leave it empty"
            rules[what] = ~_positive_or_empty(routes[column])
    for what, broken in rules.items():
        if broken.any():
            raise ValueError(f"route {routes.loc[broken, 'unique_id'].iloc[0]} {what}")


def _has_time(dates: pd.Series) -> pd.Series:
    dates = pd.to_datetime(dates)  # a column without any date may hold another type
    return dates.notna() & (dates != dates.dt.normalize())


def _positive_or_empty(values: pd.Series) -> pd.Series:
    found = numbers(values.astype(object).where(values.notna(), 1))
    return values.isna() | (is_number(values) & np.isfinite(found) & (found > 0))


def check_plan(promotions: pd.DataFrame) -> None:
    """Refuse a plan of promotions whose rows would match no route or no day.

    Parameters
    ----------
    promotions : DataFrame
        ``unique_id``, ``ds``: days with a planned promotion.

    Raises
    ------
    ValueError
        If a column is missing, ``ds`` holds no dates without a time zone, a day has a time, or an
        id is no text; with the first such row.
    """
    need_columns(promotions, KEYS, "promotions")
    if not is_datetime64_dtype(promotions["ds"]):
        raise ValueError(
            f"promotions: ds holds {promotions['ds'].dtype}, not dates without a time zone: parse "
            "the column"
        )
    if (timed := _has_time(promotions["ds"])).any():
        first = promotions[timed].iloc[0]
        raise ValueError(
            f"promotions: {timed.sum()} rows have a time of day and would match no day, first "
            f"{first['unique_id']} on {first['ds']}: cut the time off"
        )
    named = promotions["unique_id"].map(lambda name: isinstance(name, str))
    if not named.all():
        raise ValueError(
            f"promotions: {promotions.loc[~named, 'unique_id'].iloc[0]!r} is no name of a route: "
            "correct its row"
        )


def check_calendar(
    calendar: pd.DataFrame, countries: Iterable[str], first: pd.Timestamp, last: pd.Timestamp
) -> None:
    """Refuse a calendar that does not cover a country from a first to a last day.

    Parameters
    ----------
    calendar : DataFrame
        ``country``, ``ds``: public holidays.
    countries : iterable of str
    first, last : Timestamp
        Days that a forecast or its features need.

    Raises
    ------
    ValueError
        If a country has no holiday, none within 150 days of ``first`` or ``last``, or none on a
        date in the window that was a holiday in each of the two years before.
    """
    need_columns(calendar, ["country", "ds"], "calendar")
    if not is_datetime64_dtype(calendar["ds"]):
        raise ValueError(f"calendar: ds holds {calendar['ds'].dtype}, not dates: parse the column")
    for country in sorted(set(countries)):
        dates = pd.DatetimeIndex(calendar.loc[calendar["country"] == country, "ds"]).sort_values()
        if dates.empty:
            raise ValueError(f"calendar: {country} has no holiday: add the country's calendar")
        for end, what in ((first, "begins too late"), (last, "ends too early")):
            if not ((dates > end - LONGEST_GAP * DAY) & (dates < end + LONGEST_GAP * DAY)).any():
                raise ValueError(
                    f"calendar: that of {country} {what} (it has {dates[0]:%Y-%m-%d} to "
                    f"{dates[-1]:%Y-%m-%d}, {end:%Y-%m-%d} is needed): load the missing years"
                )
        year = pd.DateOffset(years=1)
        yearly = dates.intersection(dates + year).difference(dates[dates.day == 29]) + year
        missing = yearly[(yearly >= first) & (yearly <= last)].difference(dates)
        if len(missing):
            raise ValueError(
                f"calendar: that of {country} has no holiday on {missing[0]:%Y-%m-%d}, a holiday "
                "in both years before: load the missing year"
            )
