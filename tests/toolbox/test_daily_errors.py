"""Errors by day and country of what many runs had forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.serving.monitor import daily_errors

KEYS = ["unique_id", "ds"]
DAY = pd.Timedelta(days=1)
NET = pd.DataFrame({"unique_id": ["XX/A/r1", "XX/A/r2", "YY/B/r1"], "country": ["XX", "XX", "YY"]})
NET_DAYS = pd.date_range("2024-01-01", periods=70)
CALENDAR = pd.DataFrame({"country": ["XX"], "ds": [pd.Timestamp("2020-01-01")]})
TODAY = NET_DAYS[-1] + DAY


def sent() -> pd.DataFrame:
    frame = NET[["unique_id"]].merge(pd.Series(NET_DAYS, name="ds"), how="cross")
    return frame.assign(y=100 + 10 * frame["ds"].dt.dayofweek)


# Errors by day --------------------------------------------------------------------------------


def forecast_log(**columns) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    return frame.assign(origin=pd.to_datetime(frame["origin"]), ds=pd.to_datetime(frame["ds"]))


def test_a_days_error_pools_the_runs_that_had_forecast_it():
    forecasts = forecast_log(
        origin=["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-01", "2024-01-02", "2024-01-02"],
        unique_id=["XX/A/r1", "XX/A/r2", "XX/A/r1", "YY/B/r1", "XX/A/r2", "YY/B/r1"],
        ds=["2024-01-02"] * 6,
        y_hat=[90.0, 130.0, 140.0, 50.0, 100.0, 110.0],
    )
    panel = sent()[[*KEYS, "y"]].assign(y=100.0)
    errors = daily_errors(forecasts, panel, NET, CALENDAR)
    assert errors.index.tolist() == [pd.Timestamp("2024-01-02")]
    # XX: the runs say 220 and 240 for 200 parcels; errors within a country may cancel.
    assert errors.loc["2024-01-02"].to_dict() == {"XX": (20 + 40) / 400, "YY": (50 + 10) / 200}
    first_only = daily_errors(forecasts, panel, NET, CALENDAR, leads=1)
    assert first_only.loc["2024-01-02"].to_dict() == {"XX": 0.2, "YY": 0.1}


def test_holidays_and_days_without_a_forecast_have_no_error():
    forecasts = forecast_log(
        origin=["2024-01-01"] * 2, unique_id=["XX/A/r1"] * 2, ds=["2024-01-01", "2024-01-03"],
        y_hat=[90.0, 90.0],
    )  # fmt: skip
    calendar = pd.DataFrame({"country": ["XX", "YY"], "ds": pd.to_datetime(["2024-01-03"] * 2)})
    errors = daily_errors(forecasts, sent()[[*KEYS, "y"]], NET, calendar)["XX"]
    assert errors.isna().tolist() == [False, True, True]
    with pytest.raises(ValueError, match="no parcels are known yet for forecasts of 1 to 7 days"):
        daily_errors(forecasts.assign(ds=TODAY + DAY), sent()[[*KEYS, "y"]], NET, calendar)


def test_a_holiday_of_one_country_masks_that_country_alone():
    forecasts = forecast_log(
        origin=["2024-01-01"] * 2, unique_id=["XX/A/r1", "YY/B/r1"], ds=["2024-01-03"] * 2,
        y_hat=[90.0, 90.0],
    )  # fmt: skip
    calendar = pd.DataFrame(
        {"country": ["XX", "YY"], "ds": pd.to_datetime(["2024-01-03", "2024-05-01"])}
    )
    errors = daily_errors(forecasts, sent()[[*KEYS, "y"]], NET, calendar).loc["2024-01-03"]
    assert errors.isna().to_dict() == {"XX": True, "YY": False}


def test_a_country_without_any_of_the_parcels_that_were_forecast_has_an_infinite_error():
    days = NET_DAYS[:3].repeat(2)
    forecasts = forecast_log(
        origin=days, unique_id=["XX/A/r1", "YY/B/r1"] * 3, ds=days, y_hat=[90.0, 0.0] * 3
    )
    panel = sent()[[*KEYS, "y"]].assign(y=0.0)
    errors = daily_errors(forecasts, panel, NET, CALENDAR)
    assert (errors["XX"] == np.inf).all()
    assert errors["YY"].isna().all()  # none came and none were forecast
