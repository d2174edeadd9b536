"""Pods: the controller's rules one by one, and what a cold start does to each strategy."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from casebook.cases.deployment_pipeline.autoscaling import (
    Fleet,
    Strategy,
    days,
    lunch_day,
    queueing,
    simulate,
    usual_day,
)


def step(low, high, at=12.0):
    """Return a load that jumps at an hour."""
    return np.where(np.arange(1440) / 60 >= at, high, low).astype(float)


@cache
def lunch(strategy, seed=1):
    """Return the run of a strategy over a lunch."""
    return simulate(lunch_day(seed), strategy, seed=seed, hours=(11.5, 13))


def test_pods_come_a_cold_start_after_they_are_asked_for():
    for cold in (100, 400):
        fleet = Fleet(cold=cold)
        table = simulate(step(100, 180), "requests", fleet, hours=(11.9, 12.4)).timeline
        grown = table.loc[table["ready"] > 4, "minute"].iloc[0] - 720
        assert -0.7 <= grown - cold / 60 <= 1.5


def test_within_the_tolerance_nothing_happens():
    for load, pods in ((127, 4), (140, 5)):
        table = simulate(np.full(1440, float(load)), "requests", hours=(0, 0.5)).timeline
        assert table["ready"].iloc[-1] == pods


def test_a_cpu_is_never_busier_than_its_ceiling_and_requests_are():
    flood = step(100, 400)
    asked = {}
    for name in ("cpu", "requests"):
        table = simulate(flood, name, hours=(11.9, 12.1)).timeline
        asked[name] = (table["ready"] + table["starting"]).loc[table["minute"] == 720].iloc[0]
    assert asked["cpu"] <= 7 < asked["requests"]


def test_it_goes_down_only_after_five_quiet_minutes():
    load = np.where(np.abs(np.arange(1440) - 720) < 20, 240.0, 100.0)
    table = simulate(load, "requests", hours=(11.3, 12.8)).timeline.set_index("minute")
    assert table.loc[742, "ready"] >= 8 and table.loc[750, "ready"] == 4


def test_never_fewer_or_more_pods_than_the_fleet_has():
    for load in (0.0, 1_200.0):
        run = simulate(np.full(1440, load), "cpu", hours=(0, 0.15))
        assert run.timeline["ready"].between(4, 10).all()
        assert (run.timeline["ready"].iloc[-1] == 10) == (load > 0)
    assert run.summary["dropped"] > 0.5 and run.summary["over_1s"] > run.summary["dropped"]


def test_the_floor_is_there_by_the_clock_and_gone_afterwards():
    quiet = np.full(1440, 60.0)
    table = simulate(quiet, "scheduled", hours=(11.3, 13.8)).timeline.set_index("minute")
    assert table.loc[689, "ready"] == 4 and table.loc[693, "ready"] == 9
    assert table.loc[822, "ready"] == 4


def test_lunch_hurts_the_reactive_and_spares_those_who_know():
    assert lunch("cpu").summary["bad_minutes"] >= 1
    for name in ("scheduled", "predictive", "fixed 10"):
        assert lunch(name).summary["over_1s"] < 1e-4
    money = {n: lunch(n).summary["pod_hours"] for n in ("cpu", "predictive", "scheduled")}
    assert money["predictive"] < 1.1 * money["cpu"] < 0.95 * money["scheduled"]


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


def test_the_queues_agree_with_the_formulas():
    table = queueing(loads=(60, 120, 160), hours=0.7)
    assert np.allclose(table["simulated"], table["theory"], rtol=0.12, atol=5e-4)
    known = table.dropna(subset="p99_theory")
    assert np.allclose(known["p99"], known["p99_theory"], rtol=0.12)
    assert (known["shared"] < known["theory"] / 3).all()


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
    table = days(seeds=(0,), strategies=("fixed 4", "cpu"), hours=(10, 10.2))
    assert table[["day", "strategy"]].drop_duplicates().shape == (4, 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: simulate(np.ones(3), "cpu"), "1,440 numbers"),
        (lambda: simulate(np.full(1440, np.nan), "cpu"), "1,440 numbers"),
        (lambda: simulate(np.full(1440, 1e6), "cpu"), "1,440 numbers"),
        (lambda: simulate(np.ones(1440), "hope"), "one of fixed 4"),
        (lambda: Fleet(least=5, most=4), "sizes and times"),
        (lambda: Fleet(sync=7), "sizes and times"),
        (lambda: Strategy("none"), "fixed pods from 1"),
        (lambda: Strategy("memory"), "metric one of"),
    ],
)
def test_what_makes_no_sense_is_said(call, told):
    with pytest.raises(ValueError, match=told):
        call()
