"""Case 01: the oracle of all levels: its mean, its band, its median."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.demand_forecasting import oracle
from casebook.cases.demand_forecasting.oracle import (
    add_oracle,
    complete_oracle,
    oracle_paths,
    oracle_quantiles,
)
from casebook.cases.demand_forecasting.studies import TEST
from casebook.cases.demand_forecasting.world import BREAK_FIRST_DAY, DAYS, KEYS, simulate
from casebook.forecasting.bands import coverage
from casebook.forecasting.hierarchy import aggregate, from_ids


@pytest.fixture(scope="module")
def world():
    return simulate(3)


@pytest.fixture(scope="module")
def tree(world):
    return from_ids(world.routes["unique_id"], ["country", "depot", "route"])


def assert_mean_is_the_oracle(world, origin: pd.Timestamp) -> None:
    """Samples and formula must agree: both know the same, by different ways."""
    paths = oracle_paths(world, origin, n=1500)
    wide = complete_oracle(world, origin).pivot(index="ds", columns="unique_id", values="oracle")
    mean = paths.values.mean(axis=0)
    expected = wide[paths.routes].fillna(0).to_numpy()
    assert mean.sum() == pytest.approx(expected.sum(), rel=0.01)
    by_day = mean.sum(axis=1) / expected.sum(axis=1)
    np.testing.assert_allclose(by_day, 1, atol=0.02)


@pytest.mark.parametrize("origin", ["2024-03-11", BREAK_FIRST_DAY, "2022-05-20"])
def test_the_mean_of_the_samples_is_the_oracle(world, origin):
    assert_mean_is_the_oracle(world, pd.Timestamp(origin))


def test_an_oracle_that_forgets_the_shocks_is_found(monkeypatch, world):
    monkeypatch.setattr(oracle, "SHOCK_PHI", 0.0)
    with pytest.raises(AssertionError):
        assert_mean_is_the_oracle(world, pd.Timestamp("2024-03-11"))


def test_its_band_holds_and_its_median_lies_below_its_mean(world, tree):
    days = pd.date_range("2023-02-01", periods=12, freq="35D")
    rows = world.truth[["unique_id", "ds", "y"]]
    parts = []
    for day in days:
        true = oracle_quantiles(world, day, tree, (0.1, 0.5, 0.9), n=300)
        actual = aggregate(rows[rows["ds"].isin(true["ds"])], tree)
        parts.append(actual.merge(true.rename(columns={0.1: "low", 0.9: "high"})))
    table = coverage(pd.concat(parts)).set_index("level")["coverage"]
    # Whole parcels: a sparse route's band holds a little more than 80 %.
    assert 0.78 < table["route"] < 0.87 and table["depot"] == pytest.approx(0.8, abs=0.05)
    assert table["total"] == pytest.approx(0.8, abs=0.15)


def test_the_oracle_of_all_levels_is_complete_and_unbiased(world, tree):
    history = aggregate(world.truth, tree)
    ahead = [history[history["ds"].between(day, day + pd.Timedelta(days=27))] for day in TEST[-3:]]
    parts = [rows.assign(origin=day) for day, rows in zip(TEST[-3:], ahead, strict=True)]
    done = add_oracle(pd.concat(parts), world, tree)
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
