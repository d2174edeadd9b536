"""What is handed out: numbers in the right form, at a level that its places have had."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_network import DAY, NET, TODAY, sent

from casebook.cases.demand_forecasting.world import DAYS, KEYS, simulate
from casebook.forecasting.classical import seasonal_naive_week
from casebook.forecasting.levels import (
    ForecastRejected,
    check_level,
    check_values,
    clean_level,
    hold_level,
)

# The fall-back --------------------------------------------------------------------------------


def ahead(n_days: int) -> pd.DataFrame:
    days = pd.Series(pd.date_range(TODAY, periods=n_days), name="ds")
    return NET[["unique_id"]].merge(days, how="cross")


#: Values for 84 rows that are no forecast, and what is said of them.
NO_FORECAST = {
    "missing": (lambda f: np.where(np.arange(84) < 3, np.nan, 1), "3 of 84 .* not finite, first"),
    "negative": (
        lambda f: np.append(np.ones(83), -1),
        "1 of 84 .* negative, first YY/B/r1",
    ),
    "too few": (lambda f: np.ones(3), r"forecasts of shape \(3,\) for 84 rows"),
    "reversed": (lambda f: pd.Series(1.0, f.index)[::-1], "in another order than the rows: keep"),
}


@pytest.mark.parametrize("fault", NO_FORECAST)
def test_what_is_no_number_for_each_row_is_refused(fault):
    make, says = NO_FORECAST[fault]
    with pytest.raises(ForecastRejected, match=says):
        check_values(make(ahead(28)), ahead(28))


@pytest.mark.parametrize(
    ("y_hat", "says"),
    [
        (lambda f: 1.2, "XX/A is 0.01 times its last 28 clean days, outside 0.25 to 4 .4 of 4 dep"),
        (lambda f: 120 * ~f["unique_id"].str.startswith("YY"), "YY/B is 0.00 times .* .2 of 4 dep"),
    ],
    ids=["hundreds", "one country"],
)
def test_a_level_that_no_place_had_is_refused(y_hat, says):
    forecasts = ahead(28).assign(y_hat=y_hat)
    with pytest.raises(ForecastRejected, match=says):
        check_level(forecasts, sent(), NET)
    check_level(forecasts.assign(y_hat=120.0), sent(), NET)


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


def test_a_route_without_history_counts_against_the_upper_end_alone():
    known, future = sent().query("unique_id != 'XX/A/r2'"), ahead(28)
    check_level(future.assign(y_hat=120.0), known, NET)
    absurd = np.where(future["unique_id"] == "XX/A/r2", 1e4, 120.0)
    with pytest.raises(ForecastRejected, match=r"the forecast for XX/A is 77\.85 times"):
        check_level(future.assign(y_hat=absurd), known, NET)


def test_a_depot_that_was_closed_for_a_week_is_held_and_a_whole_network_is_not():
    future, panel = ahead(28), sent()
    usual = 100.0 + 10 * future["ds"].dt.dayofweek
    closed = future["unique_id"].str.startswith("YY")
    week = panel["unique_id"].str.startswith("YY") & (panel["ds"] >= TODAY - 7 * DAY)
    panel["y"] = panel["y"].mask(week, 0)
    made, lines = hold_level(future.assign(y_hat=usual.mask(closed, 0)), panel, NET)
    np.testing.assert_allclose(made["y_hat"], usual.mask(closed, 0.75 * usual))
    (line,) = lines  # with its depot the country is back in its band
    assert line.startswith("held: the forecast for YY/B is 0.00 times its last 28 clean days")
    with pytest.raises(ForecastRejected, match="4 of 4 depots and countries"):
        hold_level(future.assign(y_hat=0.0), panel, NET)


def test_what_really_came_and_the_fallback_lie_in_the_bands_and_tens_do_not():
    """Over the seeds 2026 and 1 to 15 a country's ratio lay between 0.59 and 1.91."""
    world = simulate()
    truth, routes = world.truth.sort_values(KEYS), world.routes
    depot = truth["unique_id"].str.rpartition("/")[0]
    for day in pd.date_range("2021-03-01", DAYS[-1] - 27 * DAY, freq="126D"):
        ahead = truth[truth["ds"].between(day, day + 27 * DAY)]
        recent = truth[truth["ds"].between(day - 70 * DAY, day - DAY)]
        check_level(ahead.rename(columns={"y": "y_hat"}), recent, routes)
        check_level(ahead.assign(y_hat=seasonal_naive_week(recent, ahead)), recent, routes)
        for name in ("DE/DE2", "US/US1"):  # the country alone would hide it
            tens = ahead["y"].where(depot[ahead.index] != name, ahead["y"] / 10)
            with pytest.raises(ForecastRejected, match=f"the forecast for {name} is 0"):
                check_level(ahead.assign(y_hat=tens), recent, routes)
