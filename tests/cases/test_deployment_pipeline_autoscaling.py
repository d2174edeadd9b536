"""Autoscaling: what a cold start does to each strategy, and the load it is tried on."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.deployment_pipeline.autoscaling import (
    Fleet,
    days,
    lunch_day,
    simulate,
    usual_day,
)
from casebook.cases.deployment_pipeline.world import CHAPTER
from casebook.recorded import bench


@cache
def lunch(strategy, seed=1):
    """Return the run of a strategy over a lunch."""
    return simulate(lunch_day(seed), strategy, seed=seed, hours=(11.5, 13))


def test_lunch_hurts_the_reactive_and_spares_those_who_know():
    assert lunch("cpu").summary["bad_minutes"] >= 1
    for name in ("scheduled", "predictive", "fixed 10"):
        assert lunch(name).summary["over_1s"] < 1e-4
    money = {n: lunch(n).summary["pod_hours"] for n in ("cpu", "predictive", "scheduled")}
    assert money["cpu"] < money["scheduled"] < 1.2 * money["cpu"]


def test_a_flash_crowd_finds_the_schedule_asleep():
    load = lunch_day(1, crowd=True)
    runs = {n: simulate(load, n, seed=1, hours=(14.5, 17.5)) for n in ("scheduled", "fixed 10")}
    assert runs["scheduled"].summary["over_1s"] > 0.005
    assert runs["fixed 10"].summary["over_1s"] == 0


def test_a_slow_rise_or_a_fast_start_needs_no_forecast():
    slow = simulate(lunch_day(1, ramp=20), "cpu", seed=1, hours=(11.5, 12.75))
    fast = simulate(lunch_day(1), "cpu", Fleet(cold=10), seed=1, hours=(11.5, 12.75))
    assert slow.summary["over_1s"] == fast.summary["over_1s"] == 0


def test_without_a_readiness_probe_requests_reach_pods_that_are_not_there():
    without = simulate(lunch_day(1), "cpu", Fleet(probe=False), seed=1, hours=(11.5, 12.75))
    assert without.summary["dropped"] > 10 * lunch("cpu").summary["dropped"] + 0.005


def test_the_parts_of_a_run_add_up():
    run, table = lunch("cpu"), lunch("cpu").timeline
    assert table["minute"].tolist() == list(range(690, 780))
    assert run.summary["requests"] == round(60 * table["load"].sum())
    hours = (table["ready"] + table["starting"]).sum() / 60
    assert run.summary["pod_hours"] == pytest.approx(hours, rel=0.02)
    assert run.summary["euros"] == pytest.approx(0.1 * run.summary["pod_hours"])
    again = simulate(lunch_day(1), "cpu", seed=1, hours=(11.5, 13))
    assert again.summary == run.summary


def test_days_differ_by_seed_and_the_crowd_is_all_that_differs_within_one():
    plain, crowd = lunch_day(3), lunch_day(3, crowd=True)
    assert (crowd - plain > 1).sum() == 12 and (crowd - plain).max() == pytest.approx(150)
    assert not np.allclose(plain, lunch_day(4))
    peak = [lunch_day(seed)[725:780].mean() / lunch_day(seed)[660:700].mean() for seed in range(5)]
    assert min(peak) > 2 and usual_day()[600] == pytest.approx(101, abs=4)


def test_the_table_has_a_row_for_each_day_and_strategy():
    table = days(seeds=(0,), strategies=("fixed 6", "cpu"), hours=(10, 10.2), afternoon=(15, 15.2))
    assert table[["day", "strategy"]].drop_duplicates().shape == (4, 2)


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of fixed 6"):
        simulate(np.ones(1440), "hope")


def test_one_day_is_the_recorded_one():
    stored = bench.recorded(CHAPTER, "days").frame
    live = days(seeds=(0,), strategies=("cpu",))
    own = stored.merge(live[["seed", "day", "strategy"]])
    pd.testing.assert_frame_equal(own, live, rtol=1e-3, check_dtype=False)
    assert stored.groupby(["day", "strategy"])["seed"].nunique().min() >= 15


def test_what_the_recorded_days_promise():
    stored = bench.recorded(CHAPTER, "days").frame
    lunch_, crowd = (
        stored[stored["day"] == d].groupby("strategy") for d in ("lunch", "flash crowd")
    )
    slow, hours = lunch_["over_1s"].mean(), lunch_["pod_hours"].mean()
    assert slow["scheduled"] < slow["cpu"] / 10 and slow["predictive"] < slow["cpu"] / 3
    assert hours["cpu"] < hours["scheduled"] < 1.1 * hours["cpu"] < hours["fixed 6"]
    assert stored["pod_hours"].max() == 240  # whole days
    missed = crowd["over_1s"].mean()
    assert missed[["cpu", "requests", "scheduled", "predictive"]].min() > 0.003 > missed["fixed 10"]
