"""Case 01: the walk-forward at all levels, its scores and intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.demand_forecasting.direct import lightgbm_direct
from casebook.cases.demand_forecasting.evaluation import add_oracle, complete_oracle
from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.forecasters import lightgbm_recursive, with_cold_start
from casebook.cases.demand_forecasting.world import DAYS, simulate
from casebook.evaluate.gap import gaps
from casebook.forecasting.classical import (
    seasonal_naive_week,
    seasonal_naive_year,
)
from casebook.forecasting.hierarchy import aggregate, from_ids
from casebook.forecasting.scores import heatmap, score
from casebook.forecasting.walk import (
    add_reconciled,
    planning_origins,
    walk_forward,
)

KEYS = ["unique_id", "ds"]
LEVELS = ["total", "country", "depot", "route"]
FEW = {"n_estimators": 20}
FORECASTERS = {
    "week": seasonal_naive_week,
    "year": seasonal_naive_year,
    "direct": with_cold_start(lambda a, b: lightgbm_direct(a, b, parameters=FEW)),
    "recursive": with_cold_start(lambda a, b: lightgbm_recursive(a, b, parameters=FEW)),
}


@pytest.fixture(scope="module")
def world():
    return simulate(3)


@pytest.fixture(scope="module")
def panel(world) -> pd.DataFrame:
    """Return the last two years of the panel: openings and closings included."""
    rows = world.truth.loc[world.truth["ds"] >= DAYS[-730], [*KEYS, "y"]].astype({"y": float})
    return add_known(rows, world.routes, world.calendar, world.promotions)


@pytest.fixture(scope="module")
def tree(world):
    return from_ids(world.routes["unique_id"], ("country", "depot", "route"))


@pytest.fixture(scope="module")
def history(panel, tree) -> pd.DataFrame:
    return aggregate(panel, tree)


@pytest.fixture(scope="module")
def result(panel, tree) -> pd.DataFrame:
    """Return base forecasts of three origins."""
    shown = {name: FORECASTERS[name] for name in ("week", "direct")}
    return walk_forward(panel, tree, shown, planning_origins(DAYS[-1], 3))


# Walk-forward ------------------------------------------------------------------------


def test_the_test_origins_cover_the_last_168_days_and_follow_the_validation():
    test = planning_origins(DAYS[-1])
    assert (test[0], test[-1]) == (pd.Timestamp("2024-01-15"), pd.Timestamp("2024-06-03"))
    assert np.unique(np.diff(test)).tolist() == [pd.Timedelta(days=28)]
    assert planning_origins(DAYS[-1], 4, skip=6)[-1] + pd.Timedelta(days=28) == test[0]


@pytest.mark.parametrize("name", FORECASTERS)
def test_what_happens_from_the_origin_on_changes_no_forecast(panel, tree, name):
    origins = planning_origins(DAYS[-1], 1)
    later = panel["ds"] >= origins[0]
    other = panel.assign(y=panel["y"].where(~later, 7 * panel["y"] + 1000))
    one, two = (
        walk_forward(frame, tree, {"model": FORECASTERS[name]}, origins)
        for frame in (panel, other.sample(frac=1, random_state=0))
    )
    both = one.merge(two, on=["level", *KEYS], suffixes=("", "_other"))
    assert len(both) == len(one)
    np.testing.assert_allclose(both["model"], both["model_other"], rtol=1e-9)
    assert (both["y"] < both["y_other"]).all()


# The oracle --------------------------------------------------------------------------


def test_the_oracle_of_all_levels_is_complete_and_unbiased(world, tree, result):
    done = add_oracle(result, world, tree)
    assert done["oracle"].notna().all()
    sums = done.groupby("level")[["y", "oracle"]].sum()
    assert sums["oracle"].nunique() == 1 or np.ptp(sums["oracle"]) < 1e-3
    assert (np.abs(sums["oracle"] / sums["y"] - 1) < 0.1).all()


def test_a_route_that_opens_takes_the_state_of_its_depot(world):
    opens = world.routes.loc[world.routes["opens"] > DAYS[-120], ["unique_id", "depot", "opens"]]
    name, depot, day = opens.iloc[0]
    origin = day - pd.Timedelta(days=5)
    full = complete_oracle(world, origin, 28).merge(world.truth, on=KEYS)
    full["state"] = full["oracle"] / full["base"]
    same = full[full["unique_id"].str.contains(f"/{depot}/")]
    assert name in set(same["unique_id"])
    assert (same.groupby("ds")["state"].agg(np.ptp) < 1e-9).all()


def test_the_model_closes_most_of_the_gap_at_every_level(world, tree, result, history):
    done, _ = add_reconciled(result, tree, "direct", planning_origins(DAYS[-1], 2), ["bottom_up"])
    done = add_oracle(done, world, tree)
    scores = score(done, history, ["week", "direct", "direct_bottom_up", "oracle"], ["level"])
    shares = gaps(scores, "week", "oracle", "WAPE", within="level")
    gap = shares[scores["model"] == "direct_bottom_up"].set_axis(
        scores.loc[scores["model"] == "direct_bottom_up", "level"]
    )
    assert sorted(gap.index) == sorted(LEVELS)
    assert (gap > 0.4).all()
    table = heatmap(scores, "WAPE", LEVELS)
    assert table.index.tolist() == LEVELS
    assert table.columns.tolist() == ["week", "direct", "direct_bottom_up", "oracle"]
    assert (table["oracle"] < table["week"]).all()
    row = table.loc["depot"]
    expected = (row["week"] - row["direct_bottom_up"]) / (row["week"] - row["oracle"])
    assert gap["depot"] == pytest.approx(expected)
