"""Case 01: sample paths that add up, their coverage, and the oracle's own distribution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.demand_forecasting import oracle
from casebook.cases.demand_forecasting.bands import (
    bands,
    coverage,
    error_ratios,
    pinball,
    sample_paths,
)
from casebook.cases.demand_forecasting.evaluation import complete_oracle
from casebook.cases.demand_forecasting.oracle import (
    add_median_oracle,
    oracle_paths,
    oracle_quantiles,
)
from casebook.cases.demand_forecasting.world import BREAK_FIRST_DAY, simulate
from casebook.forecasting.hierarchy import aggregate, from_ids, incoherence

IDS = [f"A/A{k}/r{j}" for k in range(3) for j in range(4)]
TREE = from_ids(IDS, ["country", "depot", "route"])
ORIGINS = pd.date_range("2024-01-01", periods=14, freq="28D")


def erring_together(seed: int = 0, shared: float = 0.2) -> pd.DataFrame:
    """Return all levels of forecasts whose errors share a part over all routes, day by day."""
    rng, parts = np.random.default_rng(seed), []
    for origin in ORIGINS:
        days = pd.date_range(origin, periods=28)
        size = np.exp(rng.normal(0, shared, (28, 1)) + rng.normal(0, 0.1, (28, len(IDS))))
        made = np.broadcast_to(np.geomspace(20, 500, len(IDS)), size.shape)
        index = pd.MultiIndex.from_product([days, IDS], names=["ds", "unique_id"])
        rows = pd.DataFrame({"y": (made * size).ravel(), "made": made.ravel()}, index=index)
        sums = aggregate(rows.reset_index(), TREE, ["y", "made"])
        parts.append(sums.assign(origin=origin))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def result() -> pd.DataFrame:
    return erring_together()


def assert_covers(result: pd.DataFrame, joint: bool) -> None:
    table = coverage(bands(result, "made", ORIGINS[4:], TREE, joint=joint)).set_index("level")
    assert table["coverage"].between(0.74, 0.86).all(), table


# Bands -------------------------------------------------------------------------------


def test_joint_paths_cover_every_level(result):
    assert_covers(result, joint=True)


def test_paths_that_lose_the_dependence_are_found(result):
    """Each route's own band is right, the band of the sum is far too narrow."""
    with pytest.raises(AssertionError):
        assert_covers(result, joint=False)
    table = coverage(bands(result, "made", ORIGINS[4:], TREE, joint=False)).set_index("level")
    assert table.loc["route", "coverage"] > 0.74 and table.loc["total", "coverage"] < 0.5
    assert table.loc["total", "pinball"] > 1.1 * pinball_of_joint(result)


def pinball_of_joint(result: pd.DataFrame) -> float:
    table = coverage(bands(result, "made", ORIGINS[4:], TREE)).set_index("level")
    return table.loc["total", "pinball"]


def test_every_path_adds_up_and_a_seed_gives_it_again(result):
    routes = result[result["level"] == "route"]
    paths = sample_paths(routes, "made", ORIGINS[5], n=7, seed=3)
    assert paths.values.shape == (7, 28, len(IDS)) and (paths.values >= 0).all()
    for path in paths.summed(TREE):
        assert incoherence(path.T, TREE.S) < 1e-6
    again = sample_paths(routes, "made", ORIGINS[5], n=7, seed=3).values
    np.testing.assert_array_equal(paths.values, again)


def test_a_band_rests_on_earlier_errors_alone(result):
    first = bands(result, "made", ORIGINS[4:5], TREE)
    later = result.assign(y=result["y"].where(result["ds"] < ORIGINS[4], 1e9))
    columns = ["unique_id", "ds", "low", "high"]
    pd.testing.assert_frame_equal(bands(later, "made", ORIGINS[4:5], TREE)[columns], first[columns])
    earlier = result.assign(y=10 * result["y"])
    assert (bands(earlier, "made", ORIGINS[4:5], TREE)["low"] > 5 * first["low"]).all()
    with pytest.raises(ValueError, match="no forecast from before 2024-01-01"):
        bands(result, "made", ORIGINS[:1], TREE)


def test_a_route_without_errors_takes_those_of_its_depot(result):
    routes = result[result["level"] == "route"]
    gone = routes[~((routes["unique_id"] == IDS[0]) & (routes["ds"] < ORIGINS[2]))]
    ratio = error_ratios(gone, "made", ORIGINS[3])
    depot = gone[gone["unique_id"].isin(IDS[1:4]) & (gone["ds"] < ORIGINS[2])]
    sums = depot.groupby("ds")[["y", "made"]].sum()
    np.testing.assert_allclose(ratio.loc[sums.index, IDS[0]], sums["y"] / sums["made"])
    new = routes[~((routes["unique_id"] == IDS[0]) & (routes["ds"] < ORIGINS[3]))]
    paths = sample_paths(new, "made", ORIGINS[3], n=50)
    assert np.isfinite(paths.values).all() and paths.values[:, :, 0].std() > 0


def test_coverage_and_pinball_by_hand():
    rows = pd.DataFrame({"level": "x", "y": [1.0, 5.0, 9.0, 10.0], "low": 2.0, "high": 9.0})
    table = coverage(rows).iloc[0]
    assert (table["days"], table["coverage"], table["width"]) == (4, 0.5, pytest.approx(28 / 25))
    by_hand = ((0.9 * 1 + 0.1 * (3 + 7 + 8)) + (0.1 * (8 + 4 + 0) + 0.9 * 1)) / 2 / 25
    assert table["pinball"] == pytest.approx(by_hand)


@pytest.mark.parametrize("share", [0.1, 0.5, 5 / 7])
def test_the_pinball_loss_is_least_at_its_quantile(share):
    y = np.random.default_rng(0).gamma(2, 10, 4001)
    guesses = np.quantile(y, np.linspace(0.02, 0.98, 97))
    best = guesses[np.argmin([pinball(y, guess, share).mean() for guess in guesses])]
    assert (y <= best).mean() == pytest.approx(share, abs=0.011)


# The oracle as a distribution --------------------------------------------------------


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


def test_the_median_is_added_for_every_row(world, tree):
    origin = pd.Timestamp("2024-03-11")
    rows = world.truth[world.truth["ds"].between(origin, origin + pd.Timedelta(days=27))]
    result = aggregate(rows, tree).assign(origin=origin)
    made = add_median_oracle(result, world, tree)
    assert len(made) == len(result) and made["oracle_median"].notna().all()
    mean = aggregate(complete_oracle(world, origin), tree, ["oracle"])
    both = made.merge(mean, on=["level", "unique_id", "ds"])
    assert both["oracle_median"].sum() < both["oracle"].sum()
