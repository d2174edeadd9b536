"""Naive and classical forecasters, and weights of an ensemble."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting.classical import (
    KEYS,
    ets_with_errors,
    seasonal_naive_week,
    seasonal_naive_year,
)
from casebook.forecasting.ensemble import combine, learn_weights


def series(values, start: str, name: str = "A/1/x") -> pd.DataFrame:
    ds = pd.date_range(start, periods=len(values))
    return pd.DataFrame({"unique_id": name, "ds": ds, "y": np.asarray(values, float)})


def test_the_naive_week_repeats_the_last_week():
    train = series(range(1, 15), "2024-01-01")
    future = series([0] * 9, "2024-01-15")[KEYS]
    assert seasonal_naive_week(train, future).tolist() == [8, 9, 10, 11, 12, 13, 14, 8, 9]


def test_the_naive_week_of_a_new_route_is_the_mean_of_its_depot():
    train = pd.concat(
        [
            series([2] * 7, "2024-01-08", "A/1/x"),
            series([4] * 7, "2024-01-08", "A/1/y"),
            series([90] * 7, "2024-01-08", "A/2/x"),
            series([7], "2024-01-14", "A/1/new"),
        ]
    )
    future = series([0] * 7, "2024-01-15", "A/1/new")[KEYS]
    assert seasonal_naive_week(train, future).tolist() == [3] * 6 + [7]
    other = series([0], "2024-01-20", "A/1/unseen")[KEYS]
    assert seasonal_naive_week(train, other).tolist() == [3]
    assert seasonal_naive_week(train, other.assign(unique_id="B/1/x")).tolist() == [0]


def test_the_naive_year_is_52_weeks_back_or_last_week():
    train = series(range(400), "2023-01-01")
    future = series([0] * 28, "2024-02-05")[KEYS]
    assert seasonal_naive_year(train, future).tolist() == list(range(36, 64))
    short = train[train["ds"] >= "2023-06-01"]
    assert seasonal_naive_year(short, future)[:7].tolist() == list(range(393, 400))


def test_ets_of_quarters_comes_with_its_errors():
    rng, ds = np.random.default_rng(0), pd.date_range("2010-01-01", periods=48, freq="QS")
    season = np.tile([1.0, 1.5, 0.7, 0.8], 12)
    frame = pd.concat(
        pd.DataFrame({"unique_id": n, "ds": ds, "y": level * season + rng.normal(size=48)})
        for n, level in (("a", 100), ("b", 300))
    )
    train, future = frame[frame["ds"] < ds[40]], frame[frame["ds"] >= ds[40]]
    mixed = future.sample(frac=1, random_state=0)
    values, errors = ets_with_errors(train, mixed[KEYS], season=4, freq="QS")
    np.testing.assert_allclose(values, mixed["y"], rtol=0.1)
    assert errors.shape == (40, 2)
    assert (errors.abs().mean() < 5).all()


def test_learned_weights_find_the_better_model():
    rng = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=140)
    frame = pd.DataFrame({"unique_id": "a", "ds": days, "y": 100 + rng.normal(0, 10, 140)})
    frame = frame.assign(good=frame["y"] + rng.normal(0, 1, 140), bad=50.0)
    weights = learn_weights(frame, ["bad", "good"])
    assert weights["good"] > 0.95
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        combine(frame, weights), weights["good"] * frame["good"] + weights["bad"] * 50
    )
