"""What is handed out: numbers in the right form, at a level that its places have had."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.demand_forecasting.world import KEYS
from casebook.forecasting.levels import ForecastRejected, check_level, check_values, clean_level

DAY = pd.Timedelta(days=1)


# A small network: two countries, three routes, ten weeks ---------------------------------------

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
TODAY = NET_DAYS[-1] + DAY


def sent(days: pd.DatetimeIndex = NET_DAYS) -> pd.DataFrame:
    """Return the small network's reports without a fault: 100 on Monday to 160 on Sunday."""
    frame = NET[["unique_id"]].merge(pd.Series(days, name="ds"), how="cross")
    frame["y"] = 100 + 10 * frame["ds"].dt.dayofweek
    return frame.assign(received=frame["ds"] + DAY)


# The fall-back --------------------------------------------------------------------------------


def ahead(n_days: int) -> pd.DataFrame:
    days = pd.Series(pd.date_range(TODAY, periods=n_days), name="ds")
    return NET[["unique_id"]].merge(days, how="cross")


def test_values_in_the_right_form_pass():
    future = ahead(2)
    assert check_values([0, 1, 2, 3, 4, 5.5], future).tolist() == [0, 1, 2, 3, 4, 5.5]


def test_the_level_is_that_of_clean_days_not_of_repaired_ones():
    panel, future = sent()[[*KEYS, "y"]].astype({"y": float}), ahead(28)
    spoilt = (panel["unique_id"] == "YY/B/r1") & (panel["ds"] >= TODAY - 28 * DAY)
    panel.loc[spoilt, "y"] = 10.0
    forecasts = future.assign(y_hat=120.0)
    with pytest.raises(ForecastRejected, match=r"YY/B is 12.00 times"):
        check_level(forecasts, panel, NET)
    check_level(forecasts, panel, NET, panel.loc[spoilt, KEYS].assign(fault="wrong unit"))


@pytest.mark.parametrize("fault", ["missing depot", "missing route"])
def test_the_level_is_not_that_of_filled_days(fault):
    panel = sent()[[*KEYS, "y"]].astype({"y": float})
    filled = (panel["unique_id"] == "YY/B/r1") & (panel["ds"] >= TODAY - 28 * DAY)
    panel.loc[filled, "y"] = 10.0
    level = clean_level(panel, panel.loc[filled, KEYS].assign(fault=fault))
    assert level["YY/B/r1"] == level["XX/A/r1"] == 130
