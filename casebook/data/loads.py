"""Whether tonight's load of a company's tables can be right, judged by the tables themselves.

A row that cannot be is set aside and counted; a table of which many rows, or a period, cannot be
is refused, with its name and what to do. A load is compared with its own past, so that the first
night can tell too.

Examples
--------
>>> tickets = pd.DataFrame({"row": [0, 9, None], "at": ["2025-01-06"] * 3})
>>> sound, note = set_aside("tickets", tickets, rows=3, times=["at"], most=0.7)
>>> sound["row"].tolist(), note
([0], '2 of 3 rows of tickets have no row, time or value that can be: left out.')
>>> steady("logins", now=10, past=300)
Traceback (most recent call last):
...
casebook.data.loads.LoadRefused: logins: 10 now, 300 is usual: the load is a part; load it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from casebook.data.contracts import need_columns, typed

#: Share of a table's rows that may be set aside.
SPOILT = 0.01


class LoadRefused(ValueError):
    """A table of tonight cannot be right."""


def same_rows(name: str, index: pd.Index, **beside: Any) -> None:
    """Refuse a table whose index is not 0, 1, 2, … in order: row labels are ids, not positions.

    Parameters
    ----------
    name : str
    index : Index
    **beside : array_like
        Arrays without ids of their own that must have one entry for each row.

    Raises
    ------
    LoadRefused
    """
    if index.has_duplicates:
        row = index[index.duplicated()][0]
        raise LoadRefused(f"{name}: {row} stands twice in the table; load it again.")
    if not index.equals(pd.RangeIndex(len(index))):
        wrong = int(np.argmax(np.asarray(index) != np.arange(len(index))))
        raise LoadRefused(
            f"{name}: place {wrong} holds row {index[wrong]}. One is missing or the order is "
            "another, and the arrays beside it would be of other rows; load all, sorted."
        )
    for other, values in beside.items():
        if len(values) != len(index):
            raise LoadRefused(f"{name}: {len(index)} rows, {other} has {len(values)}; load both.")


def set_aside(
    name: str,
    events: pd.DataFrame,
    rows: int,
    times: Sequence[str],
    ranges: Mapping[str, tuple[float, float]] | None = None,
    most: float = SPOILT,
) -> tuple[pd.DataFrame, str]:
    """Return the events that can be, with times without a zone, and a note on the others.

    Parameters
    ----------
    name : str
        Of the table.
    events : DataFrame
        ``row`` and the columns of ``times`` and ``ranges``.
    rows : int
        Ids that there are: 0 to ``rows - 1``.
    times : sequence of str
        Each must be a time.
    ranges : mapping, optional
        Lowest and highest value of a column.
    most : float
        Share that may be set aside; a single row always may.

    Raises
    ------
    LoadRefused, ValueError
        If more cannot be, or a column is missing.
    """
    ranges = ranges or {}
    need_columns(events, ["row", *times, *ranges], name)
    events = typed(events, ["row", *ranges], times)
    sound = events["row"].between(0, rows - 1) & (events["row"] % 1 == 0)
    sound &= events[[*times]].notna().all(axis=1)
    for column, (low, high) in ranges.items():
        sound &= events[column].between(low, high)
    if sound.all():
        return events.astype({"row": int}), ""
    bad = int((~sound).sum())
    what = f"{bad:,} of {len(events):,} rows of {name} have no row, time or value that can be"
    if bad > max(1, most * len(events)):
        raise LoadRefused(f"{what}: a join or a load is wrong; load it again.")
    return events[sound].astype({"row": int}), f"{what}: left out."


def steady(name: str, now: float, past: float, times: float = 3.0, slack: float = 0.0) -> None:
    """Refuse a number that is far from what the same table shows of an earlier period.

    Parameters
    ----------
    name : str
    now, past : float
        Of periods of one length.
    times : float
        So many times as large or small is refused.
    slack : float
        By which small numbers may differ.

    Raises
    ------
    LoadRefused
    """
    if not now + past > 0:
        raise LoadRefused(f"{name}: none now and none before: the table is empty; load it again.")
    if now + slack < past / times:
        why = "the load is a part"
    elif now > past * times + slack:
        why = "a load ran twice, or a unit is another"
    else:
        return
    raise LoadRefused(f"{name}: {now:,.4g} now, {past:,.4g} is usual: {why}; load it again.")


def steady_weeks(name: str, counts: np.ndarray, last: int, times: float = 1.5) -> None:
    """Refuse counts of which one of the last four weeks is far from the eight before them.

    Parameters
    ----------
    name : str
    counts : ndarray, shape (rows, 12)
        By week.
    last : int
        Number of the last week.
    times : float
        As of :func:`steady`; for the share above zero and for the mean.
    """
    for what, by_week in (("share", (counts > 0).mean(axis=0)), ("mean", counts.mean(axis=0))):
        for k in range(8, 12):
            past = by_week[:8].mean()
            steady(f"{name} ({what}, week {last - 11 + k})", by_week[k], past, times)


def fresh(name: str, night: float, newest: float, days: float) -> None:
    """Refuse a night that the newest record lags behind.

    Parameters
    ----------
    name : str
    night, newest : float
        Days; ``newest`` not after the night.
    days : float
        That it may lag.

    Raises
    ------
    LoadRefused
    """
    if not night - newest <= days:
        raise LoadRefused(
            f"{name}: the newest is of day {newest:.1f}, tonight is day {night}: a clock is ahead, "
            "or the load is late."
        )
