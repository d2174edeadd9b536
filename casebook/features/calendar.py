"""What a calendar says of a day: holidays and the days around them, weekday and season.

Examples
--------
>>> days = pd.date_range("2024-04-29", periods=5)  # Monday to Friday, a holiday on Wednesday
>>> may = pd.DataFrame({"country": ["DE"], "ds": [pd.Timestamp("2024-05-01")]})
>>> holiday_features(may, days)[["holiday", "eve", "backlog_1", "backlog_2"]].to_numpy().tolist()
[[0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Pairs of yearly sine and cosine.
FOURIER = 3


AROUND_HOLIDAYS = ("holiday", "eve", "backlog_1", "backlog_2")


def holiday_features(calendar: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Return what public holidays do to the days around them.

    A *working day* is a day from Monday to Saturday that is no holiday. A holiday on a day from
    Monday to Friday moves parcels to the days around it: the last working day before it is an
    ``eve``, the first and second working day after it are ``backlog_1`` and ``backlog_2``. A day
    has one role; the later in the order eve, backlog_2, backlog_1 wins, and a holiday is a holiday.

    Parameters
    ----------
    calendar : DataFrame
        ``country``, ``ds``: public holidays, at least a week beyond ``days`` on both sides where
        days at the edges matter.
    days : DatetimeIndex
        Consecutive days.

    Returns
    -------
    DataFrame
        ``country``, ``ds`` and 0 or 1 in ``holiday``, ``eve``, ``backlog_1``, ``backlog_2``; one
        row for each country and day.
    """
    frames = []
    for country, dates in calendar.groupby("country")["ds"]:
        holiday = days.isin(dates)
        working = np.flatnonzero(~holiday & (days.dayofweek < 6))
        moved = np.flatnonzero(holiday & (days.dayofweek < 5))
        after = np.searchsorted(working, moved)
        role = np.zeros(len(days), int)
        for name, step in ((1, -1), (3, 1), (2, 0)):
            place = after + step
            role[working[place[(place >= 0) & (place < len(working))]]] = name
        frame = {"country": country, "ds": days, "holiday": holiday.astype(int)}
        roles = {"eve": role == 1, "backlog_1": role == 2, "backlog_2": role == 3}
        frames.append(pd.DataFrame(frame | {k: v.astype(int) for k, v in roles.items()}))
    return pd.concat(frames, ignore_index=True)


def time_features(ds: pd.Series) -> pd.DataFrame:
    """Return features of the date alone: weekday and the yearly Fourier pairs.

    Parameters
    ----------
    ds : Series of datetime

    Returns
    -------
    DataFrame
        Index of ``ds``; ``weekday`` (0 is Monday) and ``sin_k``, ``cos_k`` of k waves a year, k = 1
        to :data:`FOURIER`.
    """
    angle = 2 * np.pi * ds.dt.dayofyear / 365.25
    pairs = {
        f"{name}_{k}": wave(k * angle)
        for k in range(1, FOURIER + 1)
        for name, wave in (("sin", np.sin), ("cos", np.cos))
    }
    return pd.DataFrame({"weekday": ds.dt.dayofweek, **pairs}, index=ds.index)
