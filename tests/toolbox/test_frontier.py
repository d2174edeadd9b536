"""Cost at equal friction: interpolated within a world, paired over worlds, never extrapolated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.frontier import at_equal, differences


def worlds(seeds=range(20), gap=5.0, noise=40.0) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for seed in seeds:
        level = rng.normal(0, noise)
        for family, own in (("ours", -gap), ("theirs", 0.0)):
            less = 0.7 if family == "ours" else 1.0  # stays further below each limit
            for friction in less * rng.uniform([0.001, 0.008, 0.025], [0.004, 0.012, 0.03]):
                rows.append((seed, family, friction, 200 - 3000 * friction + level + own))
    return pd.DataFrame(rows, columns=["seed", "family", "friction", "cost"])


def test_a_constant_advantage_is_found_whatever_friction_each_limit_led_to():
    table = worlds()
    found = differences(table, "ours", [0.005, 0.015], ["theirs"])
    assert found["difference"].to_numpy() == pytest.approx([-5, -5])
    assert (found["worlds"] == 20).all()
    # Means over the limits would say the opposite: the family that disturbs fewer looks dearer.
    mean = table.groupby("family")["cost"].mean()
    assert mean["ours"] - mean["theirs"] > 5


def test_the_line_runs_through_the_points_and_equal_frictions_are_averaged():
    table = pd.DataFrame(
        {"seed": 1, "family": "a", "friction": [0.02, 0.0, 0.02], "cost": [40.0, 100.0, 60.0]}
    )
    assert at_equal(table, 0.0).loc[1, "a"] == 100
    assert at_equal(table, 0.01).loc[1, "a"] == 75
    assert at_equal(table, 0.02).loc[1, "a"] == 50


def test_nothing_is_said_beyond_what_was_run():
    table = worlds(range(3))
    assert at_equal(table, 0.0001).isna().all(axis=None)
    with pytest.raises(ValueError, match=r"at a friction of 0\.5 only 0 worlds have both"):
        differences(table, "ours", [0.5], ["theirs"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="cost"), "cost"),
        (lambda t: t.assign(cost=np.nan), "not finite"),
        (lambda t: t.iloc[:0], "empty"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        at_equal(change(worlds(range(2))), 0.01)


def test_a_family_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no family .*nobody"):
        differences(worlds(range(2)), "ours", [0.01], ["nobody"])
