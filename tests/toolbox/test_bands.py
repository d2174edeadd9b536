"""Sample paths that add up, and what their bands cover."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting.bands import (
    bands,
    coverage,
    error_ratios,
    pinball,
    sample_paths,
)
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
