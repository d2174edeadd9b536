"""Intervals and the share of the gap, each against a library or a computation by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from casebook.evaluate import gap, intervals
from casebook.evaluate.gap import by_item, gap_closed, gaps
from casebook.evaluate.intervals import (
    bootstrap,
    by_cluster,
    cluster_counts,
    mean_interval,
    pigeonhole,
    rule_of_three,
    wilson,
)


@pytest.mark.parametrize("module", [intervals, gap], ids=lambda m: m.__name__)
def test_the_examples_of_the_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


def test_the_mean_interval_is_scipys_paired_t_interval():
    values = [0.01, 0.03, -0.01, 0.02]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values)[1:] == pytest.approx((expected.low, expected.high))


def test_a_mean_needs_two_measurements_and_none_missing():
    with pytest.raises(ValueError, match="at least two measurements, got 1"):
        mean_interval([0.1])
    with pytest.raises(ValueError, match="1 of 3 measurements are missing"):
        mean_interval([0.1, np.nan, 0.2])


def test_wilson_keeps_within_zero_and_one_and_is_missing_without_cases():
    share, low, high = wilson(np.ones(20, bool))
    assert (share, high) == (1, 1)
    assert low == pytest.approx(0.839, abs=1e-3)
    assert np.isnan(wilson([])).all()


def test_intervals_cover_what_they_say():
    """Over 1,000 redraws each 95 % interval holds the truth about as often as it says."""
    rng = np.random.default_rng(7)
    inside = {"t": 0, "wilson": 0, "bootstrap": 0}
    for n in range(1000):
        values, good = rng.normal(1, 1, 12), rng.random(80) < 0.3
        found = {
            "t": (mean_interval(values), 1.0),
            "wilson": (wilson(good), 0.3),
            "bootstrap": (bootstrap(rng.normal(1, 1, 60), draws=500, seed=n), 1.0),
        }
        for name, (interval, truth) in found.items():
            inside[name] += interval.low <= truth <= interval.high
    assert 930 <= inside["t"] <= 970
    assert 930 <= inside["wilson"] <= 980
    assert 900 <= inside["bootstrap"] <= 960  # percentile: slightly too narrow with 60 units


def test_the_bootstrap_repeats_by_seed_and_refuses_one_unit():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    with pytest.raises(ValueError, match="at least two units"):
        bootstrap([1])


def test_pigeonhole_is_wider_than_resampling_one_side_alone():
    """Rows share an effect, and so do columns: a bootstrap of one side misses the other."""
    rng = np.random.default_rng(3)
    gain = rng.normal(size=(60, 1)) + rng.normal(size=(1, 60)) + rng.normal(size=(60, 60)) / 10
    both = pigeonhole(gain, np.ones_like(gain))
    rows = bootstrap(gain.mean(axis=1), draws=2000)
    assert both.mean == pytest.approx(gain.mean())
    assert both.high - both.low > 1.2 * (rows.high - rows.low)


def test_rule_of_three():
    assert rule_of_three(300) == 0.01
    assert (1 - rule_of_three(300)) ** 300 == pytest.approx(0.05, abs=0.001)
    with pytest.raises(ValueError, match="No cases"):
        rule_of_three(0)


TABLE = pd.DataFrame(
    {
        "seed": [1, 1, 1, 2, 2, 2],
        "model": ["naive", "model", "oracle"] * 2,
        "cost": [10.0, 4.0, 2.0, 20.0, 20.0, 10.0],
    },
    index=[5, 6, 7, 8, 9, 10],
)


def test_gaps_are_computed_within_each_world():
    shares = gaps(TABLE, "naive", "oracle", "cost")
    assert shares.to_dict() == {5: 0, 6: 0.75, 7: 1, 8: 0, 9: 0, 10: 1}
    one = TABLE.set_index("model")["cost"][:3]
    assert shares[6] == gap_closed(one["naive"], one["model"], one["oracle"])


def test_a_gap_without_an_end_is_refused():
    with pytest.raises(ValueError, match=r"lacks \['best'\]"):
        gaps(TABLE, "naive", "best", "cost")


def test_by_item_gives_the_t_interval_over_worlds():
    table = TABLE.assign(gap=gaps(TABLE, "naive", "oracle", "cost"))
    found = by_item(table, "gap", item="model").set_index("model")
    assert tuple(found.loc["model"]) == pytest.approx(mean_interval([0.75, 0.0]))
    assert found.loc["oracle", "gap"] == 1


@pytest.mark.parametrize(
    ("baseline", "model", "oracle", "share"),
    [
        (0.30, 0.30, 0.10, 0),
        (0.30, 0.10, 0.10, 1),
        (0.30, 0.25, 0.10, 0.25),
        (0.30, 0.35, 0.10, -0.25),
        (0.60, 0.80, 0.90, 2 / 3),
    ],
    ids=["the baseline", "the oracle", "a quarter", "worse", "higher is better"],
)
def test_gap_closed_is_the_share_of_the_way_to_the_oracle(baseline, model, oracle, share):
    assert gap_closed(baseline, model, oracle) == pytest.approx(share)


def test_gap_closed_refuses_a_baseline_as_good_as_the_oracle():
    with pytest.raises(ValueError, match="no gap to close"):
        gap_closed(0.2, 0.1, 0.2)


def test_mean_interval_equals_the_hand_computed_t_interval():
    # mean 4, standard deviation 2, three values, t(0.975, 2) = 4.302653
    half = 4.302653 * 2 / np.sqrt(3)
    assert mean_interval([2, 4, 6]) == pytest.approx((4, 4 - half, 4 + half), rel=1e-6)


def test_mean_interval_of_equal_values_has_no_width():
    assert mean_interval([3.0, 3.0, 3.0]) == pytest.approx((3, 3, 3))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_mean_interval_refuses_fewer_than_two_values(values):
    with pytest.raises(ValueError, match=f"at least two measurements, got {len(values)}"):
        mean_interval(values)


# Clusters ------------------------------------------------------------------------------


def test_units_of_one_cluster_are_drawn_together():
    counts = cluster_counts(["a", "a", "b", "c"], draws=200)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 0] != counts[:, 2]).any()
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_clusters_cover_what_single_units_do_not():
    """Thirty topics of twenty questions that answer alike: the topics are what would be new."""
    rng, covered = np.random.default_rng(0), {"clusters": 0, "units": 0}
    for draw in range(60):
        level = np.repeat(rng.normal(0.5, 0.2, 30), 20)
        values, topics = level + rng.normal(0, 0.1, 600), np.repeat(np.arange(30), 20)
        wide = by_cluster(values, topics, draws=400, seed=draw)
        narrow = bootstrap(values, draws=400, seed=draw)
        covered["clusters"] += wide.low <= 0.5 <= wide.high
        covered["units"] += narrow.low <= 0.5 <= narrow.high
    assert covered["clusters"] >= 50 > 35 >= covered["units"]


def test_a_share_of_parts_weighs_each_unit_by_its_parts():
    found = by_cluster([1, 0, 3], ["a", "b", "c"], weights=[1, 2, 3])
    assert found.mean == pytest.approx(4 / 6) and 0 <= found.low < found.high <= 1


def test_clusters_that_are_missing_are_refused():
    with pytest.raises(ValueError, match="1 units have no cluster"):
        by_cluster([1.0, 2.0], ["a", None])
    with pytest.raises(ValueError, match="two are needed, there are 1"):
        by_cluster([1.0, 2.0], ["a", "a"])
