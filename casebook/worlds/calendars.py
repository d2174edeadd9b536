"""Days that a shop in Germany knows ahead.

Examples
--------
>>> days = pd.date_range("2024-12-23", periods=12)
>>> marks = shop_days(days)
>>> [f"{day:%d}" for day in days[marks["closed"]]], [f"{day:%d}" for day in days[marks["eve"]]]
(['25', '26', '01'], ['24', '31'])
>>> [f"{day:%d}" for day in days[marks["payday"]]]
['31', '01', '02']
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def shop_days(days: pd.DatetimeIndex) -> dict[str, np.ndarray]:
    """Return marks of days: ``closed``, the day before and after (``eve``, ``after``), ``payday``.

    Paydays are the last working day of a month and the two days after it; the first of ``days`` has
    no day before it that is known. An array of bool for each.
    """
    import holidays

    more = days.union([days[-1] + pd.Timedelta(days=1)])
    known = holidays.Germany(years=range(more[0].year, more[-1].year + 1))
    closed = np.array([day in known for day in more])
    eve, after = closed[1:] & ~closed[:-1], np.roll(closed, 1)[:-1] & ~closed[:-1]
    after[0] = False
    ends = pd.offsets.BMonthEnd()
    paid = pd.Series([ends.rollforward(day) == day for day in days])
    payday = paid | paid.shift(1, fill_value=False) | paid.shift(2, fill_value=False)
    return {"closed": closed[:-1], "eve": eve, "after": after, "payday": payday.to_numpy()}
