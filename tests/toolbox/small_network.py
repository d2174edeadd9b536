"""A small network of two countries, three routes and ten weeks, for tests of forecasts."""

from __future__ import annotations

import pandas as pd

DAY = pd.Timedelta(days=1)
NET = pd.DataFrame(
    {
        "unique_id": ["XX/A/r1", "XX/A/r2", "YY/B/r1"],
        "country": ["XX", "XX", "YY"],
        "depot": ["A", "A", "B"],
        "opens": pd.Timestamp("2024-01-01"),
        "closes": pd.NaT,
    }
)
NET_DAYS = pd.date_range("2024-01-01", periods=70)
#: The day after them.
TODAY = NET_DAYS[-1] + DAY


def sent(days: pd.DatetimeIndex = NET_DAYS) -> pd.DataFrame:
    """Return the small network's reports without a fault: 100 on Monday to 160 on Sunday."""
    frame = NET[["unique_id"]].merge(pd.Series(days, name="ds"), how="cross")
    frame["y"] = 100 + 10 * frame["ds"].dt.dayofweek
    return frame.assign(received=frame["ds"] + DAY)
