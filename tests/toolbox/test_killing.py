"""Rules that stop a test, and rules of the split: how often on nothing, how often on a fault."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.killing import kill_day, kills, split_rules, watch
from casebook.evaluate.sequential import Paths


def test_the_one_per_cent_rule_alarms_on_small_tests_and_is_blind_on_large_ones():
    table = split_rules([1_000, 10_000_000]).set_index(["n", "rule"])
    rule, test = table.index[0][1], table.index[1][1]
    rng = np.random.default_rng(0)
    first = rng.binomial(1_000, 0.5, 20_000)
    assert table.loc[(1_000, rule), "alarms"] == pytest.approx(
        (abs(first - 500) > 5).mean(), abs=0.015
    )
    assert table.loc[(1_000, rule), "alarms"] > 0.7
    assert table.loc[(10_000_000, rule), "finds"] < 1e-6
    assert table.loc[(10_000_000, test), "finds"] > 0.999


def test_the_kill_holds_its_error_under_daily_looks_and_stops_a_real_loss():
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(2_000, 28))
    days = np.arange(1, 29)
    noise = np.cumsum(steps, axis=1) / days
    se = np.broadcast_to(0.25 / np.sqrt(days), noise.shape)
    rate = {}
    for loss in (0.0, 0.4):
        paths = Paths(0.25 * noise - loss, se)
        rate[loss] = {r: (kill_day(paths, r) >= 0).mean() for r in ("estimate", "harm", "beyond")}
    assert rate[0.0]["estimate"] > 0.6 and rate[0.0]["harm"] < 0.05 > rate[0.0]["beyond"]
    assert rate[0.4]["harm"] > 0.95
    assert watch(-0.01, 0.001) == watch(-0.1, 0.2) == "" and "-10.0 %" in watch(-0.1, 0.01)
    with pytest.raises(ValueError, match="count revenue"):
        watch(float("nan"), 0.1)
    with pytest.raises(ValueError, match="one of estimate"):
        kill_day(paths, "hope")


def test_of_tests_of_nothing_the_estimate_stops_many_and_the_test_of_harm_few():
    money = np.random.default_rng(2).lognormal(0, 1, (2_000, 14))
    found = kills(money, (0.0, 0.3), runs=200).set_index(["loss", "rule"])["stopped"]
    assert found[0.0, "estimate"] > 0.4 and found[0.0, "harm"] < 0.05
    assert found[0.3, "harm"] > 0.9
