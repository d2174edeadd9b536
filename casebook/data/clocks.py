"""Clocks of devices: when something happened, and which clocks are wrong.

A message has two times: when it happened by the device's clock, and when it was received.

Examples
--------
>>> noon, hour = pd.Timestamp("2025-10-07 12:00"), pd.Timedelta(hours=1)
>>> print(believed(noon - hour, noon, ahead=hour / 6, oldest=72 * hour))
2025-10-07 11:00:00
>>> print(believed(noon + hour, noon, ahead=hour / 6, oldest=72 * hour))
2025-10-07 12:00:00
>>> log = pd.DataFrame({"device": ["a", "a", "b"], "scanned_at": noon, "received_at": noon})
>>> log.loc[:1, "received_at"] += 3 * hour
>>> behind(log, "device", "scanned_at", "received_at", hours=1.0, least=2)["device"].tolist()
['a']
"""

from __future__ import annotations

from typing import TypeVar

import pandas as pd

Times = TypeVar("Times", pd.Series, pd.Timestamp)


def believed(happened: Times, received: Times, ahead: pd.Timedelta, oldest: pd.Timedelta) -> Times:
    """Return when something happened: by the device's clock, unless that cannot be true.

    Parameters
    ----------
    happened, received : Timestamp or Series
        Both of one kind.
    ahead : Timedelta
        By so much a clock may be ahead of the receiver's.
    oldest : Timedelta
        So old a message may be.
    """
    wrong = (happened > received + ahead) | (happened < received - oldest)
    if isinstance(received, pd.Series):
        return happened.where(~wrong, received)
    return received if wrong else happened


def behind(
    messages: pd.DataFrame, device: str, happened: str, received: str, hours: float, least: int
) -> pd.DataFrame:
    """Return the weeks in which all messages of a device seem late: its clock is behind.

    Parameters
    ----------
    messages : DataFrame
    device, happened, received : str
        Columns.
    hours : float
        The median of a week's delays is longer.
    least : int
        Messages of a week that tell.

    Returns
    -------
    DataFrame
        ``device``, ``week`` (its Monday), ``messages``, ``hours`` (the median).
    """
    lag = (messages[received] - messages[happened]) / pd.Timedelta(hours=1)
    day = messages[received].dt.normalize()
    week = day - pd.to_timedelta(day.dt.dayofweek, unit="D")
    found = lag.groupby([messages[device], week.rename("week")]).agg(["size", "median"])
    found = found.rename(columns={"size": "messages", "median": "hours"})
    slow = (found["messages"] >= least) & (found["hours"] > hours)
    return found[slow].reset_index()
