"""Features from what was known by then, and a check that finds those that know the future.

The check cuts the feed at a moment, and builds the features again.

Examples
--------
Of three visits the last was reported a day late. Counting by the time of the visit knows it early:

>>> import pandas as pd
>>> when = pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-02"])
>>> known = pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-03"])
>>> feed = pd.DataFrame({"scanned_at": when, "received_at": known})
>>> asked = pd.DataFrame({"known_at": known})
>>> def count(feed, asked, by):
...     return pd.DataFrame({by: [(feed[by] <= now).sum() for now in asked["known_at"]]})
>>> seen_later(lambda feed, asked: count(feed, asked, "scanned_at"), feed, asked)
{'scanned_at': 1}
>>> seen_later(lambda feed, asked: count(feed, asked, "received_at"), feed, asked)
{}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from casebook.features.windows import trailing

#: From a feed and the rows that are asked about to their features.
Make = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]


def seen_later(
    make: Make,
    feed: pd.DataFrame,
    rows: pd.DataFrame,
    cuts: int = 12,
    *,
    received: str = "received_at",
    asked: str = "known_at",
    hours: float = 6.0,
) -> dict[str, int]:
    """Find the features that change once what came in later is taken out of the feed.

    Parameters
    ----------
    make : callable
        From feed and rows to features, a row for each row asked about, in their order.
    feed : DataFrame
        All messages.
    rows : DataFrame
        At ``cuts`` of their times the feed is cut; compared are those of the ``hours`` before,
        in which a later message would show.
    cuts : int
    received, asked : str
        Columns of times: when a message came in, when a row is asked.
    hours : float

    Returns
    -------
    dict of str to int
        By feature: rows in which it differs. Empty for features that are right at their time.

    Raises
    ------
    ValueError
        If no feature is made for a row: that would find nothing.
    """
    whole = make(feed, rows)
    at = rows[asked].sort_values()
    if whole.empty or len(whole) != len(rows):
        raise ValueError(f"{len(whole)} rows of features for {len(rows)} asked: nothing to compare")
    whole = whole.set_axis(rows.index)
    found: dict[str, int] = {}
    for now in at.iloc[np.linspace(0, len(at) - 1, cuts).astype(int)].unique():
        some = rows[rows[asked].between(now - pd.Timedelta(hours=hours), now)]
        cut = make(feed[feed[received] <= now], some).set_axis(some.index)
        for name in whole:
            same = np.isclose(whole.loc[some.index, name], cut[name], equal_nan=True)
            if not same.all():
                found[name] = found.get(name, 0) + int((~same).sum())
    return found


def ripe(rows: pd.DataFrame, now: pd.Timestamp, days: float) -> pd.DataFrame:
    """Return the rows that a training at ``now`` may use without a bias towards quick outcomes.

    Only rows so old that nearly every outcome has come, whether it has or not; of those the ones
    whose outcome is known. Younger rows would be there only if their outcome was quick.

    Parameters
    ----------
    rows : DataFrame
        ``known_at`` (when it was asked) and ``label_at`` (when the outcome became known, or NaT).
    now : Timestamp
    days : float

    Examples
    --------
    >>> rows = pd.DataFrame({"known_at": pd.to_datetime(["2025-01-01", "2025-01-20"])})
    >>> rows["label_at"] = pd.to_datetime(["2025-01-05", "2025-01-21"])
    >>> ripe(rows, pd.Timestamp("2025-01-22"), days=10).index.tolist()
    [0]
    """
    old = rows["known_at"] < now - pd.Timedelta(days=days)
    return rows[old & (rows["label_at"] < now)]


def latest(rows: pd.DataFrame, reports: pd.DataFrame, by: str, value: str) -> pd.DataFrame:
    """Return the last report of each row's key that was published by the time of the row.

    Parameters
    ----------
    rows : DataFrame
        ``known_at`` (when it is asked) and the column ``by``.
    reports : DataFrame
        ``by``, ``published_at`` and ``value``.

    Returns
    -------
    DataFrame
        Index of ``rows``; ``value`` and ``age`` (hours since it was published), NaN without one.

    Examples
    --------
    >>> reports = pd.DataFrame({"hub": "A", "load": [2.0, 9.0]})
    >>> reports["published_at"] = pd.to_datetime(["2025-01-01 06:00", "2025-01-02 06:00"])
    >>> rows = pd.DataFrame({"hub": ["A"], "known_at": pd.to_datetime(["2025-01-02 05:00"])})
    >>> latest(rows, reports, "hub", "load").to_numpy().tolist()
    [[2.0, 23.0]]
    """
    asked = rows[["known_at", by]].assign(row=np.arange(len(rows)))
    reports = reports[[by, "published_at", value]].sort_values("published_at")
    asked["known_at"] = asked["known_at"].astype("datetime64[s]")
    reports["published_at"] = reports["published_at"].astype("datetime64[s]")
    sides = {"left_on": "known_at", "right_on": "published_at", "by": by}
    found = pd.merge_asof(asked.sort_values("known_at"), reports, **sides).sort_values("row")
    age = (found["known_at"] - found["published_at"]) / pd.Timedelta(hours=1)
    values = {value: found[value].to_numpy(float), "age": age.to_numpy(float)}
    return pd.DataFrame(values, rows.index)


class Means(NamedTuple):
    """A mean for each row (NaN of nothing), and of how many outcomes."""

    mean: np.ndarray
    count: np.ndarray


def daily_means(
    rows: pd.DataFrame,
    outcomes: pd.DataFrame,
    keys: Sequence[str],
    value: str,
    days: float = np.inf,
) -> Means:
    """Return means over the outcomes of a row's key that were known on the midnight before it.

    Parameters
    ----------
    rows : DataFrame
        ``known_at`` and ``keys``.
    outcomes : DataFrame
        ``label_at`` (when it became known), ``keys``, ``value`` and ``n`` (1; more where ``value``
        is a sum).
    days : float
        So many whole days back.

    Examples
    --------
    >>> done = pd.DataFrame({"zone": ["A", "A"], "took": [10.0, 30.0], "n": 1})
    >>> done["label_at"] = pd.to_datetime(["2025-01-01 12:00", "2025-01-02 01:00"])
    >>> rows = pd.DataFrame({"zone": ["A", "A"]})
    >>> rows["known_at"] = pd.to_datetime(["2025-01-02 23:00", "2025-01-03 01:00"])
    >>> daily_means(rows, done, ["zone"], "took").mean.tolist()
    [10.0, 20.0]
    """
    keys, day = list(keys), pd.Timedelta(days=1)
    midnight = (rows["known_at"].dt.normalize() - pd.Timestamp(0)) / day
    known = (outcomes["label_at"].dt.normalize() - pd.Timestamp(0)) / day + 1
    time = np.concatenate([known, midnight])
    order = np.argsort(time, kind="stable")  # a day's outcomes stand before its questions
    both = pd.concat([outcomes[keys], rows[keys]], ignore_index=True)
    key = both.groupby(keys).ngroup().to_numpy()
    sums = np.empty((len(time), 2))
    for column, name in enumerate((value, "n")):
        values = np.concatenate([outcomes[name], np.zeros(len(rows))])
        sums[order, column] = trailing(key[order], time[order], values[order], days)
    total, count = sums[len(outcomes) :].T
    with np.errstate(invalid="ignore"):
        return Means(np.where(count > 0, total / count, np.nan), count)


def summed_by_day(
    outcomes: pd.DataFrame, keys: Sequence[str], value: str, now: pd.Timestamp, days: float
) -> pd.DataFrame:
    """Add up the outcomes that :func:`daily_means` cannot tell apart from ``now`` on.

    Means over all days before count whole days only: of before the last ``days`` one sum for each
    key is enough, so that the table does not grow with the number of outcomes.

    Parameters
    ----------
    outcomes : DataFrame
        As of :func:`daily_means`; sums may be among them.
    keys : sequence of str
    value : str
    now : Timestamp
        No row is asked about that is earlier.
    days : float
        The longest span of a mean that is not over all.

    Examples
    --------
    >>> done = pd.DataFrame({"zone": "A", "took": [10.0, 30.0, 20.0], "n": 1})
    >>> done["label_at"] = pd.to_datetime(["2025-01-01", "2025-01-02", "2025-03-01"])
    >>> kept = summed_by_day(done, ["zone"], "took", pd.Timestamp("2025-03-02 12:00"), days=7)
    >>> kept[["took", "n"]].to_numpy().tolist()
    [[40.0, 2.0], [20.0, 1.0]]
    """
    if outcomes.empty:
        return outcomes
    day = outcomes["label_at"].dt.normalize()
    recent = day >= now.normalize() - pd.Timedelta(days=days)
    dated = outcomes.assign(label_at=day.where(recent, day.min()))
    return dated.groupby([*keys, "label_at"], as_index=False)[[value, "n"]].sum()
