"""The canary: its arithmetic is that of drawn canaries, and one function decides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import canary
from casebook.cases.deployment_pipeline.canary import BASE, Counts, Watch, decide
from casebook.cases.deployment_pipeline.world import CHAPTER
from casebook.evaluate import two_shares
from casebook.recorded import bench


def share_stopped(rate, rule, runs=1_500, looks=180, per_look=2_000.0, seed=5, repeats=1):
    """Return how often a rule rolls back in half an hour at 200 requests a second."""
    counts = canary.paths(rate, runs, looks, per_look, canary.SHARE, seed, repeats)
    return (canary.stops(counts, rule) >= 0).mean()


def test_the_samples_that_the_page_states():
    assert two_shares.sample(0.001, 0.002).first == 18_519
    sizes = [
        two_shares.sample(0.001, 0.002, 0.05, variance=v).first for v in ("pooled", "unpooled")
    ]
    assert sizes == [8_603, 12_666]
    assert two_shares.exact_sample(0.001, 0.002, 0.05).first == 10_200


def test_the_table_agrees_with_its_simulation_where_the_normal_sum_does():
    table = canary.samples(runs=3_000).set_index(["design", "test"])
    exact = table.xs("exact", level="test")
    assert (exact["simulated"] - exact["power"]).abs().max() < 0.025
    assert (exact["false_alarms"] < 0.055).all()
    lopsided = table.loc["5 % against 95 %"]
    assert lopsided.loc["pooled", "false_alarms"] > lopsided.loc["unpooled", "false_alarms"] + 0.02
    fresh = table.loc[("5 % against a fresh 5 %", "pooled")]
    assert fresh["total"] == 10 * table.loc[("half and half", "pooled"), "total"]


def test_half_an_hour_sees_a_doubling_at_a_hundred_requests_a_second_and_not_at_thirty():
    table = canary.half_hour().set_index("rate")
    assert table.loc[30, "power"] < 0.4 < 0.74 < table.loc[100, "power"] < table.loc[200, "power"]
    assert table["smallest"].is_monotonic_decreasing and table["minutes"].is_monotonic_decreasing
    assert table.loc[200, "canary"] == 18_000 and table.loc[10, "ratio"] > 5


def test_a_look_at_any_time_keeps_the_level_and_other_rules_do_not():
    assert share_stopped(BASE, "sequential") < 0.05
    assert share_stopped(BASE, "fixed") < 0.07
    assert share_stopped(BASE, "peeking") > 0.15 and share_stopped(BASE, "naive") > 0.3


def test_the_planned_sample_finds_a_doubling_in_four_of_five_canaries():
    planned = Watch().planned
    found = share_stopped(2 * BASE, "sequential", 3_000, planned // 100)
    assert 0.77 < found < 0.85


def test_a_crash_is_stopped_after_a_few_dozen_requests():
    counts = canary.paths(0.5, 300, 60, 100.0, canary.SHARE, 1)  # a look each half second
    at = canary.stops(counts, "sequential")
    assert (at >= 0).all() and np.median(counts.canary[np.arange(300), at]) < 40


def test_repeated_bad_answers_of_one_client_break_the_promise():
    assert share_stopped(BASE, "sequential", 500, repeats=5) > 0.2


def test_the_characteristic_is_made_of_the_function_that_decides():
    counts = canary.paths(0.003, 20, 60, 2_000.0, canary.SHARE, 4)
    at = canary.stops(counts, "sequential")
    for run in range(20):
        looks = (Counts(*(int(column[run, k]) for column in counts)) for k in range(60))
        said = [decide(one).action for one in looks]
        first = said.index("rollback") if "rollback" in said else -1
        assert first == at[run]


def test_the_characteristic_rises_with_the_rate_and_costs_fewer_requests():
    table = canary.characteristic((0.001, 0.002, 0.01), runs=300)
    own = table[table["rule"] == "sequential"].set_index("ratio")
    assert own["rollback"].is_monotonic_increasing and own["requests"].is_monotonic_decreasing
    assert own.loc[10, "rollback"] == 1 and own.loc[10, "requests"] < 800
    assert (table["low"] <= table["rollback"]).all() and (table["rollback"] <= table["high"]).all()


@pytest.mark.parametrize(
    ("counts", "action", "told"),
    [
        (Counts(0, 0, 0, 0), "wait", "16,500 are planned"),
        (Counts(2, 2, 40, 0), "rollback", "100.00% of 2"),
        (Counts(16_499, 16, 310_000, 310), "wait", "planned"),
        (Counts(16_500, 16, 310_000, 310), "promote", "evidence"),
        (Counts(17_000, 1_700, 300_000, 30_000), "wait", "both are ill"),
        (Counts(17_000, 200, 300_000, 3_400), "wait", "both are ill"),  # 1.1 %
        (Counts(17_000, 60, 300_000, 300), "rollback", "0.35%"),
        (Counts(17_000, 0, 300_000, 900), "promote", "0.00%"),
    ],
)
def test_what_is_decided(counts, action, told):
    verdict = decide(counts)
    assert verdict.action == action and told in verdict.reason
    assert (verdict.evidence >= verdict.limit) == (action == "rollback")


def test_an_outage_of_both_pools_rolls_nothing_back():
    rng = np.random.default_rng(2)
    for _ in range(200):
        n = np.array([500, 9_500])
        ill = rng.binomial(n, 0.4)
        assert decide(Counts(500, ill[0], 9_500, ill[1])).action == "wait"


def test_stages_share_a_level():
    counts = Counts(1_000, 6, 19_000, 19)
    assert decide(counts, Watch(level=0.05)).action == "rollback"
    assert decide(counts, Watch(level=0.05 / 100)).action == "wait"


@pytest.mark.parametrize(
    "counts",
    [(-1, 0, 5, 0), (5, 6, 5, 0), (5, 0, 5, 6), (5, float("nan"), 5, 0), (float("inf"), 0, 5, 0)],
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="count requests"):
        decide(Counts(*counts))


@pytest.mark.parametrize("bad", [{"planned": 0}, {"level": 0}, {"ratios": (1.0,)}, {"ceiling": 2}])
def test_a_watch_that_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="planned from 1"):
        Watch(**bad)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="naive, fixed, peeking, sequential"):
        canary.stops(canary.paths(0.1, 2, 2, 10, 0.5, 0), "gut feeling")


def test_what_is_recorded_is_what_runs_today():
    for name, live, keys in (
        ("characteristic", canary.characteristic((0.001,)), ["rule", "error_rate"]),
        ("half_hour", canary.half_hour((100,)), ["rate"]),
    ):
        stored = bench.recorded(CHAPTER, name).frame.merge(live[keys])
        pd.testing.assert_frame_equal(stored, live, rtol=1e-3, check_dtype=False)


def test_what_the_recorded_tables_promise():
    table = bench.recorded(CHAPTER, "characteristic").frame.set_index(["rule", "ratio"])
    assert table.loc[("sequential", 1), "high"] < 0.05 < table.loc[("peeking", 1), "low"]
    assert table.loc[("sequential", 2), "low"] > 0.8
    assert table.loc[("sequential", 2), "requests"] < 0.6 * table.loc[("fixed", 2), "requests"]
