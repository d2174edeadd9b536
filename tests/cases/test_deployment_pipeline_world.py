"""Case 21: the promises of its world, and of what is built on it."""

# To write: a test for each mechanism and each planted fault of your own world.

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.deployment_pipeline.system import audit, forecasts, repair
from casebook.cases.deployment_pipeline.world import (
    CHAPTER,
    DAYS,
    SHOPS,
    WEEKDAYS,
    simulate,
    snapshots,
)
from casebook.data import snapshot
from casebook.project import data_dir

KEYS = ["shop", "ds"]
SEEDS = [2026, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_world_and_another_gives_another():
    first, again, other = simulate(1), simulate(1), simulate(2)
    assert_frame_equal(first.observed, again.observed)
    assert not np.isclose(first.truth["expected"], other.truth["expected"]).any()


def test_the_committed_snapshots_are_what_the_world_makes():
    made = snapshots()
    assert made.keys() == {path.name for path in (data_dir() / CHAPTER).glob("*.parquet")}
    for name, frame in made.items():
        assert_frame_equal(snapshot(CHAPTER, name), frame, rtol=1e-9, atol=0, check_dtype=False)


def test_what_a_model_sees_holds_no_truth():
    assert list(simulate().observed.columns) == ["shop", "ds", "y"]


def test_the_weekday_profile_has_mean_one():
    assert np.mean(WEEKDAYS) == pytest.approx(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_orders_scatter_around_their_expectation_as_poisson_does(seed):
    world = simulate(seed)
    rows = repair(world.observed).merge(world.truth, on=KEYS)
    z = (rows["y"] - rows["expected"]) / np.sqrt(rows["expected"])
    assert len(rows) == len(SHOPS) * len(DAYS)
    assert abs(z.mean()) < 0.15
    assert z.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_audit_finds_exactly_the_planted_duplicates(seed):
    world = simulate(seed)
    assert_frame_equal(audit(world.observed), world.faults)
    assert audit(repair(world.observed)).empty


def test_a_forecast_does_not_see_the_week_before_its_day():
    orders = repair(simulate().observed)
    later = orders["ds"] > DAYS[-8]
    changed = forecasts(orders.assign(y=orders["y"].where(~later, 0)), days=7)
    assert_frame_equal(changed.drop(columns="y"), forecasts(orders, days=7).drop(columns="y"))


def test_too_few_days_are_refused():
    orders = repair(simulate().observed)
    with pytest.raises(ValueError, match="140 days are too few to forecast 113"):
        forecasts(orders, days=113)
    assert forecasts(orders, days=112)["ds"].min() == pd.Timestamp(DAYS[28])
